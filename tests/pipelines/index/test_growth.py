"""An index that grows, shrinks and is interrupted: what stays keeps its row, and earlier snapshots stay as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import BadVideoError, InputError
from adaptfocus.pipelines.index import build as build_module
from adaptfocus.pipelines.index import deal
from adaptfocus.pipelines.index import rows as index_rows
from adaptfocus.pipelines.index.build import IndexSummary
from adaptfocus.pipelines.index.deal import Sizes
from adaptfocus.pipelines.index.load import load_index, open_index, read_partitions, read_rows
from adaptfocus.pipelines.index.partitions import Partition, write_manifests
from adaptfocus.pipelines.index.shard_lists import IndexedShard, write_shards
from adaptfocus.pipelines.index.snapshots import Snapshot, newest_snapshot, write_snapshot
from adaptfocus.pipelines.over import in_this_process
from adaptfocus.pipelines.store import objects
from tests.footage import encode, write_tar
from tests.pipelines.index.tar_samples import index, refused_rows, sample, unread_videos

SMALL = Sizes(partition_rows=4, range_partitions=2, group_rows=5, manifest_partitions=2, list_shards=2)


def build(tars: Path, out: Path, **options: Any) -> IndexSummary:
    with unread_videos():
        return index(tars, out=out, isolation=None, **{"sizes": SMALL, **options})


def put(folder: Path, name: str, keys: list[str], label: str = "x") -> None:
    write_tar(folder / f"{name}.tar", {k: v for key in keys for k, v in sample(key, {"labels": [label]}).items()})


def ids(out: Path) -> dict[str, int]:
    """Id -> its video_row."""
    table = load_index(str(out), ["video_id"]).table
    return dict(zip(table["video_id"].to_pylist(), table["video_row"].to_pylist(), strict=True))


ACTIONS = st.lists(
    st.dictionaries(st.integers(0, 3), st.none() | st.sets(st.integers(0, 9), min_size=1, max_size=6), max_size=3),
    min_size=2,
    max_size=4,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTIONS)
def test_whatever_happens_to_the_tars_each_id_is_there_once_and_no_row_is_given_twice(
    tmp_path_factory: pytest.TempPathFactory, actions: list[dict[int, set[int] | None]]
) -> None:
    """Each step replaces tars by others (or removes them); the label of a video tells its tar and step."""
    folder = tmp_path_factory.mktemp("growth")
    tars, now = folder / "tars", {}
    tars.mkdir()
    put(tars, "always", ["always"])
    rows: dict[int, tuple[str, str]] = {}  # video_row -> (id, label): for ever
    classes: list[str] = []
    for step, action in enumerate([{}, *actions]):
        for tar, keys in action.items():
            (tars / f"{tar}.tar").unlink(missing_ok=True)
            now.pop(tar, None)
            if keys:
                now[tar] = {f"v{key}": f"{tar}-{step}" for key in keys}
                put(tars, str(tar), [*now[tar]], f"{tar}-{step}")
        summary = build(tars, folder / "index")
        table = load_index(str(folder / "index")).table
        found = dict(zip(table["video_id"].to_pylist(), table["labels"].to_pylist(), strict=True))
        assert table.num_rows == len(found) == summary.videos
        assert found.keys() == {"always"}.union(*now.values())
        assert all(labels[0] in {tar.get(key, "x") for tar in now.values()} | {"x"} for key, labels in found.items())
        for row, key, labels in zip(*(table[c].to_pylist() for c in ("video_row", "video_id", "labels")), strict=True):
            assert rows.setdefault(row, (key, labels[0])) == (key, labels[0])
        assert summary.refused.get("duplicate_id", 0) == sum(map(len, now.values())) + 1 - len(found)
        assert len([*refused_rows(folder / "index")]) == sum(summary.refused.values())
        facts = open_index(str(folder / "index"))
        assert sum(facts.label_counts.values()) == facts.videos
        there = {labels[0] for labels in found.values()}
        classes = [name for name in classes if name in there]
        classes += sorted(there - {*classes})
        assert facts.classes == classes, "those before keep their order, and new ones come behind"
        again = build(tars, folder / "index")
        assert (again.shards_read, open_index(str(folder / "index"))) == (0, facts), "nothing has changed"


def test_growth_leaves_everything_that_is_there(tmp_path: Path) -> None:
    out = tmp_path / "index"
    put(tmp_path, "1", [f"a{n}" for n in range(9)])
    build(tmp_path, out)
    before, first, files = ids(out), open_index(str(out)), {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    put(tmp_path, "0", [f"b{n}" for n in range(9)])
    assert build(tmp_path, out).shards_read == 1
    assert {path: path.read_bytes() for path in files} == files
    assert ids(out) == before | ids(out)
    assert min(row for key, row in ids(out).items() if key[0] == "b") >> 24 == 3
    rows = read_rows(str(out), 0, 9, first.fingerprint)
    assert sorted(rows["video_id"].to_pylist()) == sorted(before), "a reader of the snapshot before goes on"
    with pytest.raises(InputError, match="was made again meanwhile"):
        read_rows(str(out), 0, 1, "of another")


def test_a_class_is_appended_and_what_was_indexed_without_it_stays(tmp_path: Path) -> None:
    """Shards with a label that the shorter list did not have are read again, and no others."""
    out, options = tmp_path / "index", {"sizes": SMALL}
    for name, label in (("1", "run"), ("2", "jump"), ("3", "eat")):
        put(tmp_path, name, [f"{name}{n}" for n in range(3)], label)
    first = build(tmp_path, out, classes=["run", "jump"], **options)
    assert (first.videos, first.refused) == (6, {"label_not_in_classes": 3})
    partitions, put_4 = read_partitions(str(out)), ["4a", "4b"]
    put(tmp_path, "4", put_4, "climb")
    longer = ["run", "jump", "eat", "climb"]
    assert (build(tmp_path, out, classes=longer, **options).shards_read, len(ids(out))) == (2, 11)
    assert {*partitions} < {*read_partitions(str(out))}
    assert open_index(str(out)).label_counts == {"run": 3, "jump": 3, "eat": 3, "climb": 2}
    assert build(tmp_path, out, classes=longer, **options).shards_read == 0
    assert build(tmp_path, out, classes=[*longer, "rest"], **options).shards_read == 0
    assert open_index(str(out)).classes == [*longer, "rest"]
    assert build(tmp_path, out, classes=["jump", *longer[:1], *longer[2:]], **options).shards_read == 4, "other numbers"


def test_what_goes_leaves_a_list_and_then_nothing(tmp_path: Path) -> None:
    out = tmp_path / "index"
    for name in "abc":
        put(tmp_path, name, [f"{name}{n}" for n in range(6)], name)
    build(tmp_path, out)
    before, partitions = ids(out), read_partitions(str(out))
    (tmp_path / "b.tar").unlink()
    assert build(tmp_path, out).videos == 12
    assert ids(out) == {key: row for key, row in before.items() if key[0] != "b"}
    assert open_index(str(out)).label_counts == {"a": 6, "c": 6}
    after = read_partitions(str(out))
    assert {each.name for each in after} <= {each.name for each in partitions}, "no row is written again"
    assert any(each.dead for each in after)
    (tmp_path / "a.tar").unlink()
    build(tmp_path, out)
    assert ids(out) == {key: row for key, row in before.items() if key[0] == "c"}
    put(tmp_path, "d", ["d"])
    (tmp_path / "c.tar").unlink()
    build(tmp_path, out)
    assert [(each.uid, each.rows, each.dead) for each in read_partitions(str(out))] == [(5, 1, None)]


def test_indexing_that_was_killed_reads_no_tar_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "index"
    for name in "abc":
        put(tmp_path, name, [f"{name}{n}" for n in range(6)])

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    def killed_in_the_middle(items: Any, function: Any) -> Any:
        for number, found in enumerate(in_this_process(items, function)):
            if number == 2:
                raise KeyboardInterrupt
            yield found

    for name, instead in (("in_this_process", killed_in_the_middle), ("write_snapshot", killed)):
        with monkeypatch.context() as patch:
            patch.setattr(build_module, name, instead)
            with pytest.raises(KeyboardInterrupt):
                build(tmp_path, out)
    with pytest.raises(InputError, match="there is no index at"):
        open_index(str(out))
    assert build(tmp_path, out).shards_read == 0
    assert not [*(out / "staged").iterdir()]
    build(tmp_path, tmp_path / "at once")
    assert open_index(str(out)) == open_index(str(tmp_path / "at once"))


def test_of_two_at_once_the_second_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, write = tmp_path / "index", build_module.write_snapshot
    for name in "ab":
        put(tmp_path, name, [f"{name}{n}" for n in range(3)])

    def late(*given: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(build_module, "write_snapshot", write)
            build(tmp_path / "a.tar", out)
        write(*given)

    with monkeypatch.context() as patch:
        patch.setattr(build_module, "write_snapshot", late)
        with pytest.raises(InputError, match=r"another process has indexed into .* run `adaptfocus index` again"):
            build(tmp_path, out)
    assert ids(out).keys() == {"a0", "a1", "a2"}
    assert build(tmp_path, out).videos == 6


def test_an_index_of_100000_tars_opens_with_few_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, sizes, shards = str(tmp_path), Sizes(), 100_000
    partitions = [Partition(n, 8192, f"{n:06d}-{n:016x}", 0, 0, 1, None, 8192, n, n) for n in range(12_207)]
    known = [IndexedShard(f"s3://b/{n}.tar", n, "", f"{n:016x}", 1000, {}, 0, 12_207, 0.0) for n in range(shards)]
    videos = 8192 * len(partitions)
    manifests = write_manifests(url, partitions, sizes.manifest_partitions)
    lists = write_shards(url, known, sizes.list_shards)
    write_snapshot(
        url, Snapshot(0, None, "f", videos, 0, 1, ["x"], {"x": videos}, {}, 12_207, manifests, lists, []),
    )  # fmt: skip
    asked, ask = [], objects.with_retries
    monkeypatch.setattr(objects, "with_retries", lambda place, *how: asked.append(place) or ask(place, *how))
    assert open_index(url).videos == videos
    assert read_partitions(url) == tuple(partitions)
    assert len(asked) <= 10
    assert max(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 4 << 20
    assert store.list_files(f"{url}/snapshots")


def test_a_tar_that_is_read_again_with_another_result_leaves_earlier_snapshots_their_packets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time one of its videos took too long; the tar left the index meanwhile and came back."""
    tars, out = tmp_path / "tars", tmp_path / "index"
    tars.mkdir()
    videos = {"bad": encode(30), "good": encode(12)}
    write_tar(tars / "a.tar", {f"{key}.mp4": video for key, video in videos.items()})
    write_tar(tars / "b.tar", {"other.mp4": encode(5)})
    read = index_rows.read_packet_table

    def slow(file: Any, size_bytes: int, head: bytes) -> Any:
        if size_bytes == len(videos["bad"]):
            raise BadVideoError("timed_out", "it took too long")
        return read(file, size_bytes, head)

    with monkeypatch.context() as patch:
        patch.setattr(index_rows, "read_packet_table", slow)
        index(tars, out=out, isolation=None)
    first = open_index(str(out)).fingerprint
    before = read_rows(str(out), 0, 2, first)
    for shards in ([tars / "b.tar"], [tars]):
        index(*shards, out=out, isolation=None)
    assert load_index(str(out)).table.num_rows == 3
    assert read_rows(str(out), 0, 2, first).equals(before)


def test_a_call_that_changes_nothing_leaves_the_work_of_one_that_is_indexing(tmp_path: Path) -> None:
    """A tar comes. While its videos are dealt, another call is given the tars that the index has already."""
    out = tmp_path / "index"
    put(tmp_path, "a", ["a0"])
    build(tmp_path, out)
    put(tmp_path, "b", ["b0", "b1"])

    def with_another(items: Any, function: Any) -> Any:
        found = list(in_this_process(items, function))
        if function is deal.write_group:
            assert build(tmp_path / "a.tar", out).shards_read == 0
        return iter(found)

    assert build(tmp_path, out, over=with_another).videos == 3


@pytest.mark.parametrize("uids", [(0, 0), (0, 2), (-1, 1)])
def test_partitions_that_share_a_uid_are_refused(tmp_path: Path, uids: tuple[int, int]) -> None:
    """Otherwise two videos would have one `video_row`, and the scores of one would count for the other."""
    put(tmp_path, "a", [f"a{n}" for n in range(8)])
    build(tmp_path, tmp_path / "index")
    url = str(tmp_path / "index")
    snapshot = newest_snapshot(url)
    assert snapshot is not None
    parts = [replace(each, uid=uid) for each, uid in zip(read_partitions(url), uids, strict=True)]
    changed = replace(snapshot, number=1, parent=0, manifests=write_manifests(url, parts, 2))
    write_snapshot(url, changed)
    with pytest.raises(InputError, match=r"000001\.json is damaged \(its manifests do not have each partition once"):
        read_partitions(url)
