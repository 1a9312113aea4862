"""An odd sample or tar only costs itself; `index` reads what `pack` writes; labels files fit or are refused."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines.annotations.names import key_of, normal, normal_id
from adaptfocus.pipelines.annotations.rows import AnnotatedVideo
from adaptfocus.pipelines.errors import BadVideoError, InputError, StorageError, as_bad_video
from adaptfocus.pipelines.index import rows as index_rows
from adaptfocus.pipelines.index.build import IndexSummary, build_index
from adaptfocus.pipelines.index.load import load_index, refused_of
from adaptfocus.pipelines.shards import inspecting
from adaptfocus.pipelines.shards.packing import pack
from tests.footage import encode, write_tar

VIDEO = encode(5)
DIGITS = "1" + "0" * 400


def index(*shards: Path, out: Path, **options: Any) -> IndexSummary:
    return build_index([str(shard) for shard in shards], str(out), workers=1, isolation=None, **options)


def labels_in(out: Path) -> dict[str, list[str]]:
    table = load_index(str(out), ["video_id", "labels"]).table
    return dict(zip(table["video_id"].to_pylist(), table["labels"].to_pylist(), strict=True))


ODD_TEXTS = {
    "surrogate in a label": b'{"labels": ["\\ud800"]}',
    "surrogate in an interval": b'{"intervals": [["\\udfff", 0, 1]]}',
    "control character": b'{"labels": ["a\\u0000b"]}',
    "interval of 400 digits": b'{"labels": ["x"], "intervals": [["x", %s, 2]]}' % DIGITS.encode(),
    "interval of truth values": b'{"labels": ["x"], "intervals": [["x", false, true]]}',
    "interval of objects": b'{"intervals": [{"label": "x", "start_seconds": {}, "end_seconds": 1}]}',
    "intervals by label": b'{"intervals": {"x": [[0, 1]]}}',
    "number of 400 digits": b'{"labels": [%s]}' % DIGITS.encode(),
    "number of 5000 digits": b'{"labels": [%s]}' % (b"9" * 5000),
    "truth values": b'{"labels": [true, false]}',
    "object": b'{"labels": {"x": 1}}',
    "lists in lists": b'{"labels": [["x"]]}',
    "nested": b'{"labels": %s' % (b"[" * 50_000),
    "not UTF-8": '{"labels": ["é"]}'.encode("latin-1"),
    "no JSON": b"labels: [x]",
}


@pytest.fixture(scope="module")
def odd_index(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, IndexSummary]:
    """An index of a shard with a good sample and one of each odd kind."""
    folder = tmp_path_factory.mktemp("odd")
    members = {"good.mp4": VIDEO, "good.json": b'{"labels": ["x"]}'}
    for number, text in enumerate(ODD_TEXTS.values()):
        members |= {f"{number}.mp4": VIDEO, f"{number}.json": text}
    members |= {"nan.mp4": VIDEO, "nan.json": b'{"intervals": [["x", NaN, 1], ["x", 0, Infinity], ["x", 0, 0.2]]}'}
    return folder / "index", index(write_tar(folder / "s.tar", members), out=folder / "index")


@pytest.mark.parametrize("name", ODD_TEXTS)
def test_an_odd_sample_is_refused_with_its_reason(odd_index: tuple[Path, IndexSummary], name: str) -> None:
    rows = {row["video_id"]: row for row in refused_of(str(odd_index[0])) if not row["kind"].startswith("interval_")}
    row = rows[str([*ODD_TEXTS].index(name))]
    assert row["kind"] in ("bad_sample_json", "label_not_in_classes")
    assert 15 < len(row["message"]) < 400


def test_the_others_are_indexed(odd_index: tuple[Path, IndexSummary]) -> None:
    out, summary = odd_index
    assert labels_in(out) == {"good": ["x"], "nan": ["x"]}
    assert sum(summary.refused.values()) == len(ODD_TEXTS)
    assert summary.intervals_changed == {"interval_clamped": 1, "interval_dropped": 1}
    (spans,) = (row["intervals"] for row in load_index(str(out)).table.to_pylist() if row["video_id"] == "nan")
    assert [span["end_seconds"] for span in spans] == [0.5, 0.2]
    assert len(summary.reasons) == 3
    assert all("s.tar" in line for line in summary.reasons)


def test_any_exception_of_a_video_or_a_tar_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {"a.mp4": VIDEO, "b.mp4": VIDEO, "c.mp4": VIDEO}
    write_tar(tmp_path / "0.tar", members)
    write_tar(tmp_path / "1.tar", {"d.mp4": VIDEO})
    read_table, read_samples = index_rows.read_packet_table, index_rows.read_samples
    errors = iter([KeyError("moov"), MemoryError(), None])

    def odd_table(*given: Any) -> Any:
        if error := next(errors, None):
            raise error
        return read_table(*given)

    def odd_tar(url: str, size_bytes: int) -> Any:
        if url.endswith("1.tar"):
            raise RecursionError("maximum recursion depth exceeded")
        return read_samples(url, size_bytes)

    monkeypatch.setattr(index_rows, "read_packet_table", odd_table)
    monkeypatch.setattr(index_rows, "read_samples", odd_tar)
    summary = index(tmp_path, out=tmp_path / "index")
    assert [*labels_in(tmp_path / "index")] == ["c"]
    assert summary.refused == {"out_of_memory": 1, "unexpected_error": 2}
    rows = {(row["video_id"], row["kind"]): row["message"] for row in refused_of(str(tmp_path / "index"))}
    assert rows["a", "unexpected_error"].startswith("KeyError: 'moov'")
    assert rows["", "unexpected_error"].startswith("RecursionError: maximum recursion")
    assert "use fewer workers" in rows["b", "out_of_memory"]


def test_a_row_that_cannot_be_stored_costs_its_own_video_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example, half of a surrogate pair that passed the checks."""
    monkeypatch.setattr(index_rows, "parse_labels", lambda value: tuple(value or ()))
    members = {f"{key}.mp4": VIDEO for key in "abc"} | {"b.json": b'{"labels": ["\\ud800"]}'}
    summary = index(write_tar(tmp_path / "s.tar", members), out=tmp_path / "index")
    assert (summary.videos, summary.refused) == (2, {"unexpected_error": 1})
    (row,) = refused_of(str(tmp_path / "index"))
    assert (row["video_id"], row["message"].split(":")[0]) == ("b", "UnicodeEncodeError")


def test_what_is_about_the_store_is_not_a_videos_fault() -> None:
    with pytest.raises(StorageError):
        as_bad_video(StorageError("down"))
    assert as_bad_video(BadVideoError("cut_off", "x")).kind == "cut_off"
    assert (
        as_bad_video(RuntimeError("a\nb\nValueError: the last line\n"))
        .args[0]
        .startswith("RuntimeError: ValueError: the last line")
    )
    assert as_bad_video(ValueError("half \ud800")).args[0].encode(), "it can be stored"


def test_any_exception_of_a_video_leaves_it_out_of_a_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = inspecting.read_packet_table_apart

    def odd(file: Any, *given: Any) -> Any:
        if file.url.endswith("a.mp4"):
            raise IndexError("list index out of range")
        return read(file, *given)

    monkeypatch.setattr(inspecting, "read_packet_table_apart", odd)
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_bytes(VIDEO)
    (tmp_path / "folder.mp4").mkdir()
    videos = [AnnotatedVideo(name, str(tmp_path / f"{name}.mp4"), ("x",)) for name in ("a", "b", "folder")]
    summary = pack(videos, str(tmp_path / "out"))
    assert (summary.videos, summary.counts) == (1, {"unexpected_error": 1, "unreadable_file": 1})
    assert "IndexError: list index out of range" in summary.problems[0].message


# ---- pack -> index ---------------------------------------------------------------------------------------------------
# Line ends that only some readers know, separators, marks that join the letter before them, a byte-order mark.
ODD = st.sampled_from(list("ab;,. \n\r\x85\u2028\x0b\u3000\u0301e\ufeff_"))
LABELS = st.text(st.one_of(ODD, st.characters(exclude_categories=["Cs", "Cc"])), max_size=5)
IDS = st.one_of(
    st.text(
        st.one_of(st.sampled_from("ab._ \u0301e"), st.characters(exclude_categories=["Cs", "Cc"])),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(
        ["a", "a.b", "x/y", "__a__", "._a", "Thumbs.db", "__MACOSX/a", "PaxHeaders.1/a", "../a", "a\ud800"]
    ),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(IDS, st.lists(LABELS, max_size=3)), min_size=1, max_size=2))
def test_what_pack_writes_index_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[tuple[str, list[str]]]
) -> None:
    """Any video is refused before anything is written, left out with a reason, or read back correctly."""
    monkeypatch.setattr(inspecting, "read_packet_table_apart", lambda file, size, head, _: TABLE)
    monkeypatch.setattr(index_rows, "read_packet_table", lambda *_: TABLE)
    (tmp_path / "v.mp4").write_bytes(VIDEO)
    videos = [AnnotatedVideo(name, str(tmp_path / "v.mp4"), tuple(labels)) for name, labels in rows]
    try:
        summary = pack(videos, str(tmp_path / "out"), overwrite=True)
    except InputError:
        return
    index(tmp_path / "out", out=tmp_path / "index")
    left_out = {problem.where for problem in summary.problems}
    assert set(summary.counts) <= {"reserved_key", "key_collision"}
    wanted = {
        key_of(normal_id(name)): list(dict.fromkeys(filter(None, map(normal, labels))))
        for name, labels in rows
        if normal_id(name) not in left_out
    }
    assert labels_in(tmp_path / "index") == wanted
    assert load_index(str(tmp_path / "index"), ["video_id"]).classes == sorted(
        {x for labels in wanted.values() for x in labels}
    )


def _table() -> Any:
    import io

    from adaptfocus.pipelines.inspection.packet_table import read_packet_table

    return read_packet_table(io.BytesIO(VIDEO), len(VIDEO), b"")  # type: ignore[arg-type]


TABLE = _table()


@pytest.mark.parametrize("classes", [None, [], ["x", "y"]])
def test_videos_without_labels_are_packed_and_indexed(tmp_path: Path, classes: list[str] | None) -> None:
    (tmp_path / "v.mp4").write_bytes(VIDEO)
    pack([AnnotatedVideo("v", str(tmp_path / "v.mp4"), ())], str(tmp_path / "out"), classes=classes)
    assert index(tmp_path / "out", out=tmp_path / "index").classes == tuple(classes or ())
    assert labels_in(tmp_path / "index") == {"v": []}


def test_two_unicode_forms_of_a_label_are_one(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    members = {"a.mp4": VIDEO, "b.mp4": VIDEO, "c.mp4": VIDEO, "c.cls": apart.encode()}
    members |= {
        "a.json": json.dumps({"labels": [apart]}).encode(),
        "b.json": json.dumps({"labels": [composed]}).encode(),
    }
    shard = write_tar(tmp_path / "s.tar", members)
    assert index(shard, out=tmp_path / "index").classes == (composed,)
    (tmp_path / "classes.txt").write_text(f"{apart}\nrun\n")
    assert index(shard, out=tmp_path / "index").refused == {}
    (tmp_path / "l.csv").write_text(f"id,labels\na,{apart};{composed}\n")
    index(shard, out=tmp_path / "index", labels_url=str(tmp_path / "l.csv"))
    assert labels_in(tmp_path / "index") == {key: [composed] for key in "abc"}
    (tmp_path / "classes.txt").write_text(f"{apart}\n{composed}\n")
    with pytest.raises(InputError, match="the class 'café' occurs twice"):
        index(shard, out=tmp_path / "index")


# ---- keys and labels files -------------------------------------------------------------------------------------------
def test_keys_that_begin_anew_in_each_shard(tmp_path: Path) -> None:
    for name in ("train/0.tar", "train/1.tar", "val/0.tar"):
        write_tar(tmp_path / name, {"000000.mp4": VIDEO, "000000.json": json.dumps({"labels": [name]}).encode()})
    shards = [tmp_path / "train", tmp_path / "val"]
    summary = index(*shards, out=tmp_path / "index")
    assert (summary.videos, summary.refused) == (1, {"duplicate_id": 2})
    assert "--prefix-shard" in summary.reasons[0]
    summary = index(*shards, out=tmp_path / "index", prefix_shard=True)
    assert (summary.videos, summary.shards_read) == (3, 3)
    assert labels_in(tmp_path / "index") == {
        f"{name}/000000": [f"{name}.tar"] for name in ("train/0", "train/1", "val/0")
    }
    index(shards[0], out=tmp_path / "index", prefix_shard=True)
    assert [*labels_in(tmp_path / "index")] == ["0/000000", "1/000000"]


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("Kitchen/Clip1.mp4", "Write the ids without '.mp4': 'Kitchen/Clip1' instead of"),
        ("videos/Kitchen/Clip1", "Give the file of these videos"),
        ("kitchen/clip1", "Upper and lower case differ"),
        ("Clip1", "The videos' ids begin with a folder or a shard's name"),
        ("a.b", "Write '_' for the dots"),
        ("x/Other", "Write the ids without their folder (if it is a shard"),
    ],
)
def test_a_labels_file_that_matches_nothing_is_an_error(tmp_path: Path, written: str, hint: str) -> None:
    members = {f"{key}.mp4": VIDEO for key in ("Kitchen/Clip1", "a_b", "Other")}
    shard = write_tar(tmp_path / "s.tar", members)
    (tmp_path / "l.csv").write_text(f"id,labels\n{written},new\n")
    with pytest.raises(InputError, match="matches no video") as caught:
        index(shard, out=tmp_path / "index", labels_url=str(tmp_path / "l.csv"))
    assert hint in str(caught.value)
    assert not (tmp_path / "index" / "snapshots").exists(), "the old labels must not stay in silence"
    (tmp_path / "l.csv").write_text(f"id,labels\n{written},new\n Other ,new\n")
    summary = index(shard, out=tmp_path / "index", labels_url=str(tmp_path / "l.csv"))
    assert (summary.labels_without_video, summary.unmatched_ids) == (1, (written,))
    assert labels_in(tmp_path / "index")["Other"] == ["new"]
