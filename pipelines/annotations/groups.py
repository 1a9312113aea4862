"""Groups of videos that belong together: of a person, a room, a film. No group is both trained on and tested on.

Input: videos with their groups and splits. Does: looks for groups in two splits; makes splits by groups.
Output: videos; InputError where a group is split. A model that has seen a person or a room in training knows them in a
test, and its scores then say little about people whom it has not seen.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar

from adaptfocus.pipelines.annotations.names import normal
from adaptfocus.pipelines.errors import InputError


class Grouped(Protocol):
    """A video as an annotation or a release has it: a dataclass with these fields."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def video_id(self) -> str: ...
    @property
    def group(self) -> str | None: ...
    @property
    def split(self) -> str | None: ...


Video = TypeVar("Video", bound=Grouped)


def check_groups(videos: Iterable[Grouped]) -> None:
    """Raises InputError if a group is in two splits, with a video of each. Videos without a group or split may be
    anywhere."""
    first: dict[str, Grouped] = {}
    two: dict[str, tuple[Grouped, Grouped]] = {}
    for video in videos:
        if video.group and video.split:
            one = first.setdefault(video.group, video)
            if one.split != video.split:
                two.setdefault(video.group, (one, video))
    if not two:
        return
    group, (one, other) = next(iter(two.items()))
    more = f"; so are {len(two) - 1} other groups" if len(two) > 2 else "; so is another group" if len(two) == 2 else ""
    raise InputError(
        f"the group {group!r} is in two splits: {one.split!r} (video {one.video_id!r}) and {other.split!r} "
        f"(video {other.video_id!r}){more}; what is trained on must not be tested on: give all videos of a group one "
        "split, or leave the splits out and name the groups of the test split (--hold-out GROUP)"
    )


def split_by_groups(videos: Sequence[Video], held_out: Sequence[str]) -> list[Video]:
    """The videos with splits: "test" if their group is held out, else "train".

    Raises:
        InputError: a video has a split already or no group, or no video is of a group that is to be held out, or none
            is left to train on.
    """
    names = {normal(name) for name in held_out}
    there = {video.group for video in videos if video.group}
    for video in videos:
        if video.split or not video.group:
            what = f"has the split {video.split!r} already" if video.split else "has no group"
            raise InputError(
                f"no split can be made by groups: the video {video.video_id!r} {what}; give each video a group and no "
                "split, or each its split and no --hold-out"
            )
    for name in sorted(names - there):
        nearest = difflib.get_close_matches(name, sorted(there), n=1, cutoff=0.0)
        hint = f"; the nearest is {nearest[0]!r}" if nearest else ""
        raise InputError(f"the group {name!r} cannot be held out: no video of {len(videos)} is of it{hint}")
    if names == there:
        raise InputError(f"all {len(there)} groups are held out, and none is left to train on; hold out fewer")
    return [replace(video, split="test" if video.group in names else "train") for video in videos]
