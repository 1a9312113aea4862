"""`adaptfocus watch`: what a run says from its folder alone, in every state, on any terminal, without a write."""

from __future__ import annotations

import io
import json
import shutil
import time
from pathlib import Path

import pytest
from rich.console import Console

from adaptfocus.infra.cli import jobs
from adaptfocus.infra.jobs import watching
from adaptfocus.infra.jobs.watch_view import lines_of, screen_of
from adaptfocus.infra.jobs.watching import Watch
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import StorageError
from adaptfocus.trainers.loop.heartbeat import heartbeat_url
from adaptfocus.trainers.runs.holder import hold_run
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.preparation import prepare
from tests.infra.jobs.test_run_list import entry
from tests.infra.running.test_found import evidence
from tests.trainers.loop.test_training import trained
from tests.worlds import SmallWorld

EPOCHS = 4  # the first without focusing


@pytest.fixture(scope="module")
def finished(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Run:
    how = (f"epochs={EPOCHS}", "plan.resample=false")
    return trained(small_world.run_config(tmp_path_factory.mktemp("runs"), "done", *how))


@pytest.fixture
def locked(finished: Run, tmp_path: Path) -> Run:
    """A copy of a real run, with summaries of a model that is sure of moments at chance. Two videos were bad."""
    run = Run(str(shutil.copytree(finished.url, tmp_path / "locked")))
    for epoch in range(EPOCHS):
        url = run.epoch_url(epoch, "summary.json")
        summary = json.loads(store.read_bytes(url))
        lost = {name: evidence(0.2) for name in summary["evidence"]}
        found = {"bags_trained": 100, "mean_spike_actionness": 0.7, "share_unmasked": 0.3, "excluded": 2}
        store.write_bytes(url, json.dumps(summary | found | {"evidence": lost}).encode())
    return run


def unfinish(run: Run) -> Path:
    """Take away what says that a run is finished -> where it was, to put it back."""
    last = Path(run.epoch_url(EPOCHS, "saliency.parquet"))
    last.rename(last.with_suffix(".away"))
    return last


def test_a_finished_run_is_told_once_and_nothing_is_written(type_, finished: Run) -> None:
    files = {path: path.stat().st_mtime_ns for path in Path(finished.url).rglob("*")}
    code, out, _ = type_("watch", finished.url)
    assert code == 0
    assert out.startswith(f"done: finished epoch {EPOCHS} of {EPOCHS}, bag 20 of 20, loss ")
    assert f"{audit(finished).clips_trained:,} clips trained, on 1 worker" in out
    assert f"after epoch {EPOCHS}: positives unmasked " in out
    assert "salient times right " in out, "this index has intervals"
    assert out.endswith("the run is finished")
    assert {path: path.stat().st_mtime_ns for path in Path(finished.url).rglob("*")} == files


def test_a_lock_is_said_with_the_classes_and_what_to_change(type_, locked: Run, finished: Run) -> None:
    code, out, _ = type_("watch", locked.url, finished.url, "--once")
    assert code == 0
    classes = list(json.loads(store.read_bytes(locked.epoch_url(3, "summary.json")))["evidence"])
    assert f"0 of {len(classes)} classes found; not found: {', '.join(classes)}" in out
    assert "warning: Focusing has locked onto chance" in out
    assert "over epochs 2 to 4; 1.6 would be beyond chance" in out
    assert "of the salient times of these, 25 % were last visited in epoch 4; of all, 10 %" in out
    assert f"2 videos left out (adaptfocus quarantine list {locked.url})" in out
    assert "what to change: Free focusing from its trap: focus.negative_focus=0.7" in out
    assert out.index("locked: finished") < out.index("done: finished") < out.index("all 2 runs are finished")


def test_json_has_an_object_a_run(monkeypatch: pytest.MonkeyPatch, capsys, locked: Run, finished: Run) -> None:
    jobs.watch([locked.url, finished.url], as_json=True)
    lost, done = map(json.loads, capsys.readouterr().out.splitlines())
    assert (lost["name"], lost["state"], lost["epoch"], lost["epochs"]) == ("locked", "finished", EPOCHS, EPOCHS)
    assert (lost["classes_found"], len(lost["classes_not_found"])) == (0, lost["classes_judged"])
    z = 6 * (lost["classes_judged"] / 3.6) ** 0.5  # in each class 10 against 4, of variance 3.6
    assert lost["newest_visits"] == pytest.approx({"share": 0.25, "by_chance": 0.1, "z": z})
    (warning,) = lost["warnings"]
    assert warning["kind"] == "locked_onto_chance"
    assert all(warning[name] for name in ("says", "reasons", "changes"))
    assert (done["hit_rate"] is None, done["committed_age_seconds"] > 0, done["problem"]) == (False, True, None)


def test_a_narrow_terminal_loses_no_word_and_a_low_one_only_details(locked: Run) -> None:
    seen = Watch(locked.url).look()
    words = " ".join(line.text for line in lines_of(seen)).split()

    def shown(width: int, height: int) -> str:
        out = Console(file=io.StringIO(), width=width, height=height, legacy_windows=False)
        out.print(screen_of([seen], out, "below"))
        text = out.file.getvalue()  # type: ignore[attr-defined]
        assert all(len(line) <= width for line in text.splitlines())
        return text

    narrow = shown(36, 500).replace("\n", "").replace(" ", "")
    assert [word for word in words if word not in narrow] == []
    low = shown(100, 24)
    assert len(low.splitlines()) < 24
    assert "locked onto chance" in low
    assert "Free focusing" in low, "the first change is the last detail to go"
    assert "More videos" not in low


def test_a_run_that_has_not_begun_and_then_does(type_, small_world: SmallWorld, tmp_path: Path) -> None:
    config = small_world.run_config(tmp_path, "new")
    prepare(config)
    watch = Watch(config.url)
    assert watch.look().state == "never started"
    code, out, _ = type_("watch", config.url)
    assert (code, out) == (0, "new: has not begun epoch 0 of 3")
    run, beat = Run(config.url), {"epoch": 0, "epochs": 3, "cursor": 4, "num_bags": 16, "clips_per_second": 52.0}
    entry(run, 0, "start", 60)
    with hold_run(config.url):
        store.write_bytes(heartbeat_url(config.url), json.dumps(beat | {"seconds": time.time()}).encode())
        seen = watch.look()
        assert (seen.state, seen.epoch, seen.bag, seen.workers, seen.summary_epoch) == ("running", 1, 4, 2, None)
        assert "epoch 1 of 3, bag 4 of 16, 52 clips/s" in lines_of(seen)[1].text
        entry(run, 1, "checkpoint", 5, epoch=0, cursor=8, num_bags=16, clips=24, metrics={"loss": 0.5})
        assert watch.look().clips_trained == 24
    seen = watch.look()
    assert (seen.state, seen.bag, seen.loss) == ("stopped", 8, 0.5), "what is committed counts, not the heartbeat"
    holder = json.loads(store.read_bytes(f"{config.url}/holder.json"))
    gone = {"host": "another", "ended": None, "signed": time.time() - 700}
    store.write_bytes(f"{config.url}/holder.json", json.dumps(holder | gone).encode())
    store.write_bytes(heartbeat_url(config.url), json.dumps(beat | {"seconds": time.time() - 720}).encode())
    entry(run, 1, "checkpoint", 800, epoch=0, cursor=8, num_bags=16)
    seen = Watch(config.url).look()
    assert seen.state == "silent"
    assert "not heard from since 20" in lines_of(seen)[0].text
    assert "UTC (12 min ago); give its command again to resume" in lines_of(seen)[0].text


def test_a_url_without_a_run_is_an_error_as_elsewhere(type_, tmp_path: Path, finished: Run) -> None:
    code, _, err = type_("watch", finished.url, tmp_path / "nowhere")
    assert code == 2
    assert "nowhere is not a run: it has no config.json" in err


def test_a_look_again_reads_little_and_a_finished_run_nothing(
    monkeypatch: pytest.MonkeyPatch, locked: Run, finished: Run
) -> None:
    unfinish(locked)
    watches = [Watch(locked.url), Watch(finished.url)]
    before = [watch.look() for watch in watches]
    asked: list[str] = []
    for name in ("exists", "read_bytes", "list_files", "list_folders", "write_bytes"):
        real = getattr(store, name)
        monkeypatch.setattr(store, name, lambda *a, real=real, name=name: asked.append(name) or real(*a))
    assert [watch.look().state for watch in watches] == ["running", "finished"] == [each.state for each in before]
    assert 0 < len(asked) <= 6
    assert {*asked} <= {"exists", "read_bytes"}, "no list of the log"


@pytest.mark.parametrize(
    ("place", "changed", "said"),
    [
        ("heartbeat.json", [], ""),
        ("heartbeat.json", {"epoch": "x", "cursor": None}, ""),
        ("heartbeat.json", {"loss": "x", "clips_per_second": [], "bags_in_all": float("inf")}, ""),
        ("holder.json", {"signed": "now"}, ""),
        ("log/000001.json", {"cursor": None}, "000001.json is not an entry of a run's log"),
        ("log/000001.json", [], "000001.json is damaged"),
        ("epochs/0003/summary.json", {"spike_contrast": float("nan"), "excluded": "x"}, ""),
        ("epochs/0003/summary.json", {"hit_rate": "x"}, "has files that are not those of a run"),
        ("epochs/0003/summary.json", {"evidence": [1]}, "has files that are not those of a run"),
        ("epochs/0003/summary.json", {"evidence": {"wave": {"z": 1.0, "z_at_most": 0}}}, "has files that are not"),
    ],
)
def test_files_that_are_damaged_are_left_out_or_said(
    type_, locked: Run, place: str, changed: dict | list, said: str
) -> None:
    """What only shows progress is left out. What the verdict needs is an error, and later the look before stays."""
    unfinish(locked)
    watch = Watch(locked.url)
    before = watch.look()
    newest = max(Path(locked.at("log")).iterdir())
    file = newest if place.startswith("log") else Path(locked.at(place))
    holder = {"host": "h", "boot": "b", "pid": 1, "started": "1", "since": 1.0}
    values = json.loads(file.read_bytes()) if file.exists() else holder
    text = json.dumps({**values, **changed} if isinstance(changed, dict) else changed)
    if file == newest and said:  # as the log's next entry
        file = file.with_name(f"{int(file.stem) + 1:06d}.json")
    elif "summary" in place:
        watch._summaries, watch._next_epoch = [], EPOCHS - 1
    file.write_text(text)
    seen = watch.look()
    assert bool(seen.problem) == bool(said)
    assert not said or seen.warnings == before.warnings
    code, out, err = type_("watch", locked.url, "--once")
    assert code == (2 if said else 0)
    assert said.replace("000001", file.stem) in err
    assert "locked: " in out or said


def test_a_name_cannot_steer_the_terminal(locked: Run) -> None:
    url = Path(locked.epoch_url(EPOCHS - 1, "summary.json"))
    summary = json.loads(url.read_bytes())
    summary["evidence"] = {"\x1b]0;owned\x07wave\n\x9b2J": evidence(0.2)}
    url.write_text(json.dumps(summary))
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for line in lines_of(Watch(locked.url).look()) for c in line.text)


def test_a_store_that_fails_for_a_while_ends_nothing(monkeypatch: pytest.MonkeyPatch, locked: Run) -> None:
    unfinish(locked)
    watch = Watch(locked.url)
    before = watch.look()

    def fail(_: str) -> dict:
        raise StorageError("no answer")

    monkeypatch.setattr(watching, "read_holder", fail)
    seen = watch.look()
    assert (seen.problem, seen.warnings) == ("StorageError: no answer", before.warnings)
    assert "the last look failed" in lines_of(seen)[-1].text
    monkeypatch.undo()
    assert watch.look().problem is None


def test_it_looks_again_until_all_runs_are_finished(
    type_, monkeypatch: pytest.MonkeyPatch, locked: Run, finished: Run
) -> None:
    """On a terminal; the run ends between two looks."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    last, slept = unfinish(locked), []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            last.with_suffix(".away").rename(last)

    monkeypatch.setattr(jobs.time, "sleep", sleep)
    code, out, _ = type_("watch", locked.url, finished.url, "--every", "2.5")
    assert (code, slept) == (0, [2.5, 2.5])
    assert "a look every 2.5 s; Ctrl-C ends this" in out
    assert "all 2 runs are finished" in out
    slept.clear()
    last.rename(last.with_suffix(".away"))
    assert type_("watch", locked.url, "--once")[0] == 0
    assert slept == []
