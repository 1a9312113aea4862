"""A preview counts an epoch window by window as one counts its whole plan, or estimates it from some windows."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from statistics import stdev

import pytest

from adaptfocus.infra.running import planning
from adaptfocus.infra.running.planning import first_plan, preview, summary_of
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.deal import Sizes
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.plan import windows
from adaptfocus.pipelines.plan.published import PlanFacts, read_bags
from adaptfocus.pipelines.video.packets import decode_packets
from adaptfocus.trainers.settings.run import TrainConfig
from tests.worlds import SmallWorld


@pytest.fixture
def config(small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """18 videos in windows of one partition of about three."""
    shards = sorted(set(load_index(small_world.train_index).table["shard_url"].to_pylist()))
    build_index(shards, str(tmp_path / "index"), workers=1, sizes=Sizes(partition_rows=3))
    monkeypatch.setattr(windows, "PARTITIONS_PER_WINDOW", 1)
    return small_world.run_config(tmp_path, "run", f"index={tmp_path / 'index'}", "plan.window_videos=1")


def counted(plan: PlanFacts) -> list[Counter[str]]:
    """What each window's bags cost, from the whole plan."""
    found = []
    for window in plan.windows:
        counts: Counter[str] = Counter()
        for url, *rows in plan.slices(window.first_slot, window.first_slot + window.bags):
            for bag in read_bags(url, rows[0], rows[1]).to_pylist():
                spans = [decode_packets(span["packets"]) for span in bag["spans"]]
                counts["packets"] += sum(map(len, spans))
                counts["frames"] += len({pts for clip in bag["clips"] for pts in clip["frame_pts"]})
                counts["clips"] += len(bag["clips"])
                counts["bags"] += 1
        if counts:
            found.append(counts)
    return found


def test_an_epoch_is_counted_window_by_window(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = first_plan(config, str(tmp_path / "plan"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    told: list[tuple[int, int]] = []
    found = preview(config, progress=lambda *at: told.append(at))
    each = counted(plan)
    assert len(each) > 4
    assert [Counter({k: n for k, n in own.items() if k in each[0]}) for own in found.counts] == each
    assert (found.plan.num_bags, found.carried) == (plan.num_bags, len(plan.carried)) == (16, 2)
    assert told == [(n + 1, len(each)) for n in range(len(each))]
    assert not [*(tmp_path / "temporary").iterdir()], "parts that are counted go"
    whole = sum(each, Counter())
    said = summary_of(found, config)
    assert said["decode"] == f"{whole['packets']} packets for {whole['frames']} frames"
    assert said["train on"] == "16 videos, 48 clips, 4 global batches of 4 bags"
    assert "estimated from" not in said


def test_a_plan_that_is_written_is_that_of_training(config: TrainConfig, tmp_path: Path) -> None:
    first_plan(config, str(tmp_path / "plan"))
    preview(config, str(tmp_path / "shown"))
    one, other = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("plan", "shown"))
    assert one == other


def test_an_estimate_is_from_some_bags_of_some_windows(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = first_plan(config, str(tmp_path / "plan"))
    every, exact = counted(plan), preview(config)
    found = preview(config, sample=3)
    chosen = [Counter({k: n for k, n in own.items() if k in every[0]}) for own in found.counts]
    assert len(chosen) == 3
    assert all(each in every for each in chosen)
    assert (found.plan.num_bags, found.carried) == (exact.plan.num_bags, exact.carried), "these follow from counts"
    bags = plan.num_bags
    mean = bags * sum(each["packets"] for each in chosen) / sum(each["bags"] for each in chosen)
    spread = 2 * bags * stdev(each["packets"] / each["bags"] for each in chosen) / 3**0.5
    said = summary_of(found, config)
    assert said["decode"].startswith(f"{mean:.0f} ± {spread:.0f} packets for ")
    assert said["estimated from"] == f"{sum(each['bags'] for each in chosen)} bags of 3 windows"
    assert preview(config, sample=99).counts == exact.counts, "more windows than there are is all of them"
    assert "estimated from" not in summary_of(preview(config, sample=99), config)
    monkeypatch.setattr(planning, "SAMPLE_BAGS", 1)
    few = preview(config, sample=3)
    assert [each["bags"] for each in few.counts] == [1, 1, 1], "a large window is not looked up as a whole"
    assert summary_of(few, config)["train on"] == said["train on"]


def test_a_stretch_has_bags_and_carries_nothing_over(config: TrainConfig) -> None:
    """40 bags of 18 videos."""
    stretch = config.model_copy(update={"plan": config.plan.model_copy(update={"bags_per_epoch": 40})})
    told = summary_of(preview(stretch), stretch)
    assert told["train on"] == "40 bags, 120 clips, 10 global batches of 4 bags"
    assert "carry over to epoch 2" not in told
    assert summary_of(preview(config), config)["carry over to epoch 2"] == "2 videos"
