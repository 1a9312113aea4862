"""The loop in this process: resume, carry, bad videos, regimes. Real videos, real tars, real checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.index.packets import with_packets
from adaptfocus.pipelines.over import in_this_process
from adaptfocus.pipelines.plan.published import Stretch, read_plan
from adaptfocus.pipelines.schemas import PLAN_SCHEMA
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.pipelines.video.spans import packets_of
from adaptfocus.trainers.epochs.publishing import Planning
from adaptfocus.trainers.epochs.window_tasks import read_head
from adaptfocus.trainers.errors import StoppedError, TakenOverError
from adaptfocus.trainers.evaluation.scoring import evaluate, predict_here
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs import ledger
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.open import load_config
from adaptfocus.trainers.runs.preparation import is_finished, prepare
from adaptfocus.trainers.runs.snapshots import read_excluded, read_saliency
from adaptfocus.trainers.settings.run import TrainConfig
from tests.worlds import SmallWorld, change_rows, retag


class Killed(BaseException):
    """Stands for SIGKILL, because nothing catches it."""


class DyingEngine(LocalEngine):
    """Dies after so many batches, in the middle of whatever is not committed."""

    def __init__(self, bags_per_batch: int, batches: int) -> None:
        super().__init__(bags_per_batch)
        self.left = batches

    def batches(self, *args):
        for batch in super().batches(*args):
            if self.left == 0:
                raise Killed
            self.left -= 1
            yield batch


def trained(config: TrainConfig, engine: LocalEngine | None = None) -> Run:
    prepare(config)
    train(config, engine or LocalEngine(config.plan.bags_per_batch))
    return Run(config.url)


def weights(run: Run) -> dict[str, torch.Tensor]:
    _, commit = run.newest()
    assert commit is not None
    return run.load_state(commit)["model"]


@pytest.fixture(scope="module")
def undisturbed(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(small_world.run_config(tmp_path_factory.mktemp("runs"), "undisturbed"))


def test_every_planned_clip_is_trained_exactly_once(undisturbed: Run) -> None:
    found = audit(undisturbed)
    # 18 videos, batches of 4: 16 bags an epoch, then 18 + 2 - 0 = 20, then 16 + ...; 3 clips a bag
    bags = [read_plan(undisturbed.epoch_url(e, "plan")).num_bags for e in range(3)]  # type: ignore[union-attr]
    assert bags == [16, 20, 16]
    assert found.clips_planned == found.clips_trained == 3 * sum(bags)
    assert (found.clips_lost, found.clips_twice, found.clips_undecodable) == (0, 0, 0)


def test_an_audit_counts_what_is_lost_and_what_is_trained_twice(
    undisturbed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each of three epochs the first bag's row is missing, the second's is there twice and says it is black."""
    whole = ledger.read_ledger

    def spoiled(*arguments) -> pa.Table:
        rows = whole(*arguments).slice(1)
        bad = rows.set_column(rows.schema.get_field_index("ok"), "ok", [[False] + [True] * (len(rows) - 1)])
        return pa.concat_tables([bad, bad.slice(0, 1)])

    monkeypatch.setattr(ledger, "read_ledger", spoiled)
    found = audit(undisturbed)
    assert (found.clips_planned, found.clips_lost, found.clips_twice) == (3 * 52, 3 * 3, 3 * 3)
    assert found.clips_undecodable == 3 * 2 * 3
    assert found.clips_trained == 3 * 52 - 3 * 3 - 3 * 2 * 3


@pytest.mark.parametrize("batches", [1, 3, 5, 7])
def test_killed_anywhere_it_ends_with_the_same_weights(
    small_world: SmallWorld, tmp_path: Path, undisturbed: Run, batches: int
) -> None:
    config = small_world.run_config(tmp_path, "undisturbed")
    with pytest.raises(Killed):
        trained(config, DyingEngine(4, batches))
    run = trained(config)
    found = audit(run)
    assert (found.clips_lost, found.clips_twice, found.claims) == (0, 0, 2)
    for name, value in weights(undisturbed).items():
        assert torch.equal(value, weights(run)[name]), name
    assert read_saliency(run, 3).to_arrow().equals(read_saliency(undisturbed, 3).to_arrow())


def test_the_last_sign_of_life_says_that_all_is_done(undisturbed: Run) -> None:
    beat = json.loads(store.read_bytes(undisturbed.at("heartbeat.json")))
    assert (beat["epoch"], beat["epochs"], beat["cursor"]) == (2, 3, beat["num_bags"])


def test_a_finished_run_is_left_alone(small_world: SmallWorld, undisturbed: Run) -> None:
    config = small_world.run_config(undisturbed.url.rsplit("/", 1)[0], "undisturbed")
    prepare(config)
    assert is_finished(config)


def test_a_published_plan_is_found_without_the_rows_of_the_index(undisturbed: Run, tmp_path: Path) -> None:
    """So a run that resumes in the midst of an epoch begins as soon with a million videos as with ten."""
    config = load_config(undisturbed.url).model_copy(update={"index": str(tmp_path / "gone")})
    plan = Planning(undisturbed, config, in_this_process).publish(1, None)
    assert plan == read_plan(undisturbed.epoch_url(1, "plan"))


def test_saliency_of_an_epoch_changes_the_plan_of_the_next(
    small_world: SmallWorld, tmp_path: Path, undisturbed: Run
) -> None:
    """Poison the snapshot that epoch 2 is planned from: the clips of epoch 2 move to where it lies."""
    config = small_world.run_config(tmp_path, "poisoned")
    shutil.copytree(undisturbed.url, config.url)
    run, planner = Run(config.url), small_world.planner()
    shutil.rmtree(run.epoch_url(2, "plan"))
    from adaptfocus.pipelines.plan.draw import plan_clips

    plan, head = read_plan(run.epoch_url(1, "plan")), read_head(run, 2)
    assert head is not None
    assert head.num_rows == 4, "a quarter of the epoch at most is drawn an epoch earlier"
    honest = read_saliency(run, 2)
    poisoned = type(honest)(honest.video_row, honest.label_id, type(honest.bins)(
        torch.zeros_like(honest.bins.score), honest.bins.tau.clone(), honest.bins.epoch.clone()))  # fmt: skip
    poisoned.bins.score[:, 18], poisoned.bins.tau[:, 18], poisoned.bins.epoch[:, 18] = 0.99, 0.925, 1

    def drawn(saliency) -> list[dict]:
        made = plan_clips(
            planner, saliency, head=head, seed=config.seed, epoch=2, clip=config.clip, rules=config.draw_rules,
            staleness=config.saliency.staleness, carried=plan.carried if plan else (),
        )  # fmt: skip
        return [clip for clips in made.table.column("clips").to_pylist() for clip in clips]

    early = 3 * head.num_rows  # clips
    published = read_plan(undisturbed.epoch_url(2, "plan"))
    assert published is not None
    rows = [read_table(*((url, PLAN_SCHEMA, a, b))) for url, a, b in published.slices(0)]
    as_published = [clip for table in rows for clips in table.column("clips").to_pylist() for clip in clips]
    assert drawn(honest) == as_published, "the published plan follows from the committed snapshot"
    focused = [
        (a, b) for a, b in zip(as_published[early:], drawn(poisoned)[early:], strict=True) if b["focus_label_id"] >= 0
    ]
    assert len(focused) >= 10
    assert all(b["tau"] >= 0.925 - config.focus.delta - 1e-6 for _, b in focused)
    assert any(a["tau"] < 0.7 for a, _ in focused)


def test_the_loop_refuses_a_second_master(small_world: SmallWorld, tmp_path: Path) -> None:
    config = small_world.run_config(tmp_path, "contested")
    prepare(config)

    class Robbed(LocalEngine):
        def batches(self, *args):
            for number, batch in enumerate(super().batches(*args)):
                if number == 1:
                    Run(config.url).claim(workers=1)
                yield batch

    with pytest.raises(TakenOverError, match="another process has claimed this run"):
        train(config, Robbed(4))


def broken_copy(world: SmallWorld, folder: Path, count: int, from_packet: int = 0) -> SmallWorld:
    """The same world with the packets of `count` videos overwritten in its tars, after it was indexed."""
    copy = SmallWorld(folder, world.config)
    shutil.copytree(world.folder / "index-train", folder / "index-train")
    videos = load_index(world.train_index).table
    shards = {url: folder / Path(url).name for url in set(videos.column("shard_url").to_pylist())}
    for url, path in shards.items():
        shutil.copy(url, path)
    for row in with_packets(videos.slice(0, count)).to_pylist():
        with shards[row["shard_url"]].open("r+b") as tar:
            packets = packets_of(row)
            places = zip(packets.offset_bytes.tolist(), packets.size_bytes.tolist(), strict=True)
            for offset, size in list(places)[from_packet:]:
                tar.seek(row["member_offset_bytes"] + offset)
                tar.write(bytes(size))
    retag(folder / "index-train", shards)
    return copy


def test_a_bad_video_is_excluded_with_its_reason_and_the_run_goes_on(small_world: SmallWorld, tmp_path: Path) -> None:
    world = broken_copy(small_world, tmp_path / "broken", 2)
    config = world.run_config(tmp_path / "runs", "bad", "max_bad_share=0.5")
    run = trained(config)
    rows = read_excluded(run, 3).to_pylist()
    assert len(rows) == 2
    for row in rows:
        assert row["kind"] in ("decode_error", "missing_frame")
        assert row["member_name"].endswith(".mp4")
        assert row["shard_url"].endswith(".tar")
    gone = {row["video_row"] for row in rows if row["epoch"] == 0}
    for url, start, stop in read_plan(run.epoch_url(2, "plan")).slices(0):  # type: ignore[union-attr]
        assert not gone & set(read_table(url, PLAN_SCHEMA, start, stop).column("video_row").to_pylist())
    found = audit(run)
    assert found.clips_lost == found.clips_twice == 0
    assert found.clips_undecodable >= 6
    for value in weights(run).values():
        assert torch.isfinite(value).all()


def test_too_many_bad_videos_end_the_run_with_a_message(small_world: SmallWorld, tmp_path: Path) -> None:
    world = broken_copy(small_world, tmp_path / "broken", 6)
    config = world.run_config(tmp_path / "runs", "bad", "max_bad_share=0.1")
    with pytest.raises(StoppedError, match=r"\d of 18 videos could not be decoded, more than max_bad_share = 0.1"):
        trained(config)


@pytest.mark.parametrize("regime", ["full", "noisy", "ours"])
def test_every_regime_trains_and_is_evaluated(small_world: SmallWorld, tmp_path: Path, regime: str) -> None:
    config = small_world.run_config(tmp_path, regime, f"focus.regime={regime}", "focus.noisy_or=1", "epochs=2")
    run = trained(config)
    scores = evaluate(run, load_config(run.url), small_world.test_index, 4, "test", predict_here)
    assert (scores.videos, scores.views, scores.undecodable) == (6, 4, 0)
    for value in (scores.map_max, scores.map_mean, scores.per_time_map):
        assert value is not None
        assert 0 <= value <= 1
    summary = json.loads(store.read_bytes(run.epoch_url(1, "summary.json")))
    assert summary["share_unmasked"] < 1 if regime == "ours" else summary["share_unmasked"] == 1
    assert 0 <= summary["hit_rate"] <= 1
    assert 0 < summary["precision_of_positives"] <= 1


def test_a_run_cannot_be_resumed_as_another(small_world: SmallWorld, undisturbed: Run) -> None:
    runs = undisturbed.url.rsplit("/", 1)[0]
    with pytest.raises(ConfigError, match=r"begun with other settings \(focus.delta: 0.15 -> 0.2\); choose"):
        prepare(small_world.run_config(runs, "undisturbed", "focus.delta=0.2"))


def test_a_resumed_run_may_move_to_other_workers(small_world: SmallWorld, undisturbed: Run) -> None:
    runs = undisturbed.url.rsplit("/", 1)[0]
    prepare(small_world.run_config(runs, "undisturbed", "placement.workers=4", "placement.decode_workers=3"))


def test_full_without_intervals_is_refused(small_world: SmallWorld, tmp_path: Path) -> None:
    copy = tmp_path / "index"
    shutil.copytree(small_world.train_index, copy)
    change_rows(copy, lambda row: row | {"intervals": None})
    with pytest.raises(ConfigError, match=r"focus.regime=full needs intervals"):
        prepare(small_world.run_config(tmp_path, "full", "focus.regime=full", f"index={copy}"))


def test_no_secret_is_saved_with_a_run(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-very-secret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKHUNTER")
    run = trained(small_world.run_config(tmp_path, "quiet", "epochs=1"))
    for path in Path(run.url).rglob("*"):
        if path.is_file():
            assert b"hunter2" not in path.read_bytes(), path
            assert b"AKHUNTER" not in path.read_bytes(), path


def test_order_inside_a_batch_is_that_of_the_plan(small_world: SmallWorld, undisturbed: Run) -> None:
    config = load_config(undisturbed.url)
    plan = read_plan(undisturbed.epoch_url(0, "plan"))
    assert plan is not None
    from adaptfocus.trainers.batches import LabelShape
    from adaptfocus.trainers.runs.open import clip_shape

    stretch = Stretch(undisturbed.url, 0, 8, 1, 4, 20)
    batches = LocalEngine(4).batches(stretch, clip_shape(config), LabelShape(plan.max_labels, config.saliency.bins))
    slots = [b.slot.tolist() for b in batches]
    assert np.concatenate(slots).tolist() == list(range(8, 16))


def test_planes_of_yuv_train_nearly_the_same_model(small_world: SmallWorld, tmp_path: Path) -> None:
    """Half the bytes on the wire and the same clips: the model's scores only differ because colours are rounded."""
    said = {}
    for name in ("rgb", "yuv420p"):
        changes = (f"decode.pixel_format={name}", "epochs=1", "optim.learning_rate=1e-9")
        run = trained(small_world.run_config(tmp_path, name, *changes))
        rows = run.ledger(run.newest()[1]).sort_by("slot")
        assert all(rows.column("ok").to_pylist())
        said[name] = np.concatenate(rows.column("probability").to_pylist())
    difference = np.abs(said["rgb"] - said["yuv420p"])
    assert 0 < difference.mean() < 0.01
    assert difference.max() < 0.05
