"""A run on several indexes: every index has its passes and its share, whatever dies, and its own settings."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from adaptfocus.infra.report.gather import gather
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.deal import Sizes
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.index.partitions import ROW_BITS, SOURCE_BITS
from adaptfocus.pipelines.over import Over, in_processes, in_this_process
from adaptfocus.pipelines.plan import mixing, windows
from adaptfocus.pipelines.plan.published import publish, read_plan
from adaptfocus.pipelines.schemas import PLAN_SCHEMA
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.trainers.epochs.basis import Corpus
from adaptfocus.trainers.epochs.planner import EpochPlanner
from adaptfocus.trainers.inputs.run_index import read_videos, run_partitions, training_facts
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import SUMMARY, Run
from adaptfocus.trainers.runs.open import clip_shape, facts_of_run, load_config
from adaptfocus.trainers.runs.snapshots import read_manifest, read_saliency
from adaptfocus.trainers.settings.run import TrainConfig
from tests.trainers.loop.test_training import DyingEngine, Killed, trained, weights
from tests.worlds import SmallWorld

SOURCE = ROW_BITS + SOURCE_BITS


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "PARTITIONS_PER_WINDOW", 4)
    monkeypatch.setattr(mixing, "LEAST_BAGS", 3)


@pytest.fixture(scope="module")
def indexes(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """18 videos in partitions of about two, and 6 others."""
    folder = tmp_path_factory.mktemp("mixture")
    found = []
    for side in ("train", "test"):
        found.append(str(folder / side))
        build_index([str(small_world.folder / f"shards-{side}")], found[-1], workers=1, sizes=Sizes(partition_rows=2))
    return found


def mixture(world: SmallWorld, indexes: list[str], runs: Path, *more: str, other: str = "") -> TrainConfig:
    return world.run_config(
        runs, "run", f"index={indexes[0]}", "plan.bags_per_epoch=12", "plan.bags_per_batch=4", "plan.window_videos=1",
        "mixture.weight=[2]", f"mixture.more=[{{index: {indexes[1]}, weight: [1]{other}}}]", *more,
    )  # fmt: skip


def drawn(config: TrainConfig, epochs: int, over: Over = in_this_process) -> list[pa.Table]:
    """The plans of some epochs, as a run publishes them one after the other."""
    run, found, cursors = Run(config.url), [], ()
    for epoch in range(epochs):
        facts = publish(EpochPlanner(config, Corpus.of(config), {}, over).draw(epoch, (), cursors=cursors))
        cursors = facts.next
        assert read_plan(run.epoch_url(epoch, "plan")) == facts
        parts = [read_table(url, PLAN_SCHEMA, *rows) for url, *rows in facts.slices()]
        rows = pa.concat_tables(parts)
        assert rows["slot"].to_pylist() == list(range(facts.num_bags))
        for window in facts.windows[1:]:
            own = rows["video_row"].to_numpy()[window.first_slot : window.first_slot + window.bags]
            assert set((own >> ROW_BITS).tolist()) <= set(window.uids)
        found.append(rows)
    return found


def rows_of(plans: list[pa.Table], source: int) -> list[int]:
    rows = [row for plan in plans for row in plan["video_row"].to_pylist()]
    return [row for row in rows if row >> SOURCE == source]


@pytest.mark.parametrize("bags", [4, 12, 40])
def test_each_index_has_its_passes_and_its_share(
    small_world: SmallWorld, indexes: list[str], tmp_path: Path, bags: int
) -> None:
    """Epochs shorter than a window, of some windows, and of several passes over the smaller index."""
    config = mixture(small_world, indexes, tmp_path, f"plan.bags_per_epoch={bags}")
    plans = drawn(config, 60 // bags + 3)
    for plan in plans:
        shares = np.bincount(plan["video_row"].to_numpy() >> SOURCE, minlength=2) / plan.num_rows
        assert abs(shares[0] - 2 / 3) <= 1 / plan.num_rows
    for source, videos in enumerate((18, 6)):
        rows = rows_of(plans, source)
        assert len(rows) > videos
        for first in range(0, len(rows) - videos + 1, videos):
            assert len(set(rows[first : first + videos])) == videos, "a pass has every video once"


def test_the_passes_over_an_index_are_those_of_a_run_on_it_alone(
    small_world: SmallWorld, indexes: list[str], tmp_path: Path
) -> None:
    """With windows of the same size: what is mixed in moves nothing."""
    mixed = rows_of(drawn(mixture(small_world, indexes, tmp_path, "seed=5"), 4), 0)
    alone = small_world.run_config(
        tmp_path, "alone", f"index={indexes[0]}", "plan.bags_per_epoch=12", "plan.lead_batches=0", "seed=5",
        "plan.window_videos=1",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "PARTITIONS_PER_WINDOW", 2)
        only = rows_of(drawn(alone, 4), 0)
    assert mixed == only[: len(mixed)]


def test_weights_may_change_and_an_index_may_rest(small_world: SmallWorld, indexes: list[str], tmp_path: Path) -> None:
    config = mixture(small_world, indexes, tmp_path, "mixture.weight=[1, 0, 1]", other="")
    plans = drawn(config, 4)
    shares = [round(float((plan["video_row"].to_numpy() >> SOURCE == 0).mean()), 2) for plan in plans]
    assert shares == [0.5, 0.0, 0.5, 0.5]
    assert len(set(rows_of(plans, 0))) == len(rows_of(plans, 0)) == 18, "its pass goes on where it stopped"


def test_the_same_plan_in_any_number_of_processes(small_world: SmallWorld, indexes: list[str], tmp_path: Path) -> None:
    here = drawn(mixture(small_world, indexes, tmp_path / "a", "plan.priority_share=0.3"), 3)
    there = drawn(mixture(small_world, indexes, tmp_path / "b", "plan.priority_share=0.3"), 3, in_processes(2))
    assert [plan.equals(other) for plan, other in zip(here, there, strict=True)] == [True] * 3


def test_each_index_has_its_own_frame_rate_labels_and_crop(
    small_world: SmallWorld, indexes: list[str], tmp_path: Path
) -> None:
    theirs = load_index(indexes[1]).classes
    own = f", fps: 2, crop_fraction: 0.5, labels: {{{theirs[0]}: {theirs[1]}, {theirs[2]}: new}}"
    config = mixture(small_world, indexes, tmp_path, other=own)
    facts = training_facts(config)
    assert facts.classes == [*load_index(indexes[0]).classes, "new"]
    parts = [each for each in run_partitions(config) if each.uid >> SOURCE_BITS == 1]
    table = read_videos(config, parts)
    names = {theirs[0]: theirs[1], theirs[2]: "new"}
    before = load_index(indexes[1]).table
    assert table["labels"].to_pylist() == [
        [names.get(each, each) for each in row] for row in before["labels"].to_pylist()
    ]
    said = [each["label"] for row in table["intervals"].to_pylist() for each in row]
    assert said == [names.get(each["label"], each["label"]) for row in before["intervals"].to_pylist() for each in row]
    assert (
        table["intervals"].to_pylist()[0][0]["start_seconds"] == before["intervals"].to_pylist()[0][0]["start_seconds"]
    )
    plan = drawn(config, 1)[0]
    columns = (plan[name].to_pylist() for name in ("video_row", "stride_seconds"))
    strides = {row >> SOURCE: stride for row, stride in zip(*columns, strict=True)}
    assert strides == {0: config.clip.frame_stride / 4, 1: config.clip.frame_stride / 2}
    shape = clip_shape(config)
    assert shape.decode_of({"video_row": 5}).crop_fraction == 1.0
    assert shape.decode_of({"video_row": 1 << SOURCE | 5}).crop_fraction == 0.5


def test_a_run_that_is_killed_goes_on_as_if_nothing_had_happened(
    small_world: SmallWorld, indexes: list[str], tmp_path: Path
) -> None:
    def config(name: str) -> TrainConfig:
        own = mixture(small_world, indexes, tmp_path, "plan.priority_share=0.2", other=", crop_fraction: 0.8")
        return own.model_copy(update={"name": name})

    undisturbed, killed = trained(config("a")), config("b")
    for dies_after in (2, 3):
        with pytest.raises(Killed):
            trained(killed, DyingEngine(4, dies_after))
    run = trained(killed)
    found = audit(run)
    assert found.clips_planned == found.clips_trained == 3 * 3 * 12
    assert (found.clips_lost, found.clips_twice, found.clips_undecodable) == (0, 0, 0)
    left, right = weights(undisturbed), weights(run)
    assert all(torch.equal(left[name], right[name]) for name in left)
    manifest = read_manifest(run, 3)
    assert {uid >> SOURCE_BITS for uid, files in manifest.items() if files.saliency} == {0, 1}
    assert set((read_saliency(run, 3).video_row >> SOURCE).tolist()) == {0, 1}
    summaries = [json.loads(store.read_bytes(run.epoch_url(epoch, SUMMARY))) for epoch in range(3)]
    seen = Counter(row >> SOURCE for epoch in range(3) for row in _planned(run, epoch))
    assert np.sum([each["bags_of_index"] for each in summaries], axis=0).tolist() == [seen[0], seen[1]]
    (row,) = [texts for name, texts in gather([run.url], "test", 2, "").ledger if name.startswith("Bags of each index")]
    assert row == [f"{seen[0]} of {indexes[0]}; {seen[1]} of {indexes[1]}"]
    assert seen[0] > 1.5 * seen[1] > 0
    assert facts_of_run(run, load_config(run.url)).videos == 24


def _planned(run: Run, epoch: int) -> list[int]:
    plan = read_plan(run.epoch_url(epoch, "plan"))
    assert plan
    return [row for url, *rows in plan.slices() for row in read_table(url, PLAN_SCHEMA, *rows)["video_row"].to_pylist()]


def test_a_moved_index_is_known_by_its_content_and_another_one_is_refused(
    small_world: SmallWorld, indexes: list[str], tmp_path: Path
) -> None:
    config = mixture(small_world, indexes, tmp_path)
    with pytest.raises(Killed):
        trained(config, DyingEngine(4, 2))
    copied = str(tmp_path / "copy")
    shutil.copytree(indexes[1], copied)
    trained(mixture(small_world, [indexes[0], copied], tmp_path))
    assert load_config(config.url).index_urls == (indexes[0], copied)
    with pytest.raises(ConfigError, match="is not the one that"):
        trained(mixture(small_world, [indexes[1], indexes[0]], tmp_path))
    with pytest.raises(ConfigError, match="is not the one that"):
        trained(small_world.run_config(tmp_path, "run", f"index={indexes[0]}", "plan.bags_per_epoch=12"))
    with pytest.raises(ConfigError, match=r"other settings \(mixture\.weight: \[2\.0\] -> \[3\.0\]"):
        trained(mixture(small_world, [indexes[0], copied], tmp_path, "mixture.weight=[3]"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("plan.bags_per_epoch=none",), "needs plan.bags_per_epoch"),
        (("mixture.weight=[-1]",), "at least 0"),
        (("mixture.weight=[]",), "at least one weight"),
        (("mixture.more=[{index: /there, weight: [0, 1]}]", "mixture.weight=[0]"), "in epoch 1 every weight is 0"),
        (("mixture.more=[{index: /there, wieght: [1]}]",), "wieght"),
        (("mixture.more=[{index: /there}, {index: /there}]",), "/there is given twice"),
        (("mixture.more=[{index: ''}]",), "it is empty"),
        (("mixture.more=[{index: /there, labels: {a: c, b: c}}]", "focus.regime=full"), "map two names to one"),
        (("task=order", "focus.regime=full"), "task=order is for a run on one index"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    small_world: SmallWorld, indexes: list[str], tmp_path: Path, settings: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        mixture(small_world, indexes, tmp_path, *settings)


def test_a_label_that_no_video_has_is_told(small_world: SmallWorld, indexes: list[str], tmp_path: Path) -> None:
    config = mixture(small_world, indexes, tmp_path, other=", labels: {jmup: jump}")
    with pytest.raises(InputError, match=r"has no label 'jmup', which its `labels` rename; it has"):
        training_facts(config)
    assert not store.exists(config.url)
