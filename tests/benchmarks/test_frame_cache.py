"""Training from cached frames is training on the same clips, or an ablation would be about something else."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.plan.published import Stretch
from adaptfocus.trainers.batches import ClipBatch, LabelShape
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs.measured import READING
from adaptfocus.trainers.runs.open import clip_shape
from adaptfocus.trainers.runs.preparation import is_finished, prepare
from benchmarks.studies.frame_cache import CachedEngine, frame_cache
from tests.trainers.loop.test_training import broken_copy
from tests.worlds import SmallWorld


@pytest.mark.parametrize("pixel_format", ["rgb", "yuv420p"])
def test_batches_are_those_of_the_stream_bit_for_bit(
    small_world: SmallWorld, tmp_path: Path, pixel_format: str
) -> None:
    """Over epochs that focus, with bags carried from one to the next, and starting in the middle of the first."""
    config = small_world.run_config(tmp_path, "cached", f"decode.pixel_format={pixel_format}")
    cache = frame_cache(config, tmp_path / "cache")
    prepare(config)
    train(config, CachedEngine(cache, 4))
    assert is_finished(config)
    shape, labels = clip_shape(config), LabelShape(small_world.planner().max_labels, config.saliency.bins)
    stretch = Stretch(config.url, 0, 8, config.epochs, 4, 22)
    streamed = list(LocalEngine(4).batches(stretch, shape, labels))
    cached = list(CachedEngine(cache, 4).batches(stretch, shape, labels))
    assert len(cached) == len(streamed) == (8 + 20 + 16) // 4
    assert any((batch.saliency_epoch >= 0).any() for batch in cached)
    for one, other in zip(streamed, cached, strict=True):
        for name in {each.name for each in fields(ClipBatch)} - set(READING):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name
            assert getattr(one, name).dtype == getattr(other, name).dtype, name
        assert all(not getattr(other, name).any() for name in READING), "nothing was read or decoded"


def test_a_cache_is_made_once_and_for_one_way_of_decoding(small_world: SmallWorld, tmp_path: Path) -> None:
    config = small_world.run_config(tmp_path, "any")
    frame_cache(config, tmp_path / "cache")
    made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    frame_cache(config, tmp_path / "cache")
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == made
    other = frame_cache(small_world.run_config(tmp_path, "any", "clip.size_pixels=16"), tmp_path / "cache")
    assert other.frames.shape[1:] == (3, 16, 16)
    assert len(list((tmp_path / "cache").iterdir())) == 2 * len(made)


def test_a_world_with_a_bad_video_has_no_cache(small_world: SmallWorld, tmp_path: Path) -> None:
    """The stream continues without such a video; a cache that did so would silently train on black frames."""
    config = broken_copy(small_world, tmp_path / "broken", 1).run_config(tmp_path, "bad")
    with pytest.raises(InputError, match=r"does not decode \(.*\); train without the cache"):
        frame_cache(config, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
