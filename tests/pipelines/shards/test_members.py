"""Tars as people make them: joined, oddly sorted, of every format, with names of other systems and odd headers."""

from __future__ import annotations

import io
import json
import tarfile
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import pytest

from adaptfocus.pipelines.shards import members as tar_members
from adaptfocus.pipelines.shards import read
from adaptfocus.pipelines.shards.members import is_companion
from adaptfocus.pipelines.shards.read import read_samples

VIDEO = b"v" * 3000  # nothing here reads its content
X, Y = b'{"labels": ["x"]}', b'{"labels": ["y"]}'


def tar_of(members: list[tuple[str, bytes]], *, pax: dict[str, str] | None = None, **how: Any) -> bytes:
    """A tar of (name, content), the first of which has some PAX headers."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **how) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers, pax = len(content), pax or {}, None
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def found_in(folder: Path, data: bytes) -> tuple[dict[str, Any], list[str]]:
    """(labels by id, kinds of what is left out) of a tar."""
    (folder / "s.tar").write_bytes(data)
    samples, refusals = read_samples(str(folder / "s.tar"), len(data))
    labels = {}
    for sample in samples:
        assert sample.video is not None
        assert data[sample.video.offset_bytes :][: sample.video.size_bytes] == VIDEO
        try:
            labels[sample.video_id] = (sample.text("json") or {}).get("labels", sample.text("cls"))
        except read.BadTextError as error:
            labels[sample.video_id] = str(error)
    return labels, [refusal.kind for refusal in refusals]


A, B = [("a.mp4", VIDEO), ("a.json", X)], [("b.mp4", VIDEO), ("b.json", Y)]


@pytest.mark.parametrize("how", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("padding", [0, 512, 3 << 20])
def test_joined_tars_are_read_on(tmp_path: Path, how: int, padding: int) -> None:
    """Zeros between them fill a record, which is large with some archivers."""
    joined = tar_of(A, format=how) + b"\0" * padding + tar_of([], format=how) + tar_of(B, format=how)
    assert found_in(tmp_path, joined) == ({"a": ["x"], "b": ["y"]}, [])


def test_nothing_behind_a_tars_end_is_lost_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tar_of(A), tar_of([("b.json", Y), ("b.mp4", VIDEO)])
    assert found_in(tmp_path, first + second[: 1536 + 2000]) == (
        {"a": ["x"]},
        ["truncated_member", "no_video_in_sample"],
    )
    assert found_in(tmp_path, first + b"no tar") == ({"a": ["x"]}, ["broken_tar"])
    assert found_in(tmp_path, first + b"\x1f\x8b" + b"z" * 2000) == ({"a": ["x"]}, ["broken_tar"])
    assert found_in(tmp_path, first + b"\0" * 100 + second) == ({"a": ["x"]}, ["broken_tar"]), (
        "it begins inside a block"
    )
    damaged = bytearray(second)
    damaged[3] ^= 1
    assert found_in(tmp_path, first + damaged) == ({"a": ["x"]}, ["broken_tar"])
    monkeypatch.setattr(tar_members, "MAX_PADDING_BYTES", 1 << 20)
    assert found_in(tmp_path, first + b"\0" * (4 << 20) + second) == ({"a": ["x"]}, ["broken_tar"])
    assert found_in(tmp_path, first + b"\0" * (4 << 20))[1] == ["broken_tar"], "four MiB that nobody has looked at"


@pytest.mark.parametrize(
    "order",
    [
        ["a.mp4", "b.mp4", "a.json", "b.json"],
        ["a.json", "b.json", "a.mp4", "b.mp4"],
        ["b.json", "a.mp4", "b.mp4", "a.json"],
        ["a.mp4", "._a.mp4", "a.json", "b.mp4", "._b.mp4", "b.json", ".DS_Store"],
    ],
)
def test_labels_lie_anywhere_in_the_tar(tmp_path: Path, order: list[str]) -> None:
    content = dict([*A, *B])
    data = tar_of([(name, content.get(name, b"\0\5\26\7")) for name in order])
    assert found_in(tmp_path, data) == ({"a": ["x"], "b": ["y"]}, [])


def test_what_waits_for_its_video_is_bounded_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MAX_WAITING_BYTES", 2 * read.TEXT_BYTES)
    early = [(f"{key}.json", X) for key in "abc"]
    videos = [(f"{key}.mp4", VIDEO) for key in "abc"]
    labels, kinds = found_in(tmp_path, tar_of(early + videos))
    assert (labels["a"], labels["b"], kinds) == (["x"], ["x"], [])
    assert "wait for videos that come later" in labels["c"]
    assert "tar --sort=name" in labels["c"]
    labels, _ = found_in(tmp_path, tar_of(early[:2] + videos[:1] + early[2:] + videos[1:]))
    assert labels == {key: ["x"] for key in "abc"}, "a's labels wait no longer once its video is there"


def test_a_second_video_of_a_key_is_counted(tmp_path: Path) -> None:
    later = [("a.mp4", VIDEO), ("b.mp4", VIDEO), ("a.mp4", VIDEO), ("a.json", X)]
    (tmp_path / "s.tar").write_bytes(tar_of(later))
    samples, refusals = read_samples(str(tmp_path / "s.tar"), (tmp_path / "s.tar").stat().st_size)
    assert [sample.video_id for sample in samples] == ["a", "b", "a"], "index_parts leaves the second out, and says so"
    assert refusals == []
    assert found_in(tmp_path, tar_of([*A, ("a.mp4", VIDEO)]))[1] == ["duplicate_member"]


COMPANIONS = ["._a.mp4", "d/._a.mp4", ".DS_Store", "d/.DS_Store", "__MACOSX/a.mp4", "__MACOSX/._a.mp4",
              "Thumbs.db", "PaxHeader/a.mp4", "./PaxHeaders.4711/a.mp4", "pax_global_header", "__meta__",
              "__meta__/x.json"]  # fmt: skip


def test_files_that_archivers_add_are_no_samples(tmp_path: Path) -> None:
    assert all(map(is_companion, (name.removeprefix("./") for name in COMPANIONS)))
    data = tar_of([(name, b"oddity") for name in COMPANIONS] + A)
    assert found_in(tmp_path, data) == ({"a": ["x"]}, [])
    assert not any(map(is_companion, ["a.mp4", "_a.mp4", "x._a.mp4", "MACOSX/a.mp4", "PaxHeaderless/a.mp4", "__a.mp4"]))


@pytest.mark.parametrize(
    ("name", "text", "labels"),
    [
        ("a.mp4.json", X, ["x"]),
        ("a.MP4.JSON", X, ["x"]),
        ("a.json", b"\xef\xbb\xbf" + X, ["x"]),
        ("a.json", X.decode().encode("utf-16"), ["x"]),
        ("a.json", b'{\r\n"labels":\r\n["x"]\r\n}\r\n', ["x"]),
        ("a.info.json", b'{"labels": ["of something else"]}', None),
        ("a.cls", b"3", [3]),
        ("a.cls", b" 3\r\n", [3]),
        ("a.cls", "\ufeffsit down\r\n".encode(), ["sit down"]),
        ("a.cls", b"sit\nwalk\n", ["sit", "walk"]),
        ("a.cls", b'"sit"', ["sit"]),
        ("a.cls", b"[1, 2]", [1, 2]),
        ("a.cls", b"true", ["true"]),
        ("a.mp4.cls", b"sit", ["sit"]),
        ("a.cls", b"", []),
    ],
)
def test_labels_in_every_file_that_people_write(tmp_path: Path, name: str, text: bytes, labels: list | None) -> None:
    assert found_in(tmp_path, tar_of([("a.mp4", VIDEO), (name, text)])) == ({"a": labels}, [])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.cls", b"3.5", "holds 3.5, not a class number"),
        ("a.cls", b"[true]", "not a class number"),
        ("a.cls", b'{"x": 1}', "not a class number"),
        ("a.cls", "gehen\u00e4".encode("latin-1"), "neither a class number nor a class name in UTF-8"),
        ("a.cls", b"a\0b", "control characters"),
        ("a.cls", b"9" * 5000, "its .cls"),
        ("a.json", '{"labels": ["\u00e9"]}'.encode("latin-1"), r"byte 13 (0xe9) is not UTF-8"),
        ("a.json", b'{"labels": ["x"], "labels": ["y"]}', "'labels' occurs twice"),
        ("a.json", b"[" * 100_000, "nested too deeply"),
        ("a.json", b'{"labels": 1' + b"0" * 5000 + b"}", "does not parse"),
    ],
)
def test_labels_that_cannot_be_used_are_said(tmp_path: Path, name: str, text: bytes, said: str) -> None:
    labels, kinds = found_in(tmp_path, tar_of([("a.mp4", VIDEO), (name, text)]))
    assert said in labels["a"]
    assert kinds == []


def test_dots_in_a_key_and_two_files_of_labels(tmp_path: Path) -> None:
    assert found_in(tmp_path, tar_of([("v1.2.json", X), ("v1.2.mp4", VIDEO)])) == ({"v1": ["x"]}, [])
    assert found_in(tmp_path, tar_of([*A, ("a.mp4.json", X)])) == ({"a": ["x"]}, [])
    labels, _ = found_in(tmp_path, tar_of([*A, ("a.mp4.json", Y)]))
    assert "two different .json files" in labels["a"]


@pytest.mark.parametrize(("encoding", "known_as"), [("latin-1", "Latin-1"), ("shift_jis", "Shift-JIS")])
def test_names_in_other_encodings_are_said_to_be(tmp_path: Path, encoding: str, known_as: str) -> None:
    name = {"latin-1": "caf\u00e9.mp4", "shift_jis": "\u30c6\u30b9\u30c8.mp4"}[encoding]
    data = tar_of([(name, VIDEO), *A], format=tarfile.GNU_FORMAT, encoding=encoding)
    (tmp_path / "s.tar").write_bytes(data)
    samples, (refusal,) = read_samples(str(tmp_path / "s.tar"), len(data))
    assert [sample.key for sample in samples] == ["a"]
    assert refusal.kind == "name_not_utf8"
    assert f"read as {known_as} it would be {name!r}" in refusal.message
    refusal.member_name.encode()  # it can be stored


def test_two_unicode_forms_of_a_name_are_one_sample(tmp_path: Path) -> None:
    """macOS writes names decomposed, and labels from other systems do not."""
    composed, apart = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    assert composed != apart
    assert found_in(tmp_path, tar_of([(f"{apart}.mp4", VIDEO), (f"{composed}.json", X)])) == ({composed: ["x"]}, [])


ODD_HEADERS = {
    "sparse map": {"GNU.sparse.map": "x,y", "GNU.sparse.size": "9"},
    "sparse version": {"GNU.sparse.major": "x", "GNU.sparse.minor": "0"},
    "size": {"size": "many"},
    "size of 400 digits": {"size": "9" * 400},
    "offset": {"GNU.sparse.offset": "x", "GNU.sparse.numbytes": "1"},
    "nul": {"path": "a\0b.mp4"},
    "charset": {"hdrcharset": "no-such-charset"},
}


@pytest.mark.parametrize("pax", ODD_HEADERS.values(), ids=ODD_HEADERS)
def test_whatever_a_header_says_its_tar_only_is_refused(tmp_path: Path, pax: dict[str, str]) -> None:
    """Some of these are read, some refused; what is before them is always there."""
    bad = tar_of([("bad.mp4", VIDEO)], pax=pax, format=tarfile.PAX_FORMAT)
    (tmp_path / "s.tar").write_bytes(bad)
    samples, refusals = read_samples(str(tmp_path / "s.tar"), len(bad))
    assert len(samples) + len(refusals) > 0
    assert json.dumps([refusal.message for refusal in refusals]).encode()
    both = tar_of(A) + bad
    (tmp_path / "s.tar").write_bytes(both)
    assert [sample.key for sample in read_samples(str(tmp_path / "s.tar"), len(both))[0]][:1] == ["a"]


def test_archives_of_other_kinds_are_named(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.mp4", VIDEO)
    (tmp_path / "s.tar").write_bytes(out.getvalue())
    _, (refusal,) = read_samples(str(tmp_path / "s.tar"), len(out.getvalue()))
    assert (refusal.kind, "(zip)" in refusal.message) == ("compressed_tar", True)
