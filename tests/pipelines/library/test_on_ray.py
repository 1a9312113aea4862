"""Clips as a Ray Dataset: the same clips as in this process, each once, also from the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.library import Clips, Index, uniform
from tests.pipelines.library.conftest import CLIP, DAMAGED

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    from adaptfocus.infra.running.cluster import connect

    with connect(None, cpus=2):
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        yield


def test_rows_are_the_clips_of_the_epoch(index: Index) -> None:
    clips = Clips(index, uniform(index, CLIP, 2), CLIP, isolation=None, columns=["width"])
    clips.set_epoch(1)
    first, expected = clips.state_dict(delivered=10)["clips"], [clips[at] for at in range(36)]
    rows = clips.dataset(clips_per_block=8).take_all()
    rest = clips.dataset(clips_per_block=7, first=first).take_all()
    assert [row["place"] for row in rest] == [*range(10, 36)]
    assert len(rows) == 36
    for row, sample in zip([*rows, *rest], [*expected, *expected[10:]], strict=True):
        assert row.keys() == sample.keys()
        assert np.array_equal(row["frames"], sample["frames"])
        assert row["labels"].tolist() == sample["labels"].tolist()
        names = ("video_id", "center_seconds", "width", "error")
        assert [row[name] for name in names] == [sample[name] for name in names]


def test_a_transform_and_a_bad_clip_in_a_task(damaged: Index) -> None:
    def shrink(sample: dict[str, Any]) -> dict[str, Any]:
        return {"x": sample["frames"].mean((1, 2, 3)), "error": sample["error"]}

    clips = Clips(damaged, [(DAMAGED, 1.0), (DAMAGED, 18.0)], CLIP, transform=shrink)
    good, bad = clips.dataset().take_all()
    assert (good["error"], good["x"].shape) == ("", (4,))
    assert ": " in bad["error"]
    assert not bad["x"].any()


def test_what_is_out_of_range_is_said_at_once(index: Index) -> None:
    clips = Clips(index, uniform(index, CLIP, 2), CLIP)
    with pytest.raises(ConfigError, match="from clip 37 of 36"):
        clips.dataset(first=37)
    assert clips.dataset(first=36).count() == 0
