"""Features of whole videos in the object store, one row for each video, with their settings.

A folder belongs to one set of features. It has ``URL/extraction.json`` (the settings, written first),
``URL/parts/*.parquet``, ``URL/refused/*.parquet``, and ``URL/features.json``, written last: until then the features are
not complete. A part is written completely or not at all.

Step i of a video is the window around the middle of [i, i + 1) x `stride_seconds`: its time is (i + 0.5) x
`stride_seconds` from the first frame shown. The last step is different: its time is the middle of the rest of the
video. The row's `center_seconds` has the time of every step.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.over import Over, in_this_process
from adaptfocus.pipelines.schemas import REFUSED_SCHEMA
from adaptfocus.pipelines.settings import differences
from adaptfocus.pipelines.store import strict_json
from adaptfocus.pipelines.store.range_file import RangeFile
from adaptfocus.pipelines.store.tables import open_parquet, read_here, read_table

SCHEMA_VERSION = 1
ALIGNMENT = "(i + 0.5) * stride_seconds from the first frame shown; the last step is the middle of what is left"
READ_THREADS = 8
PARTS_AT_ONCE = 256  # whose facts are in memory: of 16,384 videos

# One row for each video, one row group for each row: a single video is one range to read.
FEATURES_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("video_row", pa.int64()),  # in the index
        ("split", pa.string()),  # null if none was given
        ("labels", pa.list_(pa.string())),  # the video's tags
        ("duration_seconds", pa.float64()),
        ("center_seconds", pa.list_(pa.float64())),  # [T], the middle of each step's window
        ("shape", pa.list_(pa.int64())),  # [T, D], or [T, H, W, C] of maps
        ("features", pa.list_(pa.float32())),  # row by row
        # The video's cost. A frame or packet counts once, whatever number of windows shows it.
        ("packets_decoded", pa.int64()),
        ("frames_converted", pa.int64()),
        ("read_bytes", pa.int64()),
    ]
)
FACTS = [name for name in FEATURES_SCHEMA.names if name not in ("center_seconds", "features")]
COUNTED = ("packets_decoded", "frames_converted", "read_bytes")
REFUSED_FEATURES_SCHEMA = pa.schema([*REFUSED_SCHEMA, pa.field("video_row", pa.int64())])


@dataclass(frozen=True)
class VideoFeatures:
    """One video's features along time."""

    video_id: str
    video_row: int
    split: str | None
    labels: tuple[str, ...]
    duration_seconds: float
    center_seconds: np.ndarray  # float64 [T]
    features: np.ndarray  # float32 [T, D], or [T, H, W, C]

    def __post_init__(self) -> None:
        if self.features.dtype != np.float32 or len(self.features) != len(self.center_seconds):
            raise ValueError(
                f"{self.video_id}: features must be float32 with one row a step: {self.features.dtype} "
                f"{self.features.shape}, {len(self.center_seconds)} steps"
            )


def claim(url: str, settings: Mapping[str, Any]) -> None:
    """Claim the folder for these features; does nothing if it already belongs to them.

    Raises:
        ConfigError: it has features with other settings; the message says which differ.
        InputError: its content is damaged, or of a newer version.
    """
    wanted = json.loads(json.dumps({"schema_version": SCHEMA_VERSION, **settings}))
    place = store.join(url, "extraction.json")
    if store.create_exclusive(place, json.dumps(wanted, indent=1).encode()):
        return
    there = _json(place)
    # The places of a run, an index or weights may change; hashes identify their content.
    changed = differences(_identity(there), _identity(wanted))
    if changed:
        listed = ", ".join(f"{key}: {old!r} -> {new!r}" for key, (old, new) in changed.items())
        raise ConfigError(
            f"{url} has features with other settings ({listed}); choose another folder, or give the same settings"
        )


def _identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in ("run", "index", "weights")}


def part_urls(url: str, name: str) -> tuple[str, str]:
    """URLs of a part's features and of its refused rows."""
    return store.join(url, "parts", f"{name}.parquet"), store.join(url, "refused", f"{name}.parquet")


def parts_there(url: str) -> set[str]:
    """Names of the complete parts."""
    return {posixpath.basename(each).removesuffix(".parquet") for each in store.list_files(store.join(url, "parts"))}


def write_part(
    url: str, name: str, videos: Sequence[tuple[VideoFeatures, Mapping[str, int]]], refused: Sequence[Mapping[str, Any]]
) -> None:
    """Write a part: first its refused rows, then its features. The part counts once these are written.

    Args:
        videos: each video with its cost (COUNTED).
        refused: rows of REFUSED_FEATURES_SCHEMA.
    """
    rows = [
        [
            each.video_id, each.video_row, each.split, list(each.labels), each.duration_seconds, each.center_seconds,
            list(each.features.shape), each.features.reshape(-1), *(counts[name] for name in COUNTED),
        ]
        for each, counts in videos
    ]  # fmt: skip
    columns = zip(*rows, strict=True) if rows else ([] for _ in FEATURES_SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(map(list, columns), FEATURES_SCHEMA, strict=True)]
    features_url, refused_url = part_urls(url, name)
    store.write_bytes(
        refused_url, _parquet(pa.Table.from_pylist([*map(dict, refused)], schema=REFUSED_FEATURES_SCHEMA), 1024)
    )
    store.write_bytes(features_url, _parquet(pa.table(arrays, schema=FEATURES_SCHEMA), 1))


def _parquet(table: pa.Table, row_group_size: int) -> bytes:
    """Parquet without dictionaries of floats: no two are equal, and building one takes longer than writing them."""
    sink = pa.BufferOutputStream()
    plain: Any = [field.name for field in table.schema if pa.types.is_string(field.type)]
    pq.write_table(table, sink, compression="zstd", row_group_size=row_group_size, use_dictionary=plain)
    return sink.getvalue().to_pybytes()


class Sums(NamedTuple):
    """What some parts have."""

    videos: int
    steps: int
    feature_shape: list[int] | None  # of a step; None without videos
    refused: dict[str, int]  # kind -> number of videos
    counted: dict[str, int]  # COUNTED
    id_hashes: np.ndarray  # uint64 [videos]


def finish(url: str, parts: Sequence[str], over: Over = in_this_process) -> dict[str, Any]:
    """Write features.json once all parts exist -> its content.

    Args:
        over: what adds up PARTS_AT_ONCE parts at a time. Nobody holds the facts of all videos.

    Raises:
        InputError: a part is missing, or a video is in two of them.
    """
    there = parts_there(url)
    missing = [name for name in parts if name not in there]
    if missing:
        raise InputError(f"{url}: {len(missing)} of {len(parts)} parts are missing: {missing[:3]}; extract again")
    groups = [parts[first : first + PARTS_AT_ONCE] for first in range(0, len(parts), PARTS_AT_ONCE)]
    sums = [*over(groups, partial(sum_up, url))]
    hashes = np.concatenate([np.zeros(0, np.uint64), *(each.id_hashes for each in sums)])
    twice = len(hashes) - len(np.unique(hashes))
    if twice:
        raise InputError(f"{url}: {twice} videos are in its parts twice; extract into a new folder")
    refused: Counter[str] = Counter()
    for each in sums:
        refused.update(each.refused)
    content = _json(store.join(url, "extraction.json")) | {
        "feature_shape": next((each.feature_shape for each in sums if each.feature_shape), None),
        "videos": len(hashes),
        "steps": sum(each.steps for each in sums),
        "refused": dict(refused),
        **{name: sum(each.counted[name] for each in sums) for name in COUNTED},
        "parts": list(parts),
    }
    store.write_bytes(store.join(url, "features.json"), json.dumps(content, indent=1).encode())
    return content


def sum_up(url: str, parts: Sequence[str]) -> Sums:
    """Add up what some parts have."""
    facts = pa.concat_tables(_read(url, parts, ["video_id", "shape", *COUNTED], 0))
    refused = pa.concat_tables(_read(url, parts, ["kind"], 1))
    shapes = facts["shape"].to_pylist()
    hashes = [hashlib.blake2b(each.encode(), digest_size=8).digest() for each in facts["video_id"].to_pylist()]
    return Sums(
        len(hashes),
        sum(shape[0] for shape in shapes),
        shapes[0][1:] if shapes else None,
        {each["values"]: each["counts"] for each in refused["kind"].value_counts().to_pylist()},
        {name: sum(facts[name].to_pylist()) for name in COUNTED},
        np.frombuffer(b"".join(hashes), np.uint64),
    )


def open_features(url: str) -> FeatureSet:
    """A complete feature set.

    Raises:
        InputError: it does not exist, is not complete, or another version wrote it.
        StorageError: it cannot be read.
    """
    place = store.join(url, "features.json")
    if not store.exists(place):
        if store.exists(store.join(url, "extraction.json")):
            raise InputError(
                f"the features at {url} are not complete ({len(parts_there(url))} parts, and no "
                "features.json); give the command of `adaptfocus extract` again to resume"
            )
        store.list_files(url)  # raises if the bucket does not exist
        raise InputError(f"there are no features at {url} (no features.json); make them with `adaptfocus extract`")
    return FeatureSet(url, _json(place))


@dataclass(frozen=True)
class FeatureSet:
    """Features of the videos of an index, read on demand."""

    url: str
    facts: Mapping[str, Any]  # the content of features.json

    @property
    def kind(self) -> str:
        """``pooled`` (one vector a step) or ``maps``."""
        return self.facts["kind"]

    @property
    def dim(self) -> int:
        """Numbers in a vector; for maps, the number of channels."""
        return self.facts["feature_shape"][-1]

    @property
    def stride_seconds(self) -> float:
        return self.facts["stride_seconds"]

    @property
    def video_ids(self) -> list[str]:
        """The ids of the videos, in the order of the index."""
        return [*self._places]

    def __len__(self) -> int:
        return len(self._places)

    def video(self, video_id: str) -> VideoFeatures:
        """The features of one video, by two small range reads and one of its bytes.

        Raises:
            InputError: the set does not have the video.
        """
        if video_id not in self._places:
            raise InputError(f"{self.url} has no features of {video_id!r}; if it was tried, refused/ says why")
        name, row = self._places[video_id]
        return _video(read_table(part_urls(self.url, name)[0], FEATURES_SCHEMA, row, row + 1), 0)

    def __iter__(self) -> Iterator[VideoFeatures]:
        """All videos, in the order of the index, one part in memory at a time."""
        for name in self.facts["parts"]:
            table = read_table(part_urls(self.url, name)[0], FEATURES_SCHEMA)
            yield from (_video(table, row) for row in range(table.num_rows))

    def refused(self) -> list[dict[str, Any]]:
        """Rows of REFUSED_FEATURES_SCHEMA: the videos without features, and why."""
        return [row for table in _read(self.url, self.facts["parts"], None, 1) for row in table.to_pylist()]

    def described(self) -> pa.Table:
        """The columns FACTS of all videos: all except the features and their times."""
        return pa.concat_tables(_read(self.url, self.facts["parts"], FACTS, 0))

    @cached_property
    def _places(self) -> dict[str, tuple[str, int]]:
        """id -> (part, row in it)."""
        names = self.facts["parts"]
        tables = _read(self.url, names, ["video_id"], 0)
        return {
            video_id: (name, row)
            for name, table in zip(names, tables, strict=True)
            for row, video_id in enumerate(table["video_id"].to_pylist())
        }


def _read(url: str, names: Sequence[str], columns: list[str] | None, which: int) -> list[pa.Table]:
    """Some columns of each part's features (0) or refused rows (1)."""
    schema = (FEATURES_SCHEMA, REFUSED_FEATURES_SCHEMA)[which]
    schema = pa.schema([schema.field(name) for name in columns or schema.names])
    with ThreadPoolExecutor(READ_THREADS) as threads:
        tables = list(threads.map(lambda name: _some_columns(part_urls(url, name)[which], schema), names))
    return tables or [schema.empty_table()]


def _some_columns(url: str, schema: pa.Schema) -> pa.Table:
    size_bytes, _ = store.size_and_tag(url)
    try:
        with open_parquet(RangeFile(url, 0, size_bytes, block_bytes=64 * 1024)) as part:
            return read_here(part, schema.names).select(schema.names).cast(schema)
    except (pa.ArrowInvalid, KeyError) as error:
        raise InputError(f"{url} is not a part of features ({error}); remove it and extract again") from None


def _video(table: pa.Table, row: int) -> VideoFeatures:
    def values(name: str) -> np.ndarray:
        # A copy, so that it can be written to and does not keep the whole part in memory.
        return table[name][row].values.to_numpy(zero_copy_only=False).copy()

    return VideoFeatures(
        table["video_id"][row].as_py(),
        table["video_row"][row].as_py(),
        table["split"][row].as_py(),
        tuple(table["labels"][row].as_py()),
        table["duration_seconds"][row].as_py(),
        values("center_seconds"),
        values("features").reshape(values("shape")),
    )


def _json(url: str) -> dict[str, Any]:
    return strict_json.read_versioned(url, SCHEMA_VERSION, "remove the folder and extract again")
