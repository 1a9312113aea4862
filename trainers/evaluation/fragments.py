"""Windows on the store from when they are made until their part of the features is joined.

    URL/fragments/ATTEMPT/000000064-000000066-000003.parquet   FRAGMENT_SCHEMA

Whoever makes features writes them, so that they pass no other process. A fragment's name has the first video of the
range that its windows are of, and the video and step + 1 of its first window. Each attempt at an extraction has a
folder of its own: what an earlier one has left of a range is never mixed with what a later one makes of it.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines import store
from adaptfocus.pipelines.columns import list_column, rows_as_lists
from adaptfocus.pipelines.errors import InputError, StorageError
from adaptfocus.pipelines.features import store as feature_store
from adaptfocus.pipelines.features.store import COUNTED, VideoFeatures
from adaptfocus.pipelines.index.load import read_light_rows
from adaptfocus.pipelines.store.tables import read_table, write_table
from adaptfocus.pipelines.stream.batches import BAD_VIDEO, decode_text
from adaptfocus.pipelines.stream.windows import WindowShape

FRAGMENT_SCHEMA = pa.schema(
    [
        ("video_row", pa.int64()),
        ("step", pa.int64()),  # BAD_VIDEO: the row says why its video has no features
        ("center_seconds", pa.float64()),
        *((name, pa.int64()) for name in COUNTED),
        ("kind", pa.string()),
        ("error", pa.string()),
        ("shape", pa.list_(pa.int64())),  # of one window's features
        ("features", pa.list_(pa.float32())),
    ]
)
_NOTHING = FRAGMENT_SCHEMA.empty_table()
_STEPS_SCHEMA = pa.schema([FRAGMENT_SCHEMA.field(name) for name in ("video_row", "step")])

MAX_ROWS = 1 << 20  # of a fragment: far more than a batch of windows has

Columns = Mapping[str, np.ndarray]  # those of a WindowBatch, with "features" [B, ...] instead of "frames"


class Made(NamedTuple):
    """The windows of one video in one fragment: all that passes from whoever makes features to whoever counts them."""

    video_row: int  # row in the index
    windows: int
    is_bad: bool  # the video is refused
    fragment: str  # its path in the folder of fragments


class Complete(NamedTuple):
    """A part whose videos are all done, and the fragments that have them."""

    number: int
    fragments: tuple[str, ...]


@dataclass(frozen=True)
class FeatureParts:
    """Where the windows of an extraction are written and joined. Any process may do it, and twice."""

    url: str
    index_url: str
    fingerprint: str
    shape: WindowShape
    split: str | None
    weights: str  # in words
    starts: np.ndarray  # int64 [P + 1]: the first video of each part, and the number of videos
    range_starts: np.ndarray  # int64 [R]: the first video of each range
    excluded: Mapping[int, str]  # row -> why the video is not tried
    attempt: str

    def rows(self, number: int) -> range:
        """The videos of a part."""
        return range(*self.starts[number : number + 2].tolist())

    def part_of(self, row: int) -> int:
        return int(np.searchsorted(self.starts, row, side="right")) - 1

    def write(self, columns: Columns) -> list[Made]:
        """Write some windows.

        Raises:
            InputError: features are not finite. This is a fault of the weights, not of a video.
        """
        self._check_finite(columns)
        made = []
        of_range = np.searchsorted(self.range_starts, columns["video_row"], side="right") - 1
        for number in np.unique(of_range).tolist():
            own = {name: values[of_range == number] for name, values in columns.items()}
            video, step = int(own["video_row"][0]), int(own["step"][0])
            name = f"{self.attempt}/{int(self.range_starts[number]):09d}-{video:09d}-{step + 1:06d}.parquet"
            write_table(_table(own), store.join(self.url, "fragments", name))
            made += _made(name, own["video_row"], own["step"])
        return made

    def join(self, part: Complete) -> int:
        """Write a part of its fragments, and remove these -> the number of the part.

        Raises:
            RuntimeError: windows of a video are missing.
        """
        place = feature_store.part_urls(self.url, part_name(part.number))[0]
        urls = [store.join(self.url, "fragments", name) for name in part.fragments]
        if not store.exists(place):
            try:
                windows = pa.concat_tables(
                    [FRAGMENT_SCHEMA.empty_table(), *(read_table(u, FRAGMENT_SCHEMA) for u in urls)]
                )
            except StorageError:
                if store.exists(place):  # another command has joined it meanwhile
                    return part.number
                raise
            feature_store.write_part(self.url, part_name(part.number), *self._joined(part.number, windows))
        for url in urls:
            store.delete(url)
        return part.number

    def left_over(self) -> dict[int, list[list[Made]]]:
        """What earlier attempts have left, by the first video of a range: the windows of each attempt."""
        found: dict[int, list[list[Made]]] = defaultdict(list)
        for folder in store.list_folders(store.join(self.url, "fragments")):
            by_range: dict[int, list[Made]] = defaultdict(list)
            for url in store.list_files(folder):
                name = posixpath.join(*url.split("/")[-2:])
                by_range[int(posixpath.basename(name).split("-")[0])] += _made(name, *_steps_in(url))
            for first, made in by_range.items():
                found[first].append(made)
        return found

    def forget_fragments(self) -> None:
        """Remove what attempts have left: everything is in parts."""
        for folder in store.list_folders(store.join(self.url, "fragments")):
            for url in store.list_files(folder):
                store.delete(url)

    def _joined(self, number: int, windows: pa.Table) -> tuple[list, list]:
        """(videos with their counts, refused rows) of a part, as `write_part` takes them."""
        rows, steps = windows["video_row"].to_numpy(), windows["step"].to_numpy()
        order = np.lexsort((steps, rows))
        rows, steps = rows[order], steps[order]
        features = list_column(windows, "features").values
        features = features.reshape(len(rows), -1)[order] if len(rows) else features
        shape = windows["shape"][0].as_py() if len(rows) else []
        counted = {name: windows[name].to_numpy()[order] for name in (*COUNTED, "center_seconds")}
        videos, refused = [], []
        part = self.rows(number)
        table = read_light_rows(self.index_url, part.start, part.stop, self.fingerprint).to_pylist()
        for row, video in zip(part, table, strict=True):
            first, end = np.searchsorted(rows, [row, row + 1]).tolist()
            why = self._refused(row, windows, order[first:end], steps[first:end])
            if why:
                place = {name: video[name] for name in ("shard_url", "member_name", "video_id")}
                refused.append(place | {"kind": why[0], "message": why[1], "video_row": row})
                continue
            wanted = self.shape.steps(video["duration_seconds"])
            if not np.array_equal(steps[first:end], np.arange(wanted)):
                raise RuntimeError(
                    f"{end - first} of {wanted} windows of {video['video_id']!r} came back from extraction"
                )
            whole = VideoFeatures(
                video["video_id"], row, self.split, tuple(video["labels"]), video["duration_seconds"],
                counted["center_seconds"][first:end], features[first:end].reshape(-1, *shape),
            )  # fmt: skip
            videos.append((whole, {name: int(counted[name][first:end].sum()) for name in COUNTED}))
        return videos, refused

    def _refused(self, row: int, windows: pa.Table, places: np.ndarray, steps: np.ndarray) -> tuple[str, str] | None:
        """(kind, message) of a video without features."""
        if row in self.excluded:
            return "quarantined", self.excluded[row]
        if not len(steps) or steps[0] != BAD_VIDEO:
            return None
        return windows["kind"][int(places[0])].as_py(), windows["error"][int(places[0])].as_py()

    def _check_finite(self, columns: Columns) -> None:
        finite = np.isfinite(columns["features"].reshape(len(columns["video_row"]), -1)).all(axis=1)
        if finite.all():
            return
        row = int(columns["video_row"][finite.argmin()])
        video = read_light_rows(self.index_url, row, row + 1, self.fingerprint)["video_id"][0]
        raise InputError(
            f"the features of video {video.as_py()!r} are not finite: the weights ({self.weights}) have grown without "
            "bound. Use the end of an earlier epoch (--epoch), or train again with a lower optim.learning_rate. No "
            "part with this video was written"
        )


def part_name(number: int) -> str:
    return f"{number:06d}"


def _made(fragment: str, rows: np.ndarray, steps: np.ndarray) -> list[Made]:
    """What a fragment has, video by video."""
    of_video = {row: steps[rows == row] for row in np.unique(rows).tolist()}
    return [
        Made(row, int((own != BAD_VIDEO).sum()), bool((own == BAD_VIDEO).any()), fragment)
        for row, own in of_video.items()
    ]


def _steps_in(url: str) -> tuple[np.ndarray, np.ndarray]:
    """(video, step) of each window of a fragment; none if another command has joined and removed it meanwhile."""
    try:
        table = read_table(url, _STEPS_SCHEMA, 0, MAX_ROWS)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            table = _STEPS_SCHEMA.empty_table()
        else:
            raise
    return table["video_row"].to_numpy(), table["step"].to_numpy()


def _table(columns: Columns) -> pa.Table:
    features = np.ascontiguousarray(columns["features"])
    texts = {name: [decode_text(each) for each in columns[name]] for name in ("kind", "error")}
    shapes = np.tile(np.array(features.shape[1:], np.int64), (len(features), 1))
    arrays = {
        **{name: pa.array(columns[name]) for name in ("video_row", "step", "center_seconds", *COUNTED)},
        **{name: pa.array(values, pa.string()) for name, values in texts.items()},
        "shape": rows_as_lists(shapes),
        "features": rows_as_lists(features.reshape(len(features), -1)),
    }
    return pa.table([arrays[name] for name in FRAGMENT_SCHEMA.names], schema=FRAGMENT_SCHEMA)
