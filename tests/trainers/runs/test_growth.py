"""A run on an index that grows: it follows at the boundary of an epoch, and nobody is lost, trained twice or moved."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest
import torch

from adaptfocus.infra.report.gather import gather
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import AdaptFocusError, ConfigError, InputError
from adaptfocus.pipelines.index.compact import join_partitions, remove_unneeded
from adaptfocus.pipelines.index.deal import Sizes
from adaptfocus.pipelines.index.load import load_index, open_index
from adaptfocus.pipelines.over import in_this_process
from adaptfocus.pipelines.plan import windows
from adaptfocus.pipelines.plan.published import PlanFacts, publish, read_plan
from adaptfocus.pipelines.schemas import EXCLUDED_SCHEMA
from adaptfocus.trainers.epochs.planner import Corpus, EpochPlanner
from adaptfocus.trainers.epochs.publishing import Planning
from adaptfocus.trainers.evaluation.export import export_model
from adaptfocus.trainers.evaluation.scoring import evaluate, predict_here
from adaptfocus.trainers.loop.training import make_model, train
from adaptfocus.trainers.runs import growth, starts
from adaptfocus.trainers.runs.growth import all_decided, check_growth, decide, decided
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.open import classes_of, facts_of_run, load_config
from adaptfocus.trainers.runs.preparation import prepare
from adaptfocus.trainers.runs.snapshots import PartitionFiles, write_excluded
from adaptfocus.trainers.settings.run import TrainConfig
from tests.trainers.loop.test_training import Killed, weights
from tests.trainers.runs.growing import NEW, G, Growing, Watched, die, rows_of, rows_of_plan
from tests.worlds import SmallWorld


@pytest.fixture(scope="module")
def followed(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Growing]:
    """10 videos; 4 come while epoch 1 trains, with a new class, and 4 while epoch 3 does; killed in epoch 4."""
    growing = Growing(small_world, tmp_path_factory.mktemp("followed"))
    growing.add(10)
    config = growing.config("epochs=5", "num_classes=8", "plan.max_labels=6", "optim.weight_decay=0")
    arrivals = {3: lambda: growing.add(4, NEW), 5 + 7 + 2: lambda: growing.add(4), 5 + 7 + 7 + 3: die}
    prepare(config)
    with pytest.raises(Killed):
        train(config, Watched(arrivals))
    said = prepare(config).said
    assert said == [], "it resumes with the snapshot of its last planned epoch"
    train(config, Watched({}))
    return Run(config.url), growing


def test_a_run_follows_and_every_video_is_trained_once_an_epoch(followed: tuple[Run, Growing]) -> None:
    run, _ = followed
    found = audit(run)
    assert (found.clips_lost, found.clips_twice, found.claims) == (0, 0, 2)
    bags = [len(rows_of(run, epoch)) for epoch in range(5)]
    assert bags == [10, 14, 14, 18, 18]
    assert found.clips_trained == 3 * sum(bags)
    assert all(max(Counter(rows_of(run, epoch)).values()) == 1 for epoch in range(5))
    assert any(store.list_files(run.epoch_url(epoch, "head")) for epoch in (1, 3)), "a head was drawn before the growth"
    assert [(each.epoch, each.videos, each.snapshot) for each in all_decided(run, 5)] == [(1, 14, 1), (3, 18, 2)]
    classes = all_decided(run, 5)[0].classes
    assert classes == [*sorted(set(classes) - {NEW}), NEW], "appended, wherever the name sorts"
    assert facts_of_run(run, load_config(run.url)).videos == 18


def test_outputs_for_classes_to_come_are_not_trained_and_not_shown(
    followed: tuple[Run, Growing], small_world: SmallWorld, tmp_path: Path
) -> None:
    run, _ = followed
    config = load_config(run.url)
    drawn, now = make_model(config, 8, torch.device("cpu")).state_dict(), weights(run)
    moved = (now["head.weight"] != drawn["head.weight"]).any(dim=1).tolist()
    assert moved == [True] * 7 + [False], "the eighth has no class yet"
    first = run.end_of_epoch(4)
    scores = evaluate(run, config, small_world.test_index, 2, "test", predict_here)
    assert [*scores.per_class_ap] == classes_of(config)
    assert len(scores.per_class_ap) == 7
    facts = export_model(run.url, str(tmp_path / "model.pt"), "torch")
    assert facts["classes"] == classes_of(config)
    assert facts["checkpoint"] == first.number
    told = dict(gather([run.url], "test", 2, "").ledger)["The index grew"]
    assert told == [
        "from epoch 2, 14 videos of 7 classes (snapshot 1); from epoch 4, 18 videos of 7 classes (snapshot 2)"
    ]


def test_another_run_starts_from_one_with_room(followed: tuple[Run, Growing]) -> None:
    run, growing = followed
    config = growing.config("epochs=1", "name=next", f"start_from={run.url}", "num_classes=9", "optim.weight_decay=0")
    prepare(config)
    model = make_model(config, 9, torch.device("cpu"))
    drawn = model.state_dict()["head.weight"].clone()
    starts.load(config, model)
    head = model.state_dict()["head.weight"]
    assert torch.equal(head[:7], weights(run)["head.weight"][:7])
    assert torch.equal(head[7:], drawn[7:])


def draw(config: TrainConfig, fingerprint: str, epoch: int, carried: tuple[int, ...], manifest: Any) -> PlanFacts:
    """Publish the plan of an epoch from a snapshot, and the head of the next."""
    planner = EpochPlanner(config, Corpus.of(config, fingerprint), manifest, in_this_process)
    facts = planner.draw(epoch, carried)
    planner.publish_head(epoch + 1, facts.carried, 2 * G)
    return publish(facts)


@pytest.mark.parametrize("rules", [(), ("plan.repeat_factor=0.5",)], ids=["plain", "repeats"])
def test_whatever_grows_each_epoch_has_all_videos_of_its_snapshot(
    small_world: SmallWorld, tmp_path: Path, rules: tuple[str, ...]
) -> None:
    """With windows of one partition, a head drawn before the growth, bags carried over, and a video left out after."""
    growing = Growing(small_world, tmp_path, Sizes(partition_rows=3))
    config = growing.config("plan.window_videos=1", "plan.max_labels=6", *rules)
    carried: tuple[int, ...] = ()
    manifest: dict[int, PartitionFiles] = {}
    out: set[int] = set()
    with mock.patch.object(windows, "PARTITIONS_PER_WINDOW", 1):
        for epoch, new in enumerate((7, 4, 0, 4, 3)):
            if new:
                growing.add(new)
            facts = draw(config, open_index(growing.url).fingerprint, epoch, carried, manifest)
            planned = Counter(rows_of(Run(config.url), epoch)) + Counter(facts.carried) - Counter(carried)
            rows = load_index(growing.url, ["video_id"]).table["video_row"].to_pylist()
            early = read_plan(Run(config.url).epoch_url(epoch, "head"))
            stays = out & ({*rows_of_plan(early)} if early else set())  # what a head has stays, whatever is left out
            usable = {*rows} - out | stays
            if rules:
                assert planned.total() >= len(rows) - len(out)
                assert planned.keys() <= usable
            else:
                assert planned == Counter(usable), epoch
            carried = facts.carried
            if epoch == 1:
                bad = rows_of_plan(read_plan(Run(config.url).epoch_url(2, "head")))[0]
                row = dict.fromkeys(EXCLUDED_SCHEMA.names, "") | {"video_row": bad, "epoch": 1}
                table = pa.Table.from_pylist([row], schema=EXCLUDED_SCHEMA)
                uid = bad >> 24
                manifest = {uid: write_excluded(Run(config.url), 2, PartitionFiles(uid), table, ["ledger"])}
                out = {bad}


def test_old_videos_keep_their_order_when_others_come(small_world: SmallWorld, tmp_path: Path) -> None:
    """In one window all of them; in several, the partitions, and the videos inside each."""
    growing = Growing(small_world, tmp_path, Sizes(partition_rows=3))
    growing.add(9)
    config, snapshots = growing.config("plan.bags_per_batch=1"), [open_index(growing.url).fingerprint]
    growing.add(9)
    snapshots.append(open_index(growing.url).fingerprint)

    def order(of: int, snapshot: str) -> list[int]:
        with mock.patch.object(windows, "PARTITIONS_PER_WINDOW", of):
            planner = EpochPlanner(config, Corpus.of(config, snapshot), {}, in_this_process)
            return rows_of_plan(publish(planner.draw(1, (), f"{config.url}/{of}-{snapshot}")))

    old, new = order(100, snapshots[0]), order(100, snapshots[1])
    assert [row for row in new if row in old] == old
    assert len(new) == 18
    old, new = order(1, snapshots[0]), order(1, snapshots[1])
    assert [row for row in new if row in old] == old
    assert old != sorted(old)


def test_of_two_that_plan_at_once_one_decides(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One looks at the index, then it grows and another is faster: both plan from what the faster one saw."""
    growing = Growing(small_world, tmp_path)
    growing.add(6)
    config = growing.config("num_classes=9", "plan.max_labels=9")
    prepare(config)
    run, look = Run(config.url), growth.check_growth
    growing.add(4)

    def slow(*args: Any) -> Any:
        seen = look(*args)
        monkeypatch.setattr(growth, "check_growth", look)
        growing.add(4)
        assert decide(run, config, 1).videos == 14  # type: ignore[union-attr]
        return seen

    monkeypatch.setattr(growth, "check_growth", slow)
    found = decide(run, config, 1)
    assert found
    assert found.videos == 14
    assert found == decided(run, 3) == decide(run, config, 1)
    growing.add(4)
    assert decide(run, config, 1) == found, "what is decided stays"
    assert Planning(run, config, in_this_process).corpus(found).videos_of_label.sum() > 0
    off = config.model_copy(update={"follow_index": False})
    assert decide(run, off, 2) == found, "a run that follows no more stays where it is"


def test_an_index_that_has_lost_what_the_run_has_is_refused(small_world: SmallWorld, tmp_path: Path) -> None:
    growing = Growing(small_world, tmp_path)
    classes = open_index(small_world.train_index).classes
    growing.add(6, classes=classes)
    config = growing.config()
    prepare(config)
    before = open_index(growing.url)

    def said(error: type[AdaptFocusError], config: TrainConfig = config) -> str:
        with pytest.raises(error) as found:
            check_growth(Run(config.url), config, before.fingerprint)
        assert "Without --follow-index (follow_index=false) the run stays with the videos it has" in str(found.value)
        return str(found.value)

    growing.add(4, NEW, classes=[*classes, NEW])
    told = said(ConfigError)
    assert "from its snapshot 0 to 1: it has 7 classes, and the run's head has 6 outputs" in told
    assert f"no room for '{NEW}'" in told
    assert "num_classes=7" in told
    roomy = config.model_copy(update={"num_classes": 7})
    assert check_growth(Run(config.url), roomy, before.fingerprint).videos == 10
    with pytest.raises(ConfigError, match=r"num_classes = 5 has no room for the 7 classes"):
        prepare(config.model_copy(update={"num_classes": 5, "name": "narrow"}))

    growing.index([*classes[1:], classes[0], NEW])
    assert "6 of 6 videos are gone" in said(InputError), "all shards were read again, by another list"
    tar = growing.folder / "tars" / "0.tar"
    growing.index([*classes, NEW])
    tar.rename(tmp_path / "away.tar")
    growing.index([*classes, NEW])
    assert "6 of 6 videos are gone" in said(InputError)
    for file in sorted((Path(growing.url) / "snapshots").iterdir()):
        file.unlink()
    growing.index([*classes, NEW])
    assert "does not descend from the one" in said(InputError)


def test_a_run_that_may_not_follow_stops_and_can_stay(small_world: SmallWorld, tmp_path: Path) -> None:
    growing = Growing(small_world, tmp_path)
    growing.add(6)
    config = growing.config("epochs=2")
    prepare(config)
    with pytest.raises(AdaptFocusError, match=r"no room for 'a_new_class'"):
        train(config, Watched({1: lambda: growing.add(4, NEW)}))
    with pytest.raises(ConfigError, match=r"no room for 'a_new_class'"):
        prepare(config)
    stays = config.model_copy(update={"follow_index": False})
    said = prepare(stays).said
    assert said == [f"the index {growing.url} has changed since: the run stays with the videos it was begun on"]
    train(stays, Watched({}))
    run = Run(config.url)
    assert ([len(rows_of(run, epoch)) for epoch in (0, 1)], audit(run).clips_lost) == ([6, 6], 0)
    assert prepare(config).said == said, "a finished run looks no more for what it cannot take"
    assert load_config(run.url).follow_index is True
    assert not all_decided(run, 2)


def test_a_decision_that_is_lost_or_damaged_is_told(small_world: SmallWorld, tmp_path: Path) -> None:
    growing = Growing(small_world, tmp_path)
    growing.add(6)
    config = growing.config("epochs=3", "plan.lead_batches=0")
    prepare(config)
    with pytest.raises(Killed):
        train(config, Watched({1: lambda: growing.add(4), 4: die}))
    run = Run(config.url)
    url, (_, commit) = run.epoch_url(1, "index.json"), run.newest()
    good = store.read_bytes(url)
    for old, new in [(b'"videos": 10', b'"videos": null'), (b'"snapshot": 1', b'"snapshot": "1"')]:
        assert old in good
        store.write_bytes(url, good.replace(old, new))
        with pytest.raises(InputError, match=r"0001/index.json is damaged \(a value has another type\)"):
            decided(run, 1)
    store.delete(url)
    end = replace(commit, epoch=1, cursor=10) if commit else None
    with pytest.raises(InputError, match=r"names partition 1, which .* the index.json of an epoch is missing"):
        Planning(run, config, in_this_process).publish(2, end)


def test_a_compacted_index_is_refused_with_what_was_done(small_world: SmallWorld, tmp_path: Path) -> None:
    """A run that follows, with its snapshot and without; one that stays goes on as long as its snapshot is kept."""
    growing = Growing(small_world, tmp_path, Sizes(partition_rows=2))
    growing.add(6)
    config = growing.config("epochs=2")
    prepare(config)
    with pytest.raises(Killed):
        train(config, Watched({4: die}))
    join_partitions(growing.url, in_this_process, Sizes(partition_rows=50))
    with pytest.raises(InputError, match=r"or small partitions were joined \(`--compact`\)"):
        prepare(config)
    stays = config.model_copy(update={"follow_index": False})
    assert len(prepare(stays).said) == 1
    remove_unneeded(growing.url, 1, 0, in_this_process)
    for each in (config, stays):
        with pytest.raises(ConfigError, match=r"has lost that snapshot \(`index --keep-snapshots`\)"):
            prepare(each)
