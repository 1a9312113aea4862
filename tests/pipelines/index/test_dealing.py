"""Videos are dealt to partitions by their ids, and it does not matter who does it, in what order or how often."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptfocus.pipelines.index.deal import Generation, Sizes, partitions_of
from adaptfocus.pipelines.index.load import load_index, open_index, read_partition, read_partitions, read_rows
from adaptfocus.pipelines.index.packets import with_packets
from tests.footage import write_tar
from tests.pipelines.index.tar_samples import index, refused_rows, sample, unread_videos

LABELS = (["a"], ["a", "b"], [], ["c"])
TARS = 6


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six tars of 0 to 10 videos; some ids occur twice, and one member is refused."""
    folder, number = tmp_path_factory.mktemp("tars"), 0
    for tar in range(TARS):
        members = {} if tar else {"bad.json": b"{}"}
        for _ in range(2 * tar):
            spans = [["a", 0, 0.1]] if number % 5 == 0 else None
            members |= sample(f"v{number % 25}", {"labels": LABELS[number % 4], "intervals": spans})
            number += 1
        write_tar(folder / f"{tar}.tar", members)
    return folder


def build(tars: Path, out: Path, **options: Any) -> str:
    with unread_videos():
        index(tars, out=out, isolation=None, **options)
    return str(out)


@given(st.lists(st.text(max_size=8), max_size=20), st.integers(1, 1 << 23))
def test_a_partition_is_a_range_of_hashes(ids: list[str], count: int) -> None:
    hashed = [int.from_bytes(hashlib.blake2b(each.encode(), digest_size=8).digest(), "big") for each in ids]
    found = partitions_of(ids, count).tolist()
    assert found == [value * count >> 64 for value in hashed]
    spans = [Generation("", "", count, 8, 0, 1).hashes(number) for number in found]
    assert all(first <= value <= last for value, (first, last) in zip(hashed, spans, strict=True))


@given(st.integers(1, 1 << 16))
def test_partitions_share_all_hashes(count: int) -> None:
    made = Generation("", "", count, 8, 0, 1)
    assert made.hashes(0)[0] == 0
    assert made.hashes(count - 1)[1] == 2**64 - 1
    assert all(made.hashes(n)[1] + 1 == made.hashes(n + 1)[0] for n in range(min(count - 1, 50)))


@pytest.mark.parametrize(("partition_rows", "partitions"), [(8192, 1), (15, 2), (6, 5)])
def test_each_video_is_in_the_partition_of_its_id(
    tars: Path, tmp_path: Path, partition_rows: int, partitions: int
) -> None:
    one, url = build(tars, tmp_path / "one"), build(tars, tmp_path / "some", sizes=Sizes(partition_rows))
    there = read_partitions(url)
    assert [each.uid for each in there] == list(range(partitions))
    whole = with_packets(load_index(one).table).drop_columns(["packets_url", "video_row"]).to_pylist()
    order = [row["video_id"] for row in whole]
    assert order == [f"v{n}" for n in range(25)], "each id once, as its first shard has it"
    for partition in there:
        table = read_partition(url, partition)
        ids, rows = table["video_id"].to_pylist(), with_packets(table).drop_columns(["packets_url"]).to_pylist()
        assert table["video_row"].to_pylist() == [partition.uid << 24 | n for n in range(partition.rows)]
        assert ids == [each for each in order if partitions_of([each], partitions)[0] == partition.uid]
        assert [{k: v for k, v in row.items() if k != "video_row"} for row in rows] == [
            row for row in whole if row["video_id"] in ids
        ]
        assert partition.unlabelled == sum(not row["labels"] for row in rows)
        assert partition.max_labels == max(len(row["labels"]) for row in rows)
        assert partition.unlocated == sum(
            bool({*row["labels"]} - {span["label"] for span in row["intervals"] or ()}) for row in rows
        )
    facts = open_index(url)
    assert facts.label_counts == Counter(name for row in whole for name in row["labels"])
    assert (facts.videos, facts.unlabelled) == (25, sum(not row["labels"] for row in whole))
    assert refused_rows(Path(url)) == refused_rows(Path(one)) or partitions > 1
    assert sorted(map(str, refused_rows(Path(url)))) == sorted(map(str, refused_rows(Path(one))))
    table = load_index(url, ["labels", "video_id"]).table
    assert table.column_names == ["video_row", "labels", "video_id"]
    assert load_index(url).table.select(table.column_names).equals(table)
    for start, stop in ((0, 25), (4, 4), (3, 17), (24, 25)):
        rows = read_rows(url, start, stop, facts.fingerprint)
        assert rows["video_id"].to_pylist() == table["video_id"].to_pylist()[start:stop]
        assert rows.equals(with_packets(load_index(url).table.slice(start, stop - start)))


class AnyOrder:
    """An `Over` that does the items in a drawn order, and each of them twice."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def __call__(self, items: Sequence[Any], function: Callable[[Any], Any]) -> Iterator[Any]:
        order = [*range(len(items))] * 2
        self.random.shuffle(order)
        done = {number: function(items[number]) for number in order}
        return iter([done[number] for number in range(len(items))])


def test_neither_the_groups_of_tars_nor_the_order_of_tasks_matters(tars: Path, tmp_path: Path) -> None:
    """A fingerprint is a hash of all rows."""
    found = set()
    for number, (group_rows, group_shards, per_range) in enumerate([(100, 100, 8), (1, 1, 1), (7, 2, 3), (100, 2, 2)]):
        sizes = Sizes(6, per_range, group_rows, group_shards, manifest_partitions=8)
        found.add(open_index(build(tars, tmp_path / str(number), sizes=sizes, over=AnyOrder(number))).fingerprint)
    assert len(found) == 1


def test_progress_of_dealing_is_told(tars: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    build(tars, tmp_path / "index", sizes=Sizes(6, 2, group_rows=10), progress=lambda *step: told.append(step))
    dealing = [(done, total) for done, total, what in told if what == "partitions"]
    assert dealing == [(n, len(dealing)) for n in range(1, len(dealing) + 1)]
    assert len(told) - len(dealing) == TARS
