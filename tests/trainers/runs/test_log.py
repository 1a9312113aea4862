"""The log of commits has one lineage (chain of commits), whatever processes believe."""

from __future__ import annotations

import threading

import pyarrow as pa
import pytest
import torch

from adaptfocus.pipelines import store
from adaptfocus.pipelines.schemas import LEDGER_SCHEMA
from adaptfocus.trainers.errors import TakenOverError
from adaptfocus.trainers.runs.log import Commit, Lineage, Run


def commit(lineage: Lineage, epoch: int, cursor: int, value: float = 0.0) -> Commit:
    folder = lineage.folder(epoch, cursor)
    lineage.write_state(folder, {"model": {"w": torch.tensor([value])}})
    path = lineage.write_ledger(folder, 0, pa.Table.from_pylist([], schema=LEDGER_SCHEMA))
    return lineage.commit(folder, epoch, cursor, 8, (path,), {"loss": value})


def test_a_run_goes_on_from_its_last_commit(store_url: str) -> None:
    run = Run(store.join(store_url, "r"))
    lineage, nothing = run.claim(workers=2)
    assert nothing is None
    commit(lineage, 0, 4, 1.5)
    last = commit(lineage, 0, 8, 2.5)
    _, found = run.claim(workers=1)
    assert found == last
    assert run.load_state(last)["model"]["w"].item() == 2.5
    assert [e.kind for e in run.entries()] == ["start", "checkpoint", "checkpoint", "start"]


def test_whoever_lost_the_run_cannot_commit(store_url: str) -> None:
    """A worker group that was taken for dead must not overwrite what its successor has done."""
    run = Run(store.join(store_url, "r"))
    old, _ = run.claim(workers=2)
    new, _ = run.claim(workers=2)
    with pytest.raises(TakenOverError, match="another process has claimed this run"):
        commit(old, 0, 4, 1.0)
    assert run.newest()[1] is None
    kept = commit(new, 0, 4, 2.0)
    with pytest.raises(TakenOverError):
        commit(old, 0, 8, 3.0)
    assert run.newest()[1] == kept


def test_of_many_that_claim_at_once_exactly_one_can_commit(store_url: str) -> None:
    run = Run(store.join(store_url, "r"))
    lineages: list[Lineage] = []
    threads = [threading.Thread(target=lambda: lineages.append(run.claim(1)[0])) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry.number for entry in run.entries()) == list(range(6))
    won = 0
    for lineage in lineages:
        try:
            commit(lineage, 0, 4)
            won += 1
        except TakenOverError:
            pass
    assert won == 1


def test_a_checkpoint_without_its_log_entry_does_not_exist(tmp_path) -> None:
    """The process was killed between the files and the entry: a reader sees the complete checkpoint before it."""
    run = Run(str(tmp_path))
    lineage, _ = run.claim(1)
    kept = commit(lineage, 0, 4, 1.0)
    lineage.write_state(lineage.folder(0, 8), {"model": {"w": torch.tensor([9.0])}})
    assert run.newest()[1] == kept


def test_old_states_are_removed_and_ledgers_stay(tmp_path) -> None:
    run = Run(str(tmp_path))
    lineage, _ = run.claim(1)
    commits = [commit(lineage, 0, cursor) for cursor in (2, 4, 6, 8)]
    lineage.drop_old_states(keep=2)
    assert [store.exists(run.at(c.folder or "", "state.pt")) for c in commits] == [False, False, True, True]
    assert all(store.exists(run.at(c.ledger[0])) for c in commits)


def test_a_state_that_would_run_code_is_refused(tmp_path) -> None:
    import pickle

    class Evil:
        def __reduce__(self):
            return (print, ("owned",))

    run = Run(str(tmp_path))
    lineage, _ = run.claim(1)
    made = commit(lineage, 0, 8)
    store.write_bytes(run.at(made.folder or "", "state.pt"), pickle.dumps(Evil()))
    with pytest.raises(pickle.UnpicklingError):
        run.load_state(made)
