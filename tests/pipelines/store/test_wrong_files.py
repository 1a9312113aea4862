"""Where something else was saved in place of the wanted file, the error names what it is, wherever a file is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.manifest import read_classes, read_labels, read_manifest
from adaptfocus.pipelines.errors import BadVideoError, InputError
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.inspection.demux import demux_packet_table
from adaptfocus.pipelines.store.wrong_files import describe_wrong_file

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
PAGE = b"\xef\xbb\xbf  <!doctype HTML><html><body>404</body></html>"


@pytest.mark.parametrize(("data", "what"), [(LFS, "is a Git LFS pointer"), (PAGE, r"is a web page \(HTML\)")])
def test_every_file_that_is_read_whole(tmp_path: Path, data: bytes, what: str) -> None:
    file = tmp_path / "list.csv"
    file.write_bytes(data)
    for read in (store.read_bytes, read_classes, read_labels, read_manifest):
        with pytest.raises(InputError, match=f"list.csv {what}"):
            read(str(file))


@pytest.mark.parametrize(("data", "what"), [(LFS, "it is a Git LFS pointer"), (PAGE * 50, "it is a web page")])
def test_a_video_is_refused_with_what_it_is(tmp_path: Path, data: bytes, what: str) -> None:
    file = tmp_path / "v.mp4"
    file.write_bytes(data)
    with file.open("rb") as opened, pytest.raises(BadVideoError, match=what) as caught:
        demux_packet_table(opened, len(data))
    assert caught.value.kind == "unreadable_video"


@pytest.mark.parametrize(("data", "what"), [(LFS, "it is a Git LFS pointer"), (PAGE * 50, "it is a web page")])
def test_a_shard_is_refused_with_what_it_is(tmp_path: Path, data: bytes, what: str) -> None:
    (tmp_path / "s.tar").write_bytes(data)
    with pytest.raises(InputError, match=f"not_a_tar: {what}"):
        build_index([str(tmp_path / "s.tar")], str(tmp_path / "out"), workers=1, isolation=None)


@pytest.mark.parametrize("data", [b"", b"name,labels\n", b"<root/>", b"PK\x03\x04", b"version 1\n", b"\x00<html"])
def test_what_is_neither_is_left_alone(data: bytes) -> None:
    assert describe_wrong_file(data) is None
