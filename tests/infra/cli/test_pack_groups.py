"""`pack`: a group of videos, such as those of a person, is in one split."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.footage import encode

FIX = "give all videos of a group one split, or leave the splits out and name the groups of the test split (--hold-out"


def write_list(folder: Path, rows: Sequence[tuple[str, str, str]]) -> Path:
    """A CSV of (id, split, group); all rows name files of one picture each."""
    for video_id, _, _ in rows:
        (folder / f"{video_id}.mp4").write_bytes(encode(2))
    path = folder / "list.csv"
    path.write_text("path,labels,split,group\n" + "".join(f"{name}.mp4,x,{s},{g}\n" for name, s, g in rows))
    return path


@pytest.mark.parametrize("words", [["--manifest"], ["--format", "csv", "--annotations"]])
def test_a_group_in_two_splits_is_refused_whichever_split_is_packed(type_, tmp_path: Path, words: list[str]) -> None:
    rows = [
        ("a", "train", "Zoë"),
        ("b", "train", "ben"),
        ("c", "", "ben"),
        ("d", "test", "Zoe\u0308"),
        ("e", "test", ""),
    ]
    listed = write_list(tmp_path, rows)
    for split in ([], ["--split", "train"], ["--split", "test"], ["--validate"] if "csv" in words else []):
        code, _, err = type_("pack", *words, listed, "--out", tmp_path / "out", *split)
        assert code == 2
        assert "the group 'Zoë' is in two splits: 'train' (video 'a') and 'test' (video 'd'); what is trained on" in err
        assert FIX in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [["--manifest"], ["--format", "csv", "--annotations"]])
def test_groups_that_are_held_out_become_the_test_split(type_, tmp_path: Path, words: list[str]) -> None:
    listed = write_list(tmp_path, [("a", "", "ann"), ("b", "", "ben"), ("c", "", "Ann"), ("d", "", "cleo")])
    packed = {}
    for split in ("train", "test"):
        hold = ["--hold-out", "ann", "--hold-out", "cleo", "--split", split]
        code, out, _ = type_("pack", *words, listed, "--out", tmp_path / split, *hold)
        assert code == 0
        assert "2 videos, 0.0 minutes, 1 class, 2 groups -> 1 shard" in out
        assert "warning: groups that differ only in case or punctuation: 'ann' and 'Ann'; write each in one way" in out
        with tarfile.open(tmp_path / split / "shard-000000.tar") as tar:
            texts = [tar.extractfile(member).read() for member in tar if member.name.endswith(".json")]  # type: ignore[union-attr]
        packed |= {row["id"]: (row["split"], row["group"]) for row in map(json.loads, texts)}
    assert packed == {
        "a": ("test", "ann"), "b": ("train", "ben"), "c": ("train", "Ann"), "d": ("test", "cleo"),
    }  # fmt: skip
