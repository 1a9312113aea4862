"""Drawn clips of videos as the rows of a plan. Nothing here runs Python for each bag."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.columns import as_lists, ragged
from adaptfocus.pipelines.plan.labels import FullLabels, find_shown_labels
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.settings import ClipConfig
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable
from adaptfocus.pipelines.schemas import DRAWN_CLIP_TYPE, PLAN_SCHEMA, clip_ids


class Draws(NamedTuple):
    """The clips of B bags."""

    center_seconds: np.ndarray  # [B, N] float64
    focus_label_id: np.ndarray  # [B, N] int64


def bag_table(
    planner: Planner,
    saliency: SaliencyTable | None,
    places: np.ndarray,
    slots: np.ndarray,
    occurrence: np.ndarray,
    draws: Draws,
    epoch: int,
    clip: ClipConfig,
    full: FullLabels | None = None,
    carried: tuple[np.ndarray, np.ndarray] | None = None,
) -> pa.Table:
    """Rows of PLAN_SCHEMA.

    Args:
        saliency: the snapshot that the bags carry; None: they carry none.
        places: int64 [B], of the bags' videos in the planner's table. slots, occurrence: int64 [B].
        full: positives are taken from the intervals; None: every label of a video is true of all its clips.
        carried: the labels that the bags carry, from `keep_rarest`; None: all of their videos.

    Raises:
        ValueError: a slot or the epoch is beyond what a clip's id can hold.
    """
    videos = planner.table.select([name for name in planner.table.column_names if name in PLAN_SCHEMA.names])
    videos = videos.take(pa.array(places)).combine_chunks()
    duration = videos.column("duration_seconds").to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        tau = draws.center_seconds / duration[:, None]
    ids = clip_ids(epoch, slots, draws.center_seconds.shape[1])
    clips = pa.StructArray.from_arrays(
        [pa.array(each.ravel()) for each in (ids, draws.center_seconds, tau, draws.focus_label_id)],
        fields=list(DRAWN_CLIP_TYPE),
    )
    bags, clips_per_bag = draws.center_seconds.shape
    labels, lengths = carried or ragged(planner.labels.begins[places], planner.labels.lengths[places])
    which = labels - planner.labels.begins[places].repeat(lengths)
    rate = planner.table.column("frame_rate_hz").to_numpy()[places]
    columns = {
        **{name: videos.column(name) for name in videos.column_names},
        "slot": slots,
        "video_row": planner.video_rows[places],
        "occurrence": occurrence,
        "frames": np.full(bags, clip.frames),
        "stride_seconds": clip.strides_seconds(rate),
        "label_ids": as_lists(planner.labels.values[labels], lengths),
        "clips": as_lists(clips, np.full(bags, clips_per_bag)),
        "clip_positive": _positives(planner, places, planner.labels.values[labels], lengths, draws, clip, full),
        **_saliency_of(saliency, planner.video_rows[places], which, lengths),
    }
    arrays = [_array(columns.get(field.name), field, bags) for field in PLAN_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=PLAN_SCHEMA)


def _array(values: Any, field: pa.Field, rows: int) -> pa.Array | pa.ChunkedArray:
    if values is None:  # an index of tests, without that column
        return pa.nulls(rows, field.type)
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    return array if array.type == field.type else array.cast(field.type)


def _saliency_of(
    saliency: SaliencyTable | None, video_rows: np.ndarray, which: np.ndarray, labels: np.ndarray
) -> dict[str, pa.Array]:
    """The bins of each bag's pairs, as the lists of a plan.

    Args:
        which: of its video's labels each label is, counted from 0. labels: their number in each bag.
    """
    names = ("saliency_score", "saliency_tau", "saliency_epoch")
    if saliency is None:
        nothing = np.zeros(len(video_rows), np.int64)
        kinds = (np.float32, np.float32, np.int32)
        return {name: as_lists(np.zeros(0, kind), nothing) for name, kind in zip(names, kinds, strict=True)}
    pairs = np.searchsorted(saliency.video_row, video_rows).repeat(labels) + which
    bins = saliency.bins
    values = [np.ascontiguousarray(each.numpy()[pairs]) for each in (bins.score, bins.tau, bins.epoch)]
    lengths = labels * values[0].shape[1]
    return {name: as_lists(each.ravel(), lengths) for name, each in zip(names, values, strict=True)}


def _positives(
    planner: Planner, places: np.ndarray, label_ids: np.ndarray, labels: np.ndarray, draws: Draws, clip: ClipConfig,
    full: FullLabels | None,
) -> pa.ListArray:  # fmt: skip
    """[clips x labels] of each bag: all true in the weak regimes; taken from the intervals in Full.

    label_ids: of all bags, one bag behind the other. labels: int64 [B], their number.
    """
    lengths = labels * draws.center_seconds.shape[1]
    if not full:
        return as_lists(np.ones(int(lengths.sum()), bool), lengths)
    videos = planner.table.select(["intervals", "frame_rate_hz"]).take(pa.array(places)).to_pylist()
    shown: list[bool] = []
    ends, seconds = np.cumsum(labels).tolist(), draws.center_seconds.tolist()
    for end, own, video, centers in zip(ends, labels.tolist(), videos, seconds, strict=True):
        half = (clip.frames - 1) / 2 * clip.stride_seconds(video["frame_rate_hz"]) if full == "overlap" else 0.0
        names = [planner.classes[k] for k in label_ids[end - own : end].tolist()]
        shown += find_shown_labels(video["intervals"], names, [{"center_seconds": each} for each in centers], half)
    return as_lists(np.array(shown, bool), lengths)
