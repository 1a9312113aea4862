"""A plan on the store is complete or absent, and every slot is in exactly one place."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.plan import published as plan_store
from adaptfocus.pipelines.plan.published import (
    PlanFacts,
    Stretch,
    Window,
    epoch_url,
    follow,
    publish,
    read_drawn,
    read_plan,
    write_plan,
)
from adaptfocus.pipelines.plan.resolve import RESOLVE_SCHEMA
from adaptfocus.pipelines.schemas import DECODE_SCHEMA, PLAN_SCHEMA, STEP_SCHEMA, EpochPlan
from adaptfocus.pipelines.store.tables import read_table, write_table
from adaptfocus.pipelines.stream.clips import ClipShape
from tests.pipelines.plan.test_draw import FIVE, RULES, draw, planner_of, video

SHAPE = ClipShape(clips=4, frames=8, size_pixels=224)


def test_a_plan_comes_back_from_its_parts(tmp_path: Path) -> None:
    plan = draw(planner=FIVE)
    with mock.patch.object(plan_store, "BAGS_PER_PART", 3):
        facts = write_plan(plan, str(tmp_path / "plan"), 7)
    assert [part[1:] for part in facts.slices()] == [(0, 3), (0, 1)]
    again = read_plan(str(tmp_path / "plan"))
    assert again == facts
    rows = [row for url, a, b in facts.slices(0) for row in read_table(url, PLAN_SCHEMA, a, b).to_pylist()]
    assert rows == plan.table.to_pylist()


def test_a_plan_in_parts_takes_the_memory_of_one_part(tmp_path: Path) -> None:
    planner = planner_of([video(n, ["jump"]) for n in range(800)])
    assert len(planner.ids) == 800  # they stay with the planner
    peaks = {}
    for bags in (800, 16):
        tracemalloc.start()
        with mock.patch.object(plan_store, "BAGS_PER_PART", bags):
            facts = write_plan(
                draw(planner=planner, rules=dataclasses.replace(RULES, bags_per_batch=4)), str(tmp_path / str(bags)), 0
            )
        peaks[bags] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(list(facts.slices())) == 800 // bags
    assert peaks[16] < peaks[800] / 2, peaks


def test_a_plan_without_its_last_file_is_not_there(tmp_path: Path) -> None:
    """The process was killed while publishing: the parts are there, but the plan is not."""
    write_plan(draw(), str(tmp_path), 0)
    (tmp_path / "plan.json").unlink()
    assert read_plan(str(tmp_path)) is None


def test_writing_the_same_plan_again_changes_no_byte(tmp_path: Path) -> None:
    """Two processes may publish the plan of an epoch at once."""
    write_plan(draw(), str(tmp_path / "a"), 0)
    write_plan(draw(), str(tmp_path / "b"), 0)
    for name in ("plan.json", "part-000000-00000.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any), st.integers(1, 4), st.data())
def test_slices_cover_every_slot_from_the_cursor_on_once(bags: list[int], per_part: int, data: st.DataObject) -> None:
    """The first window of a run may have no bags, and a window has as many parts as it needs."""
    begins = [sum(bags[:n]) for n in range(len(bags))]
    windows = tuple(Window((), begin, own) for begin, own in zip(begins, bags, strict=True))
    total = sum(bags)
    first = data.draw(st.integers(0, total))
    end = data.draw(st.integers(first, total + 3))
    facts = PlanFacts("plan", 0, total, windows, (), 1, per_part)
    slots = []
    for url, start, stop in facts.slices(first, end):
        window, part = (int(each) for each in url.removesuffix(".parquet").split("-")[-2:])
        slots += [begins[window] + part * per_part + row for row in range(start, stop)]
    assert slots == list(range(first, min(end, total)))


def test_a_table_of_another_version_says_so(tmp_path: Path) -> None:
    url = str(tmp_path / "t.parquet")
    write_table(draw().table.drop_columns(["clips"]), url)
    with pytest.raises(InputError, match=r"lacks the columns \['clips'\]: another version wrote it"):
        read_table(url, PLAN_SCHEMA)
    store.write_bytes(url, b"no parquet")
    with pytest.raises(InputError, match="is not a Parquet file"):
        read_table(url, PLAN_SCHEMA)


def test_blocks_divide_a_ranks_share_and_stay_small() -> None:
    """Order through Ray needs blocks that divide a rank's part of a global batch."""
    from adaptfocus.pipelines.stream.on_ray import MAX_BLOCK_BYTES, bags_per_block

    bag_bytes = 4 * 8 * 3 * 224 * 224  # 4.8 MB
    for share in range(1, 65):
        block = bags_per_block(share, SHAPE)
        assert share % block == 0
        assert block * bag_bytes <= MAX_BLOCK_BYTES
    assert bags_per_block(8, SHAPE) == 8
    assert bags_per_block(64, SHAPE) == 8
    assert bags_per_block(13, SHAPE) == 13
    assert bags_per_block(17, SHAPE) == 1


def test_an_empty_plan_is_a_plan(tmp_path: Path) -> None:
    facts = write_plan(EpochPlan.of(PLAN_SCHEMA.empty_table(), (), 1), str(tmp_path), 0)
    assert list(facts.slices(0)) == []


def rows_of(slices) -> list[tuple[int, int]]:
    """(epoch, slot) of some slices."""
    return [(row["occurrence"], row["slot"]) for part in slices for row in read_table(*_args(part)).to_pylist()]


def _args(part):
    url, start, stop = part
    return url, PLAN_SCHEMA, start, stop


def published(run_url: str, epoch: int, kind: str, bags: int) -> None:
    """A plan whose rows say the epoch (as their occurrence) and the slot."""
    whole = draw(planner=FIVE, rules=dataclasses.replace(RULES, bags_per_batch=1)).table
    row = whole.slice(0, 1).to_pylist()[0]
    rows = [row | {"slot": slot, "occurrence": epoch} for slot in range(bags)]
    write_plan(EpochPlan.of(pa.Table.from_pylist(rows, schema=PLAN_SCHEMA), (), 2), epoch_url(run_url, epoch, kind), 0)


def test_following_goes_from_plan_to_plan_and_says_when_it_waits(tmp_path: Path) -> None:
    run = str(tmp_path)
    published(run, 3, "plan", 4)
    published(run, 4, "head", 2)
    slices = follow(Stretch(run, 3, 2, 6, 1, 6))
    assert rows_of([next(slices), next(slices)]) == [(3, 2), (3, 3)]
    assert rows_of([next(slices), next(slices)]) == [(4, 0), (4, 1)], "the head is there before its plan"
    assert next(slices) is None
    published(run, 4, "plan", 5)
    published(run, 5, "plan", 3)
    assert rows_of(slices) == [(4, 2), (4, 3), (4, 4), (5, 0), (5, 1), (5, 2)], "and is not handed out twice"


def test_a_plan_that_is_there_whole_is_read_without_its_head(tmp_path: Path) -> None:
    published(str(tmp_path), 0, "head", 2)
    published(str(tmp_path), 0, "plan", 3)
    assert rows_of(follow(Stretch(str(tmp_path), 0, 1, 1, 1, 3))) == [(0, 1), (0, 2)]


@given(st.integers(0, 30), st.integers(1, 7), st.integers(0, 3), st.integers(1, 300))
def test_chunks_are_whole_batches_and_cover_every_slot_once(
    batches_done: int, per_batch: int, epoch: int, videos: int
) -> None:
    """A resumed run begins in the middle; whatever the plans will hold, no slot is missing and none is read twice."""
    first, most = batches_done * per_batch, videos + per_batch
    stretch = Stretch("run", epoch, first, epoch + 2, per_batch, most)
    chunks = list(stretch.chunks())
    for number, begin in ((epoch, first), (epoch + 1, 0)):
        own = [chunk for chunk in chunks if chunk.epoch == number]
        assert own == sorted(own)
        slots = [slot for chunk in own for slot in range(chunk.first_slot, chunk.end_slot)]
        assert slots == list(range(begin, begin + len(slots)))
        assert begin + len(slots) >= most or begin >= most
        assert all((chunk.end_slot - chunk.first_slot) % per_batch == 0 for chunk in own)


def test_a_plan_of_an_earlier_version_still_tells_what_was_drawn(tmp_path: Path) -> None:
    """A report, or an audit, of a run that was trained before."""
    plan = draw(planner=FIVE)
    old = [{**row, "clips": [clip | {"frame_pts": [1]} for clip in row["clips"]]} for row in plan.table.to_pylist()]
    schema = plan.table.schema
    schema = schema.set(schema.get_field_index("clips"), pa.field("clips", DECODE_SCHEMA.field("clips").type))
    url = str(tmp_path / "part-00000.parquet")
    write_table(pa.Table.from_pylist(old, schema=schema), url)
    values = {"epoch": 0, "num_bags": 4, "part_bags": [4], "carried": [2], "max_labels": 2, "version": 2}
    (tmp_path / "plan.json").write_text(json.dumps(values))
    facts = read_plan(str(tmp_path))
    assert facts
    assert list(facts.slices(1)) == [(url, 1, 4)]
    assert read_drawn(url, STEP_SCHEMA, 1, 3).equals(plan.table.select(STEP_SCHEMA.names).slice(1, 2))
    with pytest.raises(InputError, match=r"lacks the columns .*: another version wrote it"):
        read_table(url, RESOLVE_SCHEMA.append(pa.field("packets_from", pa.string())))


def test_a_plan_of_a_newer_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    write_plan(draw(), str(tmp_path), 0)
    values = json.loads((tmp_path / "plan.json").read_text()) | {"version": 4}
    (tmp_path / "plan.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"is a plan of version 4, newer than version 3, .* update adaptfocus"):
        read_plan(str(tmp_path))


@given(st.integers(0, 40), st.integers(1, 70), st.integers(0, 400), st.integers(1, 3))
def test_chunks_in_pieces_are_the_chunks_one_by_one(first_batch: int, batch: int, max_bags: int, per_piece: int):
    """A run resumes in the middle of an epoch, and its epochs may hold less than a batch or many pieces."""
    stretch = Stretch("run", 1, first_batch * batch, 3, batch, max_bags)
    expected = []
    for epoch in (1, 2):
        slot = first_batch * batch if epoch == 1 else 0
        while slot < max_bags:
            bags = batch if slot < 4 * batch else max(1, 64 // batch) * batch
            expected.append((epoch, slot, slot + bags))
            slot += bags
    with mock.patch.object(plan_store, "CHUNKS_PER_PIECE", per_piece):
        pieces = list(stretch.pieces())
        assert [tuple(chunk) for chunk in stretch.chunks()] == expected
    assert max((len(ends) - 1 for _, ends in pieces), default=0) <= max(4, per_piece)


def test_a_stream_of_a_hundred_million_bags_begins_at_once():
    tracemalloc.start()
    try:
        chunks = Stretch("run", 0, 0, 30, 1024, 100_000_000).chunks()
        assert [next(chunks) for _ in range(5)][-1] == (0, 4096, 5120)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "change",
    [
        {"windows": [[[0], 0, 9], [[1], 8, 1]]},
        {"windows": [[[0], 0, 4], [[1], 6, 6]]},
        {"windows": [[[0], 0, 1 << 40]]},
        {"windows": [[[0], 0, 4], [[2], 11, 0], [[1], 4, 6]]},
        {"windows": [[[-1], 0, 10]]},
        {"windows": [[0, 0, 10]]},
        {"windows": 3},
        {"num_bags": -1},
        {"bags_per_part": 0},
        {"carried": ["a"]},
        {"epoch": None},
    ],
)
def test_a_damaged_plan_is_refused_before_a_slot_is_lost(tmp_path: Path, change: dict) -> None:
    windows = [[[0], 0, 4], [[1], 4, 6], [[2], 11, 0]]  # the videos of the last one are all carried over
    whole = {"version": 3, "epoch": 0, "num_bags": 10, "windows": windows, "carried": [9],
             "max_labels": 1, "bags_per_part": 2}  # fmt: skip
    assert read_plan(_written(tmp_path, whole)) is not None
    with pytest.raises(InputError, match=r"plan\.json is damaged .*; remove it, and it is drawn again"):
        read_plan(_written(tmp_path, whole | change))


def _written(folder: Path, values: dict) -> str:
    (folder / "plan.json").write_text(json.dumps(values))
    return str(folder)


def test_a_plan_that_has_grown_is_listed_to_its_end(tmp_path: Path) -> None:
    """The stretch was told of 6 bags; the second plan has 1500, and the third 6 again."""
    run = str(tmp_path)
    for epoch, bags in ((1, 6), (2, 1500), (3, 6)):
        publish(PlanFacts(epoch_url(run, epoch, "plan"), epoch, bags, (Window((), 0, bags),), (), 1))
    stretch = Stretch(run, 1, 2, 4, 1, 6, may_grow=True)
    pieces = [*stretch.pieces()]
    for epoch, first in ((1, 2), (2, 0), (3, 0)):
        ends = [end for at, own in pieces if at == epoch for end in own.tolist()]
        assert (ends[0], ends[-1]) == (first, 1 << 36)
        assert ends == sorted(ends), "no slot twice"
    assert sum(len(ends) - 1 for _, ends in pieces) < 3 * 8, "hardly more chunks than there would be"
    slices = [*follow(stretch)]
    assert sum(end - start for _, start, end in slices) == 4 + 1500 + 6, "and all of it is read"
    assert max(end - start for _, start, end in slices) <= 1024
