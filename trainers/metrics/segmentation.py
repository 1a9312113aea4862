"""Temporal action segmentation: MoF, IoU, edit score and segmental F1, as the public evaluations compute them.

The inputs are a predicted and a true label for each frame, and the scores are fractions in [0, 1]. MoF, edit and F1 are
those of MS-TCN's ``eval.py`` (Abu Farha and Gall, CVPR 2019), after Lea et al. (CVPR 2017). IoU is that of weakly
supervised work (POC, Lu and Elhamifar, CVPR 2022). The labels in `background` are background, and by default there are
none. MS-TCN only leaves out "background", so Breakfast's SIL counts.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

OVERLAPS = (0.10, 0.25, 0.50)

# Where the last segment of a video ends: after its last frame, as in MS-TCN, or at that frame, one frame early, as in
# ASFormer's copy of that evaluation.
LastEnd = Literal["mstcn", "asformer"]
Labels = Sequence[Hashable] | np.ndarray  # of one video: a label for each frame


@dataclass(frozen=True)
class SegmentationScores:
    """Scores over all videos of a split.

    The ``foreground`` scores leave out background. Where there is no background they equal the others.
    """

    videos: int
    frames: int
    mof: float  # mean over frames, background included
    mof_foreground: float  # over frames whose true label is not background
    iou: float
    iou_foreground: float
    edit: float
    f1: dict[float, float]  # by overlap


def segmentation_scores(
    predicted: Sequence[Labels],
    true: Sequence[Labels],
    background: Collection[Hashable] = (),
    overlaps: Sequence[float] = OVERLAPS,
    last_end: LastEnd = "mstcn",
) -> SegmentationScores:
    """All scores of a split.

    MoF is a mean over all frames of all videos, edit and IoU are means over videos, and F1 comes from true and false
    positives that are summed over videos. A mean of nothing is nan.

    Args:
        predicted: for each video, a label for each frame.
        true: the same, of the same lengths.

    Raises:
        ValueError: lengths disagree, a video has no frame, or an overlap is not in (0, 1].
    """
    if len(predicted) != len(true):
        raise ValueError(f"{len(predicted)} videos are predicted, and {len(true)} are known")
    coded = [_coded(p, t, background) for p, t in zip(predicted, true, strict=True)]
    kept = [~np.isin(t, empty) for _, t, empty in coded]
    counts = {overlap: np.zeros(3, int) for overlap in overlaps}
    for p, t in zip(predicted, true, strict=True):
        for overlap in overlaps:
            counts[overlap] += f1_counts(p, t, overlap, background, last_end)
    return SegmentationScores(
        videos=len(coded),
        frames=sum(len(t) for _, t, _ in coded),
        mof=_mean(np.concatenate([p == t for p, t, _ in coded])) if coded else float("nan"),
        mof_foreground=_mean(np.concatenate([(p == t)[k] for (p, t, _), k in zip(coded, kept, strict=True)]))
        if coded
        else float("nan"),
        iou=_mean([frame_iou(p, t) for p, t, _ in coded]),
        iou_foreground=_mean([frame_iou(p, t, background) for p, t in zip(predicted, true, strict=True)]),
        edit=_mean([edit_score(p, t, background) for p, t in zip(predicted, true, strict=True)]),
        f1={overlap: _f1(*count) for overlap, count in counts.items()},
    )


def edit_score(predicted: Labels, true: Labels, background: Collection[Hashable] = ()) -> float:
    """1 - (edit distance between the segments' labels) / (the larger number of segments); 1 if neither has any."""
    p_frames, t_frames, empty = _coded(predicted, true, background)
    p, t = (_segments(frames, empty, "mstcn")[:, 0].tolist() for frames in (p_frames, t_frames))
    if not p and not t:
        return 1.0
    row = list(range(len(t) + 1))  # distances from the first i labels of p to the first 0, 1, ... of t
    for i, label in enumerate(p, start=1):
        before, row = row, [i]
        for j, other in enumerate(t, start=1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (label != other)))
    return 1 - row[-1] / max(len(p), len(t))


def f1_counts(
    predicted: Labels,
    true: Labels,
    overlap: float,
    background: Collection[Hashable] = (),
    last_end: LastEnd = "mstcn",
) -> tuple[int, int, int]:
    """(true positives, false positives, false negatives) among segments.

    Each predicted segment, in order, is matched with the true segment of its label with the highest IoU. It is a true
    positive if that IoU is at least `overlap`, and no earlier segment was matched with the same true one.

    Raises:
        ValueError: as in `segmentation_scores`.
    """
    if not 0 < overlap <= 1:
        raise ValueError(f"an overlap must be in (0, 1], not {overlap}")
    p_frames, t_frames, empty = _coded(predicted, true, background)
    found, known = _segments(p_frames, empty, last_end), _segments(t_frames, empty, last_end)
    hit = np.zeros(len(known), bool)
    for label, start, end in found:
        shared = np.minimum(end, known[:, 2]) - np.maximum(start, known[:, 1])
        covered = np.maximum(end, known[:, 2]) - np.minimum(start, known[:, 1])
        # By ASFormer's rule a last segment of one frame has no length, and so no overlap with any other.
        iou = np.where((known[:, 0] == label) & (shared > 0), shared / np.maximum(covered, 1), 0.0)
        if iou.size and iou.max() >= overlap:
            hit[iou.argmax()] = True
    positives = int(hit.sum())
    return positives, len(found) - positives, len(known) - positives


def frame_iou(predicted: Labels, true: Labels, background: Collection[Hashable] = ()) -> float:
    """The IoU of a video: for each true label, frames that both sides give it / frames that either does; their mean."""
    p, t, empty = _coded(predicted, true, background)
    size = int(max(p.max(), t.max())) + 1
    both, in_p, in_t = (np.bincount(frames, minlength=size) for frames in (t[p == t], p, t))
    known = np.setdiff1d(t, empty)
    return _mean(both[known] / (in_p + in_t - both)[known])


def _segments(frames: np.ndarray, empty: np.ndarray, last_end: LastEnd) -> np.ndarray:
    """Runs of equal labels as rows (label, first frame, end), int [S, 3]; runs of background are left out."""
    starts = np.flatnonzero(np.diff(frames, prepend=-1))
    ends = np.append(starts[1:], len(frames) - (last_end == "asformer"))
    rows = np.stack([frames[starts], starts, ends], axis=1)
    return rows[~np.isin(rows[:, 0], empty)]


def _coded(
    predicted: Labels, true: Labels, background: Collection[Hashable]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels as numbers from 0, and the numbers of background. Raises ValueError: the lengths disagree or are 0."""
    if len(predicted) != len(true) or len(true) == 0:
        raise ValueError(f"{len(predicted)} frames are predicted, and {len(true)} are known; both must be equal")
    number_of: dict[Hashable, int] = {}
    p, t, empty = (
        np.array([number_of.setdefault(label, len(number_of)) for label in labels], dtype=np.int64)
        for labels in (_plain(predicted), _plain(true), background)
    )
    return p, t, empty


def _plain(labels: Labels) -> Sequence[Hashable]:
    return labels.tolist() if isinstance(labels, np.ndarray) else labels


def _f1(positives: int, false_positives: int, false_negatives: int) -> float:
    """2 P R / (P + R), from counts; 0 if nothing was found."""
    return float(2 * positives / (2 * positives + false_positives + false_negatives)) if positives else 0.0


def _mean(values: Sequence[float] | np.ndarray) -> float:
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else float("nan")
