"""An index of version 3 becomes one of this version without a request for the content of a tar."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.load import load_index, open_index, refused_of
from adaptfocus.pipelines.index.packets import with_packets
from adaptfocus.pipelines.index.shard_lists import read_shards
from adaptfocus.pipelines.index.snapshots import newest_snapshot
from adaptfocus.pipelines.schemas import REFUSED_SCHEMA, SHARD_FIELDS
from tests.footage import encode, write_tar
from tests.pipelines.index.tar_samples import index, ranges_asked, refused_rows, sample

LATER = ["video_row", "packets_url", "packets_offset_bytes", "packets_size_bytes", *(name for name, _ in SHARD_FIELDS)]


def write_version_3(index_of_now: Path, out: Path) -> None:
    """The same index as version 3 wrote it: for each tar a table of rows with packets, and one of what was refused."""
    snapshot = newest_snapshot(str(index_of_now))
    assert snapshot is not None
    rows = with_packets(load_index(str(index_of_now)).table)
    parts, refused = [], list(refused_of(str(index_of_now)))
    for folder in ("videos", "refused"):
        (out / folder).mkdir(parents=True)
    shards = [each for name in snapshot.shard_lists for each in read_shards(str(index_of_now), name)]
    for number, shard in enumerate(shards):
        table = rows.filter(pa.array([url == shard.url for url in rows["shard_url"].to_pylist()]))
        own = [row for row in refused if row["shard_url"] == shard.url]
        labels = table["labels"].to_pylist()
        facts = {
            "rows": table.num_rows, "unlabelled": sum(not names for names in labels), "seconds": 0.5,
            "refused": dict(Counter(row["kind"] for row in own)), "max_labels": max(map(len, labels), default=0),
            "labels": sorted({name for names in labels for name in names}),
        }  # fmt: skip
        name = f"{number:05d}-{shard.identity}" + ("-0123abcd" if shard.lost_ids else "")
        stored = table.drop_columns(LATER).replace_schema_metadata({"adaptfocus": json.dumps(facts)})
        pq.write_table(stored, out / "videos" / f"{name}.parquet")
        pq.write_table(pa.Table.from_pylist(own, schema=REFUSED_SCHEMA), out / "refused" / f"{name}.parquet")
        del facts["labels"]
        parts.append(
            {"shard_url": shard.url, "size_bytes": shard.size_bytes, "tag": shard.tag, "identity": shard.identity}
            | {"name": name, "facts": facts}
        )
    entry = {"schema_version": 3, "fingerprint": "of version 3", "videos": rows.num_rows, "refused": len(refused)}
    (out / "index.json").write_text(json.dumps(entry | {"classes": snapshot.classes, "parts": parts}))


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    folder = tmp_path / "tars"
    folder.mkdir()
    write_tar(folder / "0.tar", {**sample("a", {"labels": ["x"]}), **sample("b", None, encode(20))})
    write_tar(folder / "1.tar", {**sample("a", {"labels": ["y"]}), **sample("c"), "bad.mp4": b"?"})
    write_tar(folder / "2.tar", sample("d", {"labels": ["z"], "intervals": [["z", 0, 0.3]]}))
    return folder


def content(out: Path) -> list[dict]:
    table = with_packets(load_index(str(out)).table)
    return table.drop_columns(["packets_url", "packets_offset_bytes"]).to_pylist()


def test_it_is_taken_over_without_reading_a_tar(tars: Path, tmp_path: Path) -> None:
    index(tars, out=tmp_path / "now")
    write_version_3(tmp_path / "now", tmp_path / "old")
    with pytest.raises(InputError, match=r"has schema version 3, .* run `adaptfocus index` again with the same shards"):
        open_index(str(tmp_path / "old"))
    with ranges_asked() as asked:
        summary = index(tars, out=tmp_path / "old")
    assert not [url for url, _, _ in asked if url.endswith(".tar")]
    assert (summary.shards_read, summary.shards_unchanged, summary.videos) == (0, 3, 4)
    assert content(tmp_path / "old") == content(tmp_path / "now")
    assert refused_rows(tmp_path / "old") == refused_rows(tmp_path / "now")
    assert open_index(str(tmp_path / "old")).fingerprint != "of version 3"
    assert not [path for path in (tmp_path / "old").rglob("*") if path.parent.name == "videos"]
    assert not (tmp_path / "old" / "index.json").exists()
    again = index(tars, out=tmp_path / "old")
    assert (again.shards_read, len([*(tmp_path / "old" / "snapshots").iterdir()])) == (0, 1)


def test_only_changed_shards_and_those_that_may_have_freed_ids_are_read(tars: Path, tmp_path: Path) -> None:
    index(tars, out=tmp_path / "now")
    write_version_3(tmp_path / "now", tmp_path / "old")
    write_tar(tars / "0.tar", sample("b"))
    assert index(tars, out=tmp_path / "old").shards_read == 2, "the second had lost an id to the first"
    index(tars, out=tmp_path / "new")
    assert content(tmp_path / "old") == content(tmp_path / "new")


def test_a_damaged_one_is_named(tars: Path, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    place = tmp_path / "old" / "index.json"
    for damaged in ("{", json.dumps({"schema_version": 3, "parts": [{"name": "x"}]})):
        place.write_text(damaged)
        with pytest.raises(
            InputError, match=r"index.json is damaged \(.*\); remove it and run `adaptfocus index` again"
        ):
            index(tars, out=tmp_path / "old")
    place.write_text(json.dumps({"schema_version": 2, "parts": [{"name": "x"}]}))
    assert index(tars, out=tmp_path / "old").shards_read == 3, "what is older is read again"
