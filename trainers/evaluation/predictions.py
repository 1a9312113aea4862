"""The probabilities that an evaluation gives: in memory as one array, saved in parts.

    RUN/evaluations/NAME/predictions/part-00000.parquet   PREDICTIONS_SCHEMA, of 128 videos

Earlier versions wrote one file, `predictions.parquet`. It can still be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines import store
from adaptfocus.pipelines.columns import rows_as_lists
from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.settings import ClipConfig
from adaptfocus.pipelines.plan.views import view_centers_seconds
from adaptfocus.pipelines.schemas import clip_id
from adaptfocus.pipelines.store.tables import read_table, write_table
from adaptfocus.trainers.diagnosis.true_moments import TrueMoments
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

# (slot, ok, probabilities [checkpoints, views x crops, classes]) of a video; a slot is its row in the index
Prediction = tuple[int, bool, np.ndarray]


@dataclass(frozen=True)
class Predictions:
    """What some checkpoints say of all videos of an index."""

    ok: np.ndarray  # [V] bool: the video's views were decoded
    probability: np.ndarray  # [checkpoints, V, views x crops, classes] float32

    @classmethod
    def gather(cls, found: Iterable[Prediction], videos: int) -> Predictions:
        """Predictions of each video once, in any order.

        Raises:
            RuntimeError: a video is missing, or came back twice.
        """
        seen, ok = np.zeros(videos, np.int64), np.zeros(videos, bool)
        probability = np.zeros((0, videos, 0, 0), np.float32)
        for slot, is_ok, own in found:
            if not probability.size:
                probability = np.zeros((len(own), videos, *own.shape[1:]), np.float32)
            seen[slot] += 1
            ok[slot], probability[:, slot] = is_ok, own
        if not (seen == 1).all():
            raise RuntimeError(f"{int(seen.sum())} of {videos} videos came back from prediction, or some of them twice")
        return cls(ok, probability)


def view_centers(planner: Planner, clip: ClipConfig, views: int) -> np.ndarray:
    """The middle of each view of each video, in seconds: float64 [V, N]."""
    return view_centers_seconds(planner, np.arange(planner.table.num_rows), clip, views)


def truth_at(planner: Planner, centers_seconds: np.ndarray) -> np.ndarray | None:
    """Which classes each moment [V, N] shows, bool [V, N, K]; None unless every video has intervals."""
    moments = TrueMoments.of(planner)
    if not moments.is_known.all():
        return None
    truth = np.zeros((*centers_seconds.shape, len(planner.classes)), bool)
    row, label = moments.pairs
    truth[row, :, label] = moments.show(row, label, centers_seconds[row])
    return truth


def save(
    run: Run,
    name: str,
    planner: Planner,
    centers_seconds: np.ndarray,
    crops: int,
    decode: DecodeConfig,
    ok: np.ndarray,
    probability: np.ndarray,
) -> None:
    """Save the probabilities [V, N x crops, K] of one checkpoint, part by part."""
    video_id, clips = planner.table.column("video_id").to_pylist(), probability.shape[1]
    for number, first in enumerate(range(0, len(ok), VIDEOS_PER_PART)):
        slots = np.arange(first, min(first + VIDEOS_PER_PART, len(ok)))
        places = [[decode.place_of(n, clip_id(0, slot, n)) for n in range(clips)] for slot in slots.tolist()]
        columns = [
            pa.array(slots),
            pa.array([video_id[slot] for slot in slots.tolist()]),
            pa.array(ok[slots]),
            rows_as_lists(np.repeat(centers_seconds[slots], crops, axis=1)),
            rows_as_lists(np.array(places, np.float32)),
            rows_as_lists(probability[slots].reshape(len(slots), -1)),
        ]
        write_table(pa.Table.from_arrays(columns, schema=PREDICTIONS_SCHEMA), _part_url(run, name, number))


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
    parts = store.list_files(run.at("evaluations", name, "predictions"))
    for url in [old] * store.exists(old) + parts:
        store.delete(url)


def _part_url(run: Run, name: str, number: int) -> str:
    return run.at("evaluations", name, "predictions", f"part-{number:05d}.parquet")
