"""A run's folder is cleaned of what nothing needs: it resumes, is audited and shown as before."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from adaptfocus.infra.running.cleaning import (
    EVALUATIONS,
    FAILURES,
    HEADS,
    PARTS,
    ROLLED_BACK,
    SNAPSHOTS,
    STATES,
    STREAMS,
    UNCOMMITTED,
    WRITERS,
    clean,
)
from adaptfocus.pipelines import store
from adaptfocus.trainers.runs.holder import hold_run
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.open import load_config
from tests.trainers.loop.test_training import DyingEngine, Killed, trained
from tests.worlds import SmallWorld

DAY = 86_400.0


def names(run: Run) -> set[str]:
    return {each.url.removeprefix(f"{run.url}/") for each in store.listed_below(run.url)}


def cleaned(run: Run, older_than_seconds: float = 0.0, dry_run: bool = False) -> dict[str, int]:
    """kind -> files that go."""
    done = clean(run, load_config(run.url), older_than_seconds, dry_run)
    return {each.kind: each.files for each in done.kinds if each.files}


def killed_and_damaged(small_world: SmallWorld, runs: str) -> tuple[Run, str]:
    """A run that was killed in its second epoch, and whose newest state is damaged -> (it, that commit's folder)."""
    by_priority = ("plan.bags_per_epoch=16", "plan.priority_share=.25")
    config = small_world.run_config(runs, "cleaned", "plan.lead_batches=1", *by_priority)
    with pytest.raises(Killed):
        trained(config, DyingEngine(4, 7))
    run = Run(config.url)
    newest = run.newest()[1]
    assert newest is not None
    assert newest.epoch == 1
    assert newest.folder
    store.write_bytes(run.at(newest.folder, "state.pt"), b"damaged")
    return run, newest.folder


LEFT = {
    "checkpoints/000001-e0000-b000000008-0123abcd/ledger.parquet": UNCOMMITTED,  # entry 1 is another's
    "checkpoints/000099-e0001-b000000012-0123abcd/state.pt": UNCOMMITTED,  # its process might commit it yet
    "epochs/0001/saliency/000000-0123456789abcdef.parquet": SNAPSHOTS,
    "epochs/0001/excluded/000000-0123456789abcdef.parquet": SNAPSHOTS,
    "epochs/0002/saliency/000000-0123456789abcdef.parquet": SNAPSHOTS,
    "epochs/0001/priority/000000-0123456789abcdef.parquet": SNAPSHOTS,
    "epochs/0000/plan/part-000007-00000.parquet": PARTS,
    "epochs/0002/plan/part-000000-00000.parquet": PARTS,  # no plan.json is there yet
    "streams/000000/000000.json": STREAMS,
    "failure-0123abcd.json": FAILURES,
    "evaluations/begun/predictions/part-00000.parquet": EVALUATIONS,
}
CERTAIN = {name for name in LEFT if name.startswith(("checkpoints/000001", "epochs/0000", "epochs/0001"))}
KEPT = {
    "notes.txt",
    "checkpoints/notes.txt",
    "evaluations/done/predictions/part-00000.parquet",
    "evaluations/done/scores.json",
}


def test_what_nothing_needs_goes_and_the_run_is_what_it_was(small_world: SmallWorld, tmp_path: Path) -> None:
    run, rolled_back = killed_and_damaged(small_world, str(tmp_path))
    before = names(run)
    for name in [*LEFT, *KEPT]:
        store.write_bytes(run.at(name), b"{}")
    (tmp_path / "cleaned" / "log" / "000003.json.0123.part").write_bytes(b"half")
    assert cleaned(run, dry_run=True) == cleaned(run, dry_run=True)
    assert names(run) >= before | {*LEFT} | KEPT, "a dry run removes nothing"
    with hold_run(run.url):
        cleaned(run)
        assert {*LEFT} - names(run) == CERTAIN, "the rest could be of the process that trains it"
    cleaned(run, older_than_seconds=DAY)
    assert {*LEFT} - names(run) == CERTAIN, "nor is it old enough"
    gone = cleaned(run)
    assert gone.keys() == {UNCOMMITTED, SNAPSHOTS, PARTS, STREAMS, FAILURES, EVALUATIONS, WRITERS}
    assert names(run) == (before | KEPT | {"holder.json"}), "and all else is as it was"
    resumed = trained(load_config(run.url))
    whole = audit(resumed)
    assert f"{rolled_back}/ledger.parquet" in names(run)
    again = cleaned(run)
    assert again.keys() >= {ROLLED_BACK, HEADS}
    assert f"{rolled_back}/ledger.parquet" not in names(run)
    assert audit(resumed) == whole
    assert (whole.clips_lost, whole.clips_twice, whole.epochs) == (0, 0, 3)
    assert cleaned(run) == {}
    states = [name for name in sorted(names(run)) if name.endswith("state.pt")]
    kept = [each.folder for each in run.entries() if each.folder][-2:]
    assert states == [f"{folder}/state.pt" for folder in kept]


def test_states_stay_that_are_kept_or_were_evaluated(small_world: SmallWorld, tmp_path: Path) -> None:
    config = small_world.run_config(tmp_path, "kept", "checkpoint.keep=50")
    run = trained(config)
    folders = [each.folder for each in run.entries() if each.folder]
    store.write_bytes(
        run.at("config.json"), store.read_bytes(run.at("config.json")).replace(b'"keep": 50', b'"keep": 1')
    )
    assert load_config(run.url).checkpoint.keep == 1
    number = int(folders[1].split("/")[1].split("-")[0])
    store.write_bytes(run.at("evaluations", "early", "scores.json"), b'{"checkpoint": %d}' % number)
    assert cleaned(run)[STATES] == len(folders) - 2
    left = {name.rpartition("/")[0] for name in names(run) if name.endswith("state.pt")}
    assert left == {folders[1], folders[-1]}
    assert audit(run).clips_lost == 0


def test_an_evaluation_is_as_old_as_its_newest_file(small_world: SmallWorld, tmp_path: Path) -> None:
    run = trained(small_world.run_config(tmp_path, "scored", "epochs=1"))
    parts = [run.at("evaluations", "test", "predictions", f"part-{n}.parquet") for n in range(2)]
    for part in parts:
        store.write_bytes(part, b"x")
    long_ago = time.time() - 9 * DAY
    os.utime(parts[0], (long_ago, long_ago))
    assert cleaned(run, DAY) == {}, "it takes days, and is under way"
    os.utime(parts[1], (long_ago, long_ago))
    assert cleaned(run, DAY) == {EVALUATIONS: 2}


def test_the_command_says_what_goes_and_touches_no_other_folder(type_, small_world: SmallWorld, tmp_path: Path) -> None:
    run = trained(small_world.run_config(tmp_path, "typed", "epochs=1"))
    stray = run.at("epochs", "0000", "plan", "part-000007-00000.parquet")
    store.write_bytes(stray, bytes(2_000_000))
    code, out, _ = type_("gc", run.url, "--dry-run")
    assert (code, store.exists(stray)) == (0, True)
    assert f"{PARTS} 1 2.0 - 1 file, 2.0 MB would be removed" in out
    code, out, _ = type_("gc", run.url)
    assert (code, store.exists(stray)) == (0, False)
    assert "1 file, 2.0 MB removed" in out
    assert "nothing removed: all of it is needed" in type_("gc", run.url)[1]
    code, _, err = type_("gc", tmp_path)
    assert (code, "is not a run" in err) == (2, True)
