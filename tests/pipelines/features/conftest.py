"""Features of four videos with annotations of three tasks, and maps of features."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptfocus.pipelines.annotations.tasks import (
    ActivityVideo,
    Moment,
    SegmentedVideo,
    write_activities,
    write_grounding,
    write_segmentation,
)
from adaptfocus.pipelines.features.layouts.given import Given
from tests.pipelines.features.layout_files import DURATIONS, FPS, TEST, feature_set, segments


@pytest.fixture
def given(tmp_path: Path) -> Given:
    """Features of four videos in two splits, with segments, moments and activities."""
    split = {video_id: "test" if video_id == TEST else "train" for video_id in DURATIONS}
    urls = [str(tmp_path / f"{name}.jsonl") for name in ("segmentation", "grounding", "activity")]
    write_segmentation(urls[0], [SegmentedVideo(i, split[i], d, segments(d)) for i, d in DURATIONS.items()])
    write_grounding(urls[1], [Moment(i, split[i], 1.0, 3.5, f"a person, {i}") for i in DURATIONS])
    write_activities(urls[2], [ActivityVideo(i, split[i], ("tea",)) for i in DURATIONS])
    sets = (feature_set(tmp_path / "train", "train"), feature_set(tmp_path / "test", "test"))
    return Given(sets, fps=FPS, segmentation_url=urls[0], grounding_url=urls[1])


@pytest.fixture
def maps(tmp_path: Path) -> Given:
    return Given((feature_set(tmp_path / "maps", "train", maps=True),), steps=8)
