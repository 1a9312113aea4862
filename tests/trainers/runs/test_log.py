"""The log of commits has one lineage (chain of commits), whatever processes believe."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict

import pyarrow as pa
import pytest
import torch

from adaptfocus.pipelines import store
from adaptfocus.pipelines.schemas import EXCLUDED_SCHEMA, LEDGER_SCHEMA
from adaptfocus.pipelines.store.tables import read_table, write_table
from adaptfocus.trainers.epochs.merging import add_failed
from adaptfocus.trainers.errors import TakenOverError
from adaptfocus.trainers.runs import ledger_files
from adaptfocus.trainers.runs.log import Commit, Lineage, Run


def commit(lineage: Lineage, epoch: int, cursor: int, value: float = 0.0, last: Commit | None = None) -> Commit:
    folder = lineage.folder(epoch, cursor)
    lineage.write_state(folder, {"model": {"w": torch.tensor([value])}})
    lineage.write_ledger(folder, [LEDGER_SCHEMA.empty_table()] * lineage.workers)
    return lineage.commit(folder, epoch, cursor, 8, last, {"loss": value})


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
    assert all(store.exists(run.at(file)) for c in commits for file in c.own_ledger)


def test_a_ledger_is_that_of_its_lineage_and_epoch(store_url: str) -> None:
    """Resumed on other workers, and from an earlier state than the newest: what was rolled back does not count."""
    run = Run(store.join(store_url, "r"))
    first, _ = run.claim(workers=2)
    half = commit(first, 0, 4)
    end = commit(first, 0, 8, last=half)
    kept = commit(first, 1, 2, last=end)
    commit(first, 1, 4, last=kept)  # rolled back
    second, _ = run.claim(workers=1)
    again = commit(second, 1, 4, last=kept)
    last = commit(second, 1, 6, last=again)

    for reader in (run, Run(run.url)):  # one that has written the log, and one that has not
        of_epochs = [reader.ledger_files(end), reader.ledger_files(last)]
        assert of_epochs[0] == [
            (f"{half.folder}/ledger.parquet", 0, 4, True),
            (f"{end.folder}/ledger.parquet", 4, 8, True),
        ]
        places = [(kept, 0, 2), (again, 2, 4), (last, 4, 6)]
        assert of_epochs[1] == [(f"{at.folder}/ledger.parquet", first, to, True) for at, first, to in places]
        assert all(store.exists(run.at(file.path)) for files in of_epochs for file in files)
        assert reader.ledger_files(None) == []


def test_a_ledger_of_an_earlier_version_has_its_errors_by_kind(tmp_path) -> None:
    """What a run leaves out, and why, is the same whichever version has written its ledger."""
    run = Run(str(tmp_path))
    lineage, _ = run.claim(1)
    errors = [("", ""), ("decode_error", "no keyframe: in\n2 packets"), ("deadline", "")]
    bags = [
        {"slot": n, "video_row": n, "ok": not kind, "kind": kind, "error": why} for n, (kind, why) in enumerate(errors)
    ]
    rows = pa.Table.from_pylist(bags, schema=LEDGER_SCHEMA)
    old = [f"{kind}: {message}" if kind else "" for kind, message in errors]
    columns = rows.drop_columns(["kind", "null_rank", "null_variance"])
    columns = columns.set_column(columns.schema.get_field_index("error"), "error", pa.array(old))
    written = []
    for cursor, table in ((4, columns), (8, rows)):
        at = lineage.folder(0, cursor)
        write_table(table, run.at(at, "ledger.parquet"))
        written.append(lineage.commit(at, cursor, cursor, 8, None, {}))
    assert run.ledger(written[0]).equals(run.ledger(written[1]))
    names = {name: ["a", "b", "c"] for name in ("shard_url", "member_name", "video_id")}
    videos = pa.table({"video_row": [0, 1, 2], **names})
    found = add_failed(videos, EXCLUDED_SCHEMA.empty_table(), run.ledger(written[0]), 0)
    assert found.select(["video_id", "kind", "message"]).to_pylist() == [
        {"video_id": "b", "kind": "decode_error", "message": "no keyframe: in\n2 packets"},
        {"video_id": "c", "kind": "deadline", "message": ""},
    ]


def test_an_entry_stays_small_however_many_commits_and_workers(tmp_path) -> None:
    run = Run(str(tmp_path))
    lineage, last = run.claim(workers=256)
    metrics = {f"metric_{number}": 1 / 3 for number in range(20)}
    for cursor in range(1, 301):
        last = lineage.commit(lineage.folder(0, cursor), 0, cursor, 301, last, metrics, "0" * 64, cursor, cursor)
    sizes = [path.stat().st_size for path in sorted((tmp_path / "log").iterdir())[1:]]
    assert max(sizes) <= min(sizes) + 20 <= 4096
    assert len(Run(run.url).ledger_files(last)) == 300


def bags(*slots: int) -> pa.Table:
    rows = [{"slot": n, "video_row": n, "ok": True, "kind": "", "error": ""} for n in slots]
    return pa.Table.from_pylist(rows, schema=LEDGER_SCHEMA)


def test_of_some_slots_only_the_files_that_hold_them_are_read(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks trained 3,000 bags in each of two commits, after a commit of an earlier version with a file a rank."""
    run = Run(str(tmp_path))
    lineage, last = run.claim(workers=2)
    folder = lineage.folder(0, 4)
    for rank in range(2):
        write_table(bags(rank, rank + 2), run.at(folder, f"scores-{rank}-of-2.parquet"))
    last = lineage.commit(folder, 0, 4, 6004, last, {})
    entry = asdict(last)
    del entry["one_ledger"]
    (tmp_path / "log" / "000001.json").write_text(json.dumps(entry))
    for first in (4, 3004):
        folder = lineage.folder(0, first + 3000)
        lineage.write_ledger(folder, [bags(*range(first + rank, first + 3000, 2)) for rank in range(2)])
        last = lineage.commit(folder, 0, first + 3000, 6004, last, {})

    reader = Run(run.url)
    whole = reader.ledger(last)
    assert sorted(whole["slot"].to_pylist()) == [*range(6004)]
    read: list[tuple[str, int, int | None]] = []

    def watched(url: str, schema: pa.Schema, start: int = 0, stop: int | None = None, **values) -> pa.Table:
        read.append((url.rsplit("/", 1)[-1], start, stop))
        return read_table(url, schema, start, stop, **values)

    monkeypatch.setattr(ledger_files, "read_table", watched)
    assert sorted(reader.ledger_of(last, 2, 5)["slot"].to_pylist()) == [2, 3, 4]
    assert read == [("scores-0-of-2.parquet", 0, None), ("scores-1-of-2.parquet", 0, None), ("ledger.parquet", 0, 1)]
    read.clear()
    assert reader.ledger_of(last, 3010, 3020).equals(bags(*range(3010, 3020)))
    assert read == [("ledger.parquet", 6, 16)]
    assert reader.ledger_of(last, 7000, 8000).num_rows == 0
    lineage.write_ledger(last.folder or "", [bags(*range(3004, 3012), 3011, *range(3013, 6004))])
    assert reader.ledger_of(last, 3010, 3014)["slot"].to_pylist() == [3010, 3011, 3011, 3013], (
        "whatever is wrong with it"
    )


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
