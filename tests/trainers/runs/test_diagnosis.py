"""Without intervals, a summary says by class whether spikes stand out at all. Numbers are computed by hand."""

from __future__ import annotations

import pyarrow as pa
import pytest

from adaptfocus.pipelines.plan.draw import Planner
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable
from adaptfocus.trainers.runs.diagnosis import contrast_of_classes, contrasts


def test_a_spikes_contrast_is_how_far_it_stands_out_of_its_video() -> None:
    """Two bins visited, .8 now and .4 two epochs ago, which has faded by .5 an epoch to .1: .8 - .45 = .35.

    A flat pair has no contrast. A pair that was never visited does not count, and its class is not in the table.
    """
    table = SaliencyTable.empty([[0], [1], [2]], 4)
    for row, bins in enumerate([{1: (0.8, 6), 3: (0.4, 4)}, {0: (0.3, 6), 2: (0.3, 6)}]):
        for b, (score, epoch) in bins.items():
            table.bins.score[row, b], table.bins.epoch[row, b] = score, epoch
    found = contrasts(table, 6, 0.5)
    assert found[:2].tolist() == pytest.approx([0.35, 0.0])
    assert found[2].isnan()
    labels = pa.array([["jump"], ["run"], ["sit"]])
    index = pa.table({"video_id": ["a", "b", "c"], "labels": labels})
    classes = contrast_of_classes(Planner.of(index, ["jump", "run", "sit"]), table, 0.5, 6)
    assert classes == {"jump": pytest.approx(0.35), "run": pytest.approx(0.0)}
