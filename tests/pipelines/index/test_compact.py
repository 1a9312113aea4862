"""An index that has grown is joined and freed of what nothing names: it holds what it held, and old readers go on."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.compact import find_small, join_partitions, remove_unneeded
from adaptfocus.pipelines.index.load import (
    NoSnapshotError,
    notes_of,
    open_index,
    read_partitions,
    read_rows,
)
from adaptfocus.pipelines.index.snapshots import newest_snapshot, snapshot_numbers
from adaptfocus.pipelines.over import in_this_process
from tests.pipelines.index.tar_samples import refused_rows
from tests.pipelines.index.test_growth import SMALL, build, put

NOT_ROWS = ("video_row", "packets_url", "packets_offset_bytes")


def grown(folder: Path) -> Path:
    """Five small calls, the last of which takes a tar away; a tar repeats an id of an earlier one."""
    out = folder / "index"
    put(folder, "b", ["b0", "b1", "b2"], "b")
    for name, count in zip("acde", (5, 2, 1, 1), strict=True):
        keys = [f"{name}{n}" for n in range(count)]
        put(folder, name, [*keys, "a0"] if name == "d" else keys, name)
        build(folder, out)
    (folder / "b.tar").unlink()
    build(folder, out)
    return out


def content(out: Path, fingerprint: str | None = None) -> dict[str, dict]:
    """Id -> all that is known of the video, with its packets."""
    newest = open_index(str(out), fingerprint)
    rows = read_rows(str(out), 0, newest.videos, newest.fingerprint).to_pylist()
    return {row["video_id"]: {k: v for k, v in row.items() if k not in NOT_ROWS} for row in rows}


def files(out: Path, folder: str = "") -> set[str]:
    return {each.url.removeprefix(f"{out}/") for each in store.listed_below(str(out / folder))}


def age(out: Path, hours: float) -> None:
    then = time.time() - 3600 * hours
    for path in out.rglob("*"):
        os.utime(path, (then, then))


def freed(out: Path, keep: int | None, older_than: float = 0.0, **options) -> dict[str, int]:
    found = remove_unneeded(str(out), keep, 3600 * older_than, in_this_process, **options)
    return {each.kind: each.files for each in found if each.files}


def test_small_partitions_are_joined_and_the_index_holds_what_it_held(tmp_path: Path) -> None:
    out = grown(tmp_path)
    first, before, facts = content(out), read_partitions(str(out)), open_index(str(out))
    refused, notes = sorted(map(str, refused_rows(out))), notes_of(str(out))
    small = find_small(str(out), SMALL)
    assert small is not None
    assert (small.partitions, small.partitions_after) == (len(before), -(-len(first) // SMALL.partition_rows))
    now = join_partitions(str(out), in_this_process, SMALL)
    assert now is not None
    after = read_partitions(str(out))
    assert len(after) <= small.partitions_after < len(before)
    assert {each.uid for each in after}.isdisjoint(each.uid for each in before), "a row never means another video"
    assert not any(each.dead for each in after)
    assert content(out) == first
    assert now.parent is None, "who follows the index must not take new rows for new videos"
    assert (sorted(map(str, refused_rows(out))), notes_of(str(out))) == (refused, notes)
    again = open_index(str(out))
    assert (again.videos, again.classes, again.label_counts) == (facts.videos, facts.classes, facts.label_counts)
    assert content(out, facts.fingerprint) == first, "and a run that was begun before reads on"
    assert not files(out, "staged")
    assert join_partitions(str(out), in_this_process, SMALL) is None, "there is nothing more to join"


def test_a_joined_index_grows_and_shrinks_as_any_other(tmp_path: Path) -> None:
    out = grown(tmp_path)
    join_partitions(str(out), in_this_process, SMALL)
    first = content(out)
    (tmp_path / "a.tar").unlink()
    put(tmp_path, "f", ["f0", "c1"], "f")
    done = build(tmp_path, out)
    assert done.shards_read == 2, "the new one, and the one that had lost an id to the one that has gone"
    assert content(out).keys() == {key for key in first if key[0] != "a"} | {"f0", "a0"}
    assert done.refused == {"duplicate_id": 1}
    assert len([*refused_rows(out)]) == 1


def test_what_no_kept_snapshot_names_goes(tmp_path: Path) -> None:
    out = grown(tmp_path)
    fingerprints = [newest_snapshot(str(out)).fingerprint]  # type: ignore[union-attr]
    join_partitions(str(out), in_this_process, SMALL)
    fingerprints.append(newest_snapshot(str(out)).fingerprint)  # type: ignore[union-attr]
    first, every = content(out), files(out)
    assert freed(out, None) == {}, "all is named by some snapshot"
    assert freed(out, 2, dry_run=True)
    assert files(out) == every, "a dry run removes nothing"
    freed(out, 2)
    assert content(out) == content(out, fingerprints[0]) == first
    assert len(files(out, "packets")) == 5, "the snapshot before has dead rows of the tar that has gone"
    gone = freed(out, 1)
    assert gone["rows of partitions"] > 3
    assert gone["packets of tars"] == 1
    assert snapshot_numbers(str(out)) == [newest_snapshot(str(out)).number]  # type: ignore[union-attr]
    assert content(out) == first
    assert freed(out, 1) == {}
    with pytest.raises(NoSnapshotError, match="has lost that snapshot"):
        open_index(str(out), fingerprints[0])
    put(tmp_path, "f", ["f0"], "f")
    assert build(tmp_path, out).shards_read == 1, "what is known of the tars is still there"


def test_a_dry_run_before_joining_says_what_will_go(tmp_path: Path) -> None:
    out = grown(tmp_path)
    said = freed(out, 1, dry_run=True, is_joined_later=True)
    join_partitions(str(out), in_this_process, SMALL)
    assert freed(out, 1) == said


def test_what_another_process_may_be_writing_stays(tmp_path: Path) -> None:
    out = grown(tmp_path)
    age(out, 48)
    for name in ("packets/" + "0" * 32 + ".bin", "rows/000099-" + "0" * 16 + ".parquet", "notes.txt"):
        store.write_bytes(str(out / name), b"x")
    assert freed(out, None, older_than=24) == {}, "they are new"
    store.write_bytes(str(out / "staged" / "x.parquet"), b"x")
    with pytest.raises(InputError, match="another process may be indexing"):
        freed(out, 1, older_than=24)
    age(out, 48)
    gone = freed(out, None, older_than=24)
    assert gone == {"packets of tars": 1, "rows of partitions": 1, "what was read of tars": 1}
    assert (out / "notes.txt").exists(), "it is nothing that an index writes"


def test_two_processes_do_not_both_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = grown(tmp_path)

    def meanwhile(items, function):
        results = [function(item) for item in items]
        if function.__name__ == "write_range" and not (tmp_path / "f.tar").exists():
            put(tmp_path, "f", ["f0"], "f")
            build(tmp_path, out)
        return iter(results)

    def named(items, function):
        return meanwhile(items, function) if hasattr(function, "__name__") else map(function, items)

    with pytest.raises(InputError, match="another process has indexed"):
        join_partitions(str(out), named, SMALL)
    assert "f0" in content(out)
    assert join_partitions(str(out), in_this_process, SMALL) is not None
    assert "f0" in content(out)
