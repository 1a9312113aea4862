"""Splits by groups of videos: nobody in the training videos is in the test videos."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptfocus.pipelines.annotations.groups import split_by_groups
from adaptfocus.pipelines.annotations.rows import AnnotatedVideo
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.shards.packing import pack


def named(*rows: tuple[str, str | None, str | None]) -> list[AnnotatedVideo]:
    return [AnnotatedVideo(name, f"{name}.mp4", (), split=split, group=group) for name, split, group in rows]


@pytest.mark.parametrize(
    ("rows", "held_out", "said"),
    [
        (
            [("a", None, "ann"), ("b", None, "ben")],
            ["bem"],
            "'bem' cannot be held out: none of 2 .* nearest is 'ben'",
        ),
        ([("a", None, "ann"), ("b", "test", "ben")], ["ben"], "the video 'b' already has the split 'test'"),
        ([("a", None, "ann"), ("b", None, None)], ["ann"], "the video 'b' has no group"),
        ([("a", None, "ann"), ("b", None, "ben")], ["ben", "ann"], "all 2 groups are held out"),
    ],
)
def test_a_split_that_cannot_be_made_by_groups(rows: list, held_out: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        split_by_groups(named(*rows), held_out)


def test_packing_from_a_program_is_held_to_it_too(tmp_path: Path) -> None:
    rows = named(("a", "train", "ann"), ("b", "test", "ann"), ("c", "test", "ben"), ("d", "val", "ben"))
    with pytest.raises(InputError, match=r"'ann' is in two splits: .* so is another group"):
        pack(rows, str(tmp_path / "out"))
