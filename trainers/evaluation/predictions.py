"""The probabilities that an evaluation gives, written in parts of consecutive videos by whoever predicts them.

    RUN/evaluations/NAME/predictions/part-00000.parquet   PREDICTIONS_SCHEMA, of 128 videos
    RUN/evaluations/NAME/working/ranked-00000.f8          what ranks these videos, by class
    RUN/evaluations/NAME/working/moments-00000.f4         what ranks their views, by class, if their truth is known

Files by class hold numbers only, so that a class is one range of each. They are removed with the last score. Earlier
versions wrote one file, `predictions.parquet`. It can still be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines import store
from adaptfocus.pipelines.columns import rows_as_lists
from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.plan.published import PlanFacts, read_drawn
from adaptfocus.pipelines.schemas import PLAN_SCHEMA, clip_id
from adaptfocus.pipelines.store.tables import read_table, write_table
from adaptfocus.trainers.metrics.video import max_and_mean_over_views
from adaptfocus.trainers.runs.log import Run

PREDICTIONS_SCHEMA = pa.schema(
    [
        ("slot", pa.int64()),
        ("video_id", pa.string()),
        ("ok", pa.bool_()),
        # These lists have an entry for each clip: all crops of the first view, then those of the next.
        ("center_seconds", pa.list_(pa.float64())),
        ("crop_place", pa.list_(pa.float32())),  # along the long side: -1 left or top, 0 middle, 1 right or bottom
        ("probability", pa.list_(pa.float32())),  # [clips x classes], row by row
    ]
)
VIDEOS_PER_PART = 128  # 1.6 MB with 20 views and 157 classes
READ_AT_ONCE = 256  # parts, of which the same classes are read
_DRAWN_SCHEMA = pa.schema([PLAN_SCHEMA.field(name) for name in ("slot", "video_id", "clips")])

# (slot, ok, probabilities [checkpoints, views x crops, classes]) of a video; a slot is its row in the index
Prediction = tuple[int, bool, np.ndarray]


class Block(NamedTuple):
    """What some checkpoints say of the videos of one part."""

    slots: np.ndarray  # int64 [n], consecutive
    ok: np.ndarray  # bool [n]: the video's views were decoded
    probability: np.ndarray  # float32 [n, checkpoints, views x crops, classes]


class Written(NamedTuple):
    """A part that is on the store."""

    videos: int
    undecodable: int  # of these


def in_parts(found: Iterable[Prediction], videos: int, size: int) -> Iterator[Block]:
    """Predictions of each video once, in any order -> blocks of `size` videos, each when its last one has come.

    Raises:
        RuntimeError: a video is missing, or came back twice.
    """
    waiting: dict[int, dict[int, tuple[bool, np.ndarray]]] = {}
    count, seen = 0, np.zeros(videos, bool)
    for slot, is_ok, own in found:
        count += 1
        if seen[slot]:
            raise RuntimeError(f"video {slot} of {videos} videos came back from prediction twice")
        seen[slot] = True
        part = waiting.setdefault(slot // size, {})
        part[slot] = is_ok, own
        first = slot // size * size
        if len(part) == min(size, videos - first):
            slots = np.arange(first, first + len(part))
            ok, probability = zip(*(part[each] for each in slots.tolist()), strict=True)
            del waiting[slot // size]
            yield Block(slots, np.array(ok), np.stack(probability))
    if count != videos:
        raise RuntimeError(f"{count} of {videos} videos came back from prediction")


@dataclass(frozen=True)
class PartWriter:
    """Writes a part of the predictions of some checkpoints. Any process may do it, and twice."""

    run_url: str
    plan: PlanFacts
    commits: tuple[tuple[str, int], ...]  # name of the evaluation and number of the checkpoint
    views: int
    crops: int
    decode: DecodeConfig
    has_moments: bool  # the truth of every view is known
    videos_per_part: int

    @property
    def parts(self) -> int:
        return -(-self.plan.num_bags // self.videos_per_part)

    def size(self, number: int) -> int:
        """The number of videos of a part."""
        return min(self.videos_per_part, self.plan.num_bags - number * self.videos_per_part)

    def __call__(self, block: Block) -> Written:
        """Write a part.

        Raises:
            InputError: probabilities are not finite.
            RuntimeError: the block is not a part.
        """
        number, size = int(block.slots[0]) // self.videos_per_part, len(block.slots)
        first = number * self.videos_per_part
        if size != self.size(number) or (block.slots != np.arange(first, first + size)).any():
            raise RuntimeError(f"slots {block.slots[:3].tolist()} ... ({size} of them) are not part {number}")
        videos = self._videos(first, first + size, block.ok)
        for at, (name, checkpoint) in enumerate(self.commits):
            probability = np.ascontiguousarray(block.probability[:, at])
            self._check_finite(probability, checkpoint, first)
            column = rows_as_lists(probability.reshape(size, -1))
            table = pa.Table.from_arrays([*videos, column], schema=PREDICTIONS_SCHEMA)
            write_table(table, _part_url(Run(self.run_url), name, number))
            self._write_by_class(name, number, np.where(block.ok[:, None, None], probability, -np.inf))
        return Written(size, int((~block.ok).sum()))

    def _videos(self, first: int, end: int, ok: np.ndarray) -> list[pa.Array]:
        drawn = pa.concat_tables([read_drawn(url, _DRAWN_SCHEMA, *rows) for url, *rows in self.plan.slices(first, end)])
        slots, clips = drawn["slot"].to_pylist(), drawn["clips"].combine_chunks().flatten()
        centers = clips.field("center_seconds").to_numpy().reshape(len(slots), -1)
        places = [[self.decode.place_of(n, clip_id(0, slot, n)) for n in range(centers.shape[1])] for slot in slots]
        names = drawn["video_id"].combine_chunks()
        return [
            pa.array(slots),
            names,
            pa.array(ok),
            rows_as_lists(centers),
            rows_as_lists(np.array(places, np.float32)),
        ]

    def _check_finite(self, probability: np.ndarray, checkpoint: int, first: int) -> None:
        is_finite = np.isfinite(probability).all(axis=(1, 2))
        if not is_finite.all():
            raise InputError(
                f"the scores of checkpoint {checkpoint} of {self.run_url} are not finite (video "
                f"{first + int(is_finite.argmin())} of the index): its weights have grown without bound. Evaluate the "
                "end of an earlier epoch (--epoch), or train again with a lower optim.learning_rate"
            )

    def _write_by_class(self, name: str, number: int, scores: np.ndarray) -> None:
        """Write what ranks videos and views, of scores float32 [n, views x crops, K]: minus infinity ranks last."""
        ranked = np.stack(max_and_mean_over_views(scores))  # [2, n, K]
        store.write_bytes(self.by_class_url(name, "ranked", number), _bytes(ranked.transpose(2, 0, 1)))
        if self.has_moments:
            at_once = scores.reshape(len(scores), self.views, self.crops, -1)
            at_once = at_once[:, :, 0] if self.crops == 1 else at_once.max(axis=2)  # over the crops of a time
            store.write_bytes(self.by_class_url(name, "moments", number), _bytes(at_once.transpose(2, 0, 1)))

    def by_class_url(self, name: str, what: str, number: int) -> str:
        kind = {"ranked": "f8", "moments": "f4"}[what]
        return store.join(self.run_url, "evaluations", name, "working", f"{what}-{number:05d}.{kind}")

    def read_ranked(self, name: str, classes: range) -> np.ndarray:
        """The largest and the mean probability of each video, of some classes: float64 [classes, 2, V]."""
        found = np.empty((len(classes), 2, self.plan.num_bags), np.float64)
        for first, values in self._read(name, "ranked", classes, np.dtype("<f8"), 2):
            own = values.reshape(len(classes), 2, -1)
            found[..., first : first + own.shape[-1]] = own
        return found

    def read_moments(self, name: str, classes: range) -> np.ndarray:
        """The probability of each view of each video, of some classes: float32 [classes, V, views]."""
        found = np.empty((len(classes), self.plan.num_bags, self.views), np.float32)
        for first, values in self._read(name, "moments", classes, np.dtype("<f4"), self.views):
            own = values.reshape(len(classes), -1, self.views)
            found[:, first : first + own.shape[1]] = own
        return found

    def _read(
        self, name: str, what: str, classes: range, kind: np.dtype, numbers: int
    ) -> Iterator[tuple[int, np.ndarray]]:
        """(first slot, numbers of some classes) of each part; a class has `numbers` a video."""
        for begin in range(0, self.parts, READ_AT_ONCE):
            parts = range(begin, min(begin + READ_AT_ONCE, self.parts))
            widths = [self.size(number) * numbers * kind.itemsize for number in parts]  # of a class, in bytes
            urls = [self.by_class_url(name, what, number) for number in parts]
            offsets, sizes = [width * classes.start for width in widths], [width * len(classes) for width in widths]
            for number, data in zip(parts, store.read_ranges(urls, offsets, sizes), strict=True):
                yield number * self.videos_per_part, np.frombuffer(data, kind)


def read(run: Run, name: str, videos: int, columns: Sequence[str] = PREDICTIONS_SCHEMA.names) -> Iterator[pa.Table]:
    """Some columns of the saved predictions of so many videos, in parts.

    Raises:
        InputError, StorageError: a part is damaged, missing, or of another number of videos.
    """
    schema = pa.schema([PREDICTIONS_SCHEMA.field(each) for each in columns])
    old = run.at("evaluations", name, "predictions.parquet")
    if store.exists(old):
        yield read_table(old, schema)
        return
    for number, first in enumerate(range(0, videos, VIDEOS_PER_PART)):
        url, expected = _part_url(run, name, number), min(VIDEOS_PER_PART, videos - first)
        table = read_table(url, schema, 0, expected)
        if table.num_rows != expected:
            raise InputError(
                f"{url} has {table.num_rows} videos where the scores are of {expected}: it is of another evaluation; "
                "evaluate again with --overwrite"
            )
        yield table


def forget(run: Run, name: str) -> None:
    """Remove all predictions of an evaluation, in parts or as an earlier version saved them."""
    old = run.at("evaluations", name, "predictions.parquet")
    for url in [old] * store.exists(old) + store.list_files(run.at("evaluations", name, "predictions")):
        store.delete(url)
    forget_working(run, name)


def forget_working(run: Run, name: str) -> None:
    """Remove what is only needed until the scores are there."""
    for url in store.list_files(run.at("evaluations", name, "working")):
        store.delete(url)


def _bytes(numbers: np.ndarray) -> bytes:
    return np.ascontiguousarray(numbers, numbers.dtype.newbyteorder("<")).tobytes()


def _part_url(run: Run, name: str, number: int) -> str:
    return run.at("evaluations", name, "predictions", f"part-{number:05d}.parquet")
