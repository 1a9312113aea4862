"""Plans are compared with ledgers some commits at a time. What is lost, or trained twice, is found wherever it is."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest

from adaptfocus.pipelines.plan.published import PlanFacts, Window, publish, write_window
from adaptfocus.pipelines.schemas import LEDGER_SCHEMA, PLAN_SCHEMA
from adaptfocus.trainers.runs import ledger
from adaptfocus.trainers.runs.ledger import Audit, audit
from adaptfocus.trainers.runs.log import Run


def ids(slot: int) -> list[int]:
    return [slot << 8, slot << 8 | 1]


def trained(slots: Sequence[int]) -> pa.Table:
    rows = [{"slot": slot, "video_row": slot, "ok": slot != 3, "clip_id": ids(slot)} for slot in slots]
    return pa.Table.from_pylist([row | {"kind": "", "error": ""} for row in rows], LEDGER_SCHEMA)


def run_of(folder: str, commits: Sequence[tuple[int, Sequence[int]]]) -> Run:
    """A run of one epoch of 12 bags of two clips, in two windows; each commit is its cursor and the slots it names."""
    run = Run(folder)
    for number, slots in enumerate([range(5), range(5, 12)]):
        clips = [[{"clip_id": each} for each in ids(slot)] for slot in slots]
        table = pa.table({"slot": slots, "clips": pa.array(clips, PLAN_SCHEMA.field("clips").type)})
        write_window(run.epoch_url(0, "plan"), number, [table])
    publish(PlanFacts(run.epoch_url(0, "plan"), 0, 12, (Window((0,), 0, 5), Window((1,), 5, 7)), (), 1))
    lineage, last = run.claim(1)
    for cursor, slots in commits:
        at = lineage.folder(0, cursor)
        lineage.write_ledger(at, [trained(slots)])
        last = lineage.commit(at, 0, cursor, 12, last, {})
    return run


@pytest.mark.parametrize("bags_at_once", [1, 6, 100])
@pytest.mark.parametrize(
    ("named", "lost", "twice"),
    [
        ([range(4), range(4, 8), range(8, 12)], 0, 0),
        ([range(4), [4, 5, 7], range(8, 12)], 2, 0),
        ([range(4), [4, 5, 6, 6, 7], range(8, 12)], 0, 2),
        ([range(4), range(4, 8), [0, *range(8, 12)]], 0, 2),  # slot 0 again, in the last commit
        ([[0, 1, 2, 3, 9], range(4, 8), range(8, 12)], 0, 2),  # slot 9 before its time
        ([range(4), range(4, 8), [8, 9, 11, 12]], 2, 2),  # slot 12 is nobody's
    ],
)
def test_what_is_lost_or_trained_twice_is_found(
    tmp_path, monkeypatch: pytest.MonkeyPatch, bags_at_once: int, named: list, lost: int, twice: int
) -> None:
    monkeypatch.setattr(ledger, "BAGS_AT_ONCE", bags_at_once)
    monkeypatch.setattr(ledger, "TASK_BAGS", bags_at_once)
    run = run_of(str(tmp_path), [*zip([4, 8, 12], named, strict=True)])
    tasks: list[int] = []

    def over(items, function):
        tasks.append(len(items))
        return map(function, items)

    found = audit(run, over)
    assert tasks == [{1: 3, 6: 2, 100: 1}[bags_at_once]], "a small epoch is one task, a large one is many"
    assert found == Audit(1, 24, 24 - lost - 2, lost, twice, 2, 1, (1,))
