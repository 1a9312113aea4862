"""A plan on the store: whole or not there, and every slot found in exactly one place."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import plan_store, storage
from pipelines.clip_stream import ClipShape
from pipelines.errors import InputError
from pipelines.plan_store import PlanFacts, read_plan, write_plan
from pipelines.records import PLAN_SCHEMA, EpochPlan
from pipelines.tables import read_table, write_table
from tests.pipelines.test_clip_plan import FIVE, draw

SHAPE = ClipShape(clips=4, frames=8, size_pixels=224, max_labels=3, bins=20)


def test_a_plan_comes_back_and_its_parts_hold_whole_batches(tmp_path: Path) -> None:
    plan = draw(planner=FIVE)
    with mock.patch.object(plan_store, "BAGS_PER_PART", 3):  # batches of 2: parts of 2, not of 3
        facts = write_plan(plan, str(tmp_path / "plan"), 7, bags_per_batch=2)
    assert facts.part_bags == (2, 2)
    again = read_plan(str(tmp_path / "plan"))
    assert again == facts
    rows = [row for url, a, b in facts.slices(0) for row in read_table(url, PLAN_SCHEMA, a, b).to_pylist()]
    assert rows == plan.table.to_pylist()


def test_a_plan_without_its_last_file_is_not_there(tmp_path: Path) -> None:
    """Killed while publishing: the parts lie there, the plan does not."""
    write_plan(draw(), str(tmp_path), 0, bags_per_batch=2)
    (tmp_path / "plan.json").unlink()
    assert read_plan(str(tmp_path)) is None


def test_writing_the_same_plan_again_changes_no_byte(tmp_path: Path) -> None:
    """Two processes may publish the plan of an epoch at once."""
    write_plan(draw(), str(tmp_path / "a"), 0, bags_per_batch=2)
    write_plan(draw(), str(tmp_path / "b"), 0, bags_per_batch=2)
    for name in ("plan.json", "part-00000.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.data())
def test_slices_cover_every_slot_from_the_cursor_on_once(parts: list[int], data: st.DataObject) -> None:
    total = sum(parts)
    first = data.draw(st.integers(0, total))
    facts = PlanFacts("plan", 0, total, tuple(parts), (), 1)
    begins = [sum(parts[:n]) for n in range(len(parts))]
    slots = []
    for url, start, stop in facts.slices(first):
        number = int(url.removesuffix(".parquet").rsplit("-", 1)[-1])
        slots += [begins[number] + row for row in range(start, stop)]
    assert slots == list(range(first, total))


def test_a_table_of_another_version_says_so(tmp_path: Path) -> None:
    url = str(tmp_path / "t.parquet")
    write_table(draw().table.drop_columns(["clips"]), url)
    with pytest.raises(InputError, match=r"lacks the columns \['clips'\]: it was written by another version"):
        read_table(url, PLAN_SCHEMA)
    storage.write_bytes(url, b"no parquet")
    with pytest.raises(InputError, match="is not a Parquet file"):
        read_table(url, PLAN_SCHEMA)


def test_blocks_divide_a_ranks_share_and_stay_small() -> None:
    """Order through Ray needs blocks that divide a rank's part of a global batch."""
    from pipelines.ray_data import MAX_BLOCK_BYTES, bags_per_block

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
    facts = write_plan(EpochPlan(PLAN_SCHEMA.empty_table(), (), 1), str(tmp_path), 0, bags_per_batch=2)
    assert list(facts.slices(0)) == []
