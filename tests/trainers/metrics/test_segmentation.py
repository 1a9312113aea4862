"""Segmentation scores against numbers computed by hand, and against a slow version of the public evaluation."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptfocus.trainers.metrics.segmentation import edit_score, f1_counts, frame_iou, segmentation_scores

# Ten frames. True: SIL 0-2, pour 2-6, stir 6-9, SIL 9-10. Predicted: SIL 0-1, pour 1-5, SIL 5-6, stir 6-10.
TRUE = ["SIL"] * 2 + ["pour"] * 4 + ["stir"] * 3 + ["SIL"]
PREDICTED = ["SIL"] + ["pour"] * 4 + ["SIL"] + ["stir"] * 4


def test_a_worked_example() -> None:
    scores = segmentation_scores([PREDICTED], [TRUE])
    # Frames that agree: 0, 2, 3, 4, 6, 7, 8.
    assert scores.mof == pytest.approx(7 / 10)
    # SIL: {0} of {0, 1, 5, 9}; pour: {2, 3, 4} of {1..5}; stir: {6, 7, 8} of {6..9}.
    assert scores.iou == pytest.approx((1 / 4 + 3 / 5 + 3 / 4) / 3)
    # SIL pour SIL stir -> SIL pour stir SIL: two replacements (or one deletion and one insertion) among four.
    assert scores.edit == pytest.approx(1 - 2 / 4)
    # IoU of the predicted segments: SIL 1/2, pour 3/5, SIL 5-6: none, stir 3/4. At every overlap 3 of 4 are hits.
    assert scores.f1 == {0.1: 0.75, 0.25: 0.75, 0.5: 0.75}
    assert f1_counts(PREDICTED, TRUE, 0.6) == (2, 2, 2)
    assert (scores.videos, scores.frames) == (1, 10)
    assert (scores.mof_foreground, scores.iou_foreground) == (scores.mof, scores.iou)


def test_background_is_left_out_where_it_is_named() -> None:
    scores = segmentation_scores([PREDICTED], [TRUE], background=["SIL"])
    assert scores.mof == pytest.approx(7 / 10), "of all frames, whatever is background"
    assert scores.mof_foreground == pytest.approx(6 / 7)
    assert scores.iou_foreground == pytest.approx((3 / 5 + 3 / 4) / 2)
    assert scores.edit == 1.0, "pour stir both"
    assert scores.f1[0.5] == 1.0


def test_several_videos_are_put_together_as_papers_do() -> None:
    # MoF over frames: 4 of 4 and 0 of 1. Edit, IoU over videos. F1 over counts: 1 hit, then 1 wrong and 1 missed.
    scores = segmentation_scores([["a"] * 4, ["b"]], [["a"] * 4, ["a"]])
    assert scores.mof == pytest.approx(4 / 5)
    assert (scores.edit, scores.iou) == (0.5, 0.5)
    assert scores.f1[0.5] == pytest.approx(0.5)


def test_one_true_segment_is_found_once() -> None:
    # "a" is cut into two by a "b": IoU 2/5 and 2/5; at 0.25 the first is a hit, the second is one too many.
    predicted, true = list("aabaa"), list("aaaaa")
    assert f1_counts(predicted, true, 0.25) == (1, 2, 0)
    assert f1_counts(predicted, true, 0.5) == (0, 3, 1)
    # An IoU that is the overlap itself is a hit: 1 of 2.
    assert f1_counts(list("ab"), list("aa"), 0.5) == (1, 1, 0)


def test_the_last_segment_by_both_conventions() -> None:
    # True: a 0-5. Predicted: b 0-3, a 3-5: IoU 2/5. By ASFormer's rule both end in frame 4: 1/4.
    predicted, true = list("bbbaa"), list("aaaaa")
    assert f1_counts(predicted, true, 0.3) == (1, 1, 0)
    assert f1_counts(predicted, true, 0.3, last_end="asformer") == (0, 2, 1)
    # A last segment of one frame has no length there, and is missed although it is right.
    assert f1_counts(list("ab"), list("ab"), 0.1) == (2, 0, 0)
    assert f1_counts(list("ab"), list("ab"), 0.1, last_end="asformer") == (1, 1, 1)


def test_nothing_but_background() -> None:
    assert edit_score(["SIL"], ["SIL"], ["SIL"]) == 1.0
    assert edit_score(["a"], ["SIL"], ["SIL"]) == 0.0
    assert f1_counts(["a"], ["SIL"], 0.1, ["SIL"]) == (0, 1, 0)
    scores = segmentation_scores([["SIL"]], [["SIL"]], ["SIL"])
    assert math.isnan(scores.mof_foreground)
    assert math.isnan(scores.iou_foreground)
    assert scores.f1[0.1] == 0.0
    nothing = segmentation_scores([], [])
    assert math.isnan(nothing.mof)
    assert (nothing.videos, nothing.f1[0.5]) == (0, 0.0)


def test_numbers_are_labels_too() -> None:
    names = {"SIL": -1, "pour": -2, "stir": 7}  # hash(-1) == hash(-2)
    arrays = [np.array([names[label] for label in labels]) for labels in (PREDICTED, TRUE)]
    assert segmentation_scores([arrays[0]], [arrays[1]], [-1]) == segmentation_scores([PREDICTED], [TRUE], ["SIL"])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: segmentation_scores([["a"]], []), "1 videos are predicted, and 0 are known"),
        (lambda: segmentation_scores([["a"]], [["a", "b"]]), "1 frames are predicted, and 2 are known"),
        (lambda: segmentation_scores([[]], [[]]), "0 frames are predicted, and 0 are known"),
        (lambda: f1_counts(["a"], ["a"], 0.0), r"an overlap must be in \(0, 1\], not 0.0"),
    ],
)
def test_what_cannot_be_compared_is_refused(call: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()


def runs(labels: list[int], background: tuple[int, ...]) -> list[tuple[int, set[int]]]:
    """(label, its frames) of each run."""
    out, at = [], 0
    for label, group in groupby(labels):
        size = len(list(group))
        out += [(label, set(range(at, at + size)))] if label not in background else []
        at += size
    return out


def slow_edit(p: tuple[int, ...], t: tuple[int, ...]) -> int:
    @cache
    def distance(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        replaced = distance(i - 1, j - 1) + (p[i - 1] != t[j - 1])
        return min(replaced, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    return distance(len(p), len(t))


def slow_f1(p: list, t: list, overlap: Fraction) -> tuple[int, int, int]:
    """Segments of one label that meet have their union for a hull, so sets of frames give the evaluation's IoU."""
    taken: set[int] = set()
    wrong = 0
    for label, frames in p:
        ious = [Fraction(len(frames & other), len(frames | other)) * (label == name) for name, other in t]
        best = max(range(len(t)), key=lambda k: (ious[k], -k), default=None)
        if best is not None and ious[best] >= overlap and best not in taken:
            taken.add(best)
        else:
            wrong += 1
    return len(taken), wrong, len(t) - len(taken)


VIDEOS = st.integers(1, 25).flatmap(
    lambda frames: st.tuples(*[st.lists(st.integers(0, 3), min_size=frames, max_size=frames)] * 2)
)


@settings(deadline=None, max_examples=300)
@given(VIDEOS, st.sampled_from([(), (0,), (0, 2)]))
def test_scores_equal_the_slow_rules(video: tuple[list[int], list[int]], background: tuple[int, ...]) -> None:
    predicted, true = video
    p, t = runs(predicted, background), runs(true, background)
    names = [tuple(label for label, _ in each) for each in (p, t)]
    longest = max(map(len, names))
    wanted = 1 - slow_edit(*names) / longest if longest else 1.0
    assert edit_score(predicted, true, background) == pytest.approx(wanted, abs=1e-12)
    for overlap in (Fraction(1, 10), Fraction(1, 4), Fraction(1, 2)):
        assert f1_counts(predicted, true, float(overlap), background) == slow_f1(p, t, overlap)
    frames = list(zip(predicted, true, strict=True))
    ious = [
        Fraction(sum(a == b == k for a, b in frames), sum(k in pair for pair in frames))
        for k in sorted(set(true) - set(background))
    ]
    if ious:
        assert frame_iou(predicted, true, background) == pytest.approx(float(sum(ious) / len(ious)), abs=1e-12)
