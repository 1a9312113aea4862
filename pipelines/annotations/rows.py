"""What every reader of annotations hands on, and the rules that all of them share.

Input: rows of some annotation format.
Does: names a video, its labels and its intervals; checks ids, labels and intervals in one place. Text that looks the
same is the same: ids, labels and splits are brought to Unicode's form NFC where they enter.
Output: AnnotatedVideo, and Problem rows for whatever was left out and why.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adaptfocus.pipelines.annotations.names import normal, text_reason, unsafe_reason
from adaptfocus.pipelines.errors import InputError

Interval = tuple[str, float, float]  # label, start_seconds, end_seconds


@dataclass(frozen=True)
class AnnotatedVideo:
    """One video and what is known about it.

    ``intervals`` is None where nobody wrote down when things happen (the weak regime), and a tuple, perhaps empty,
    where somebody did. Times count from the first frame shown.
    """

    video_id: str
    path: str  # URL or local path
    labels: tuple[str, ...]
    intervals: tuple[Interval, ...] | None = None
    split: str | None = None
    group: str | None = None  # a person, a room, a film: what must not be in two splits


@dataclass(frozen=True)
class Problem:
    """Something that was left out or changed; tables count by ``kind``, a short stable word."""

    kind: str
    where: str
    message: str


def check_split(split: str | None, where: str) -> str | None:
    """`split` in its normal form, None if it is empty. Splits become names of files.

    Raises:
        InputError: it contains a slash or control characters, or is '.' or '..'.
    """
    split = normal(split or "")
    reason = unsafe_reason(split) if split else None
    if reason is None and re.search(r"[/\\:]", split):
        reason = "it contains a slash or a colon"
    if reason:
        raise InputError(f"{where}: the split {split!r} cannot be used because {reason}; use a word such as 'train'")
    return split or None


def check_group(group: str | None, where: str) -> str | None:
    """`group` in its normal form, None if it is empty.

    Raises:
        InputError: it contains control characters.
    """
    group = normal(group or "")
    if reason := text_reason(group):
        raise InputError(f"{where}: the group {group!r:.200} cannot be used because {reason}")
    return group or None


def check_labels(labels: Iterable[str], classes: Sequence[str] | None, where: str) -> None:
    """Raises InputError naming the label, the place and the nearest class if a label is not a class."""
    known = set(classes or ())
    for label in labels if classes is not None else ():
        if label not in known:
            raise InputError(f"{where}: {unknown_label(label, classes or ())}")


def unknown_label(label: str, classes: Sequence[str]) -> str:
    """The sentence about a label that is not among the classes."""
    nearest = difflib.get_close_matches(label, classes, n=1, cutoff=0.0)
    hint = (
        f"the nearest is {nearest[0]!r}; correct the label, or add it to the class list" if nearest else "it is empty"
    )
    return f"the label {label!r} is not among the {len(classes)} classes; {hint}"


def labels_and(intervals: Iterable[Interval] | None, labels: Iterable[str]) -> tuple[str, ...]:
    """The labels without repeats, then those that only the intervals name."""
    return tuple(dict.fromkeys([*labels, *(label for label, _, _ in intervals or ())]))


def parse_labels(value: Any) -> tuple[str, ...]:
    """``"a; b"`` or ``["a", "b"]`` -> ``("a", "b")``, each once and in its normal form.

    Raises:
        ValueError: it is anything else, or a label cannot be written as a line of text.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        value = value.split(";")
    if not isinstance(value, (list, tuple)) or not all(isinstance(label, str) for label in value):
        raise ValueError(f"labels must be a list of names or names separated by ';', not {value!r:.200}")
    return tuple(dict.fromkeys(filter(None, map(parse_label, value))))


def parse_label(text: str) -> str:
    """A label in its normal form, perhaps empty. Raises ValueError if it cannot be written as a line of text."""
    label = normal(text)
    if reason := text_reason(label):
        raise ValueError(f"the label {label!r:.200} cannot be used because {reason}")
    return label


def parse_intervals(value: Any) -> tuple[Interval, ...] | None:
    """Intervals as text (``"walk 1.5 3.0;sit down 4 5"``), as lists or as objects; None stays None.

    Raises:
        ValueError: an interval is not a label and two numbers.
    """
    if value is None:
        return None
    if isinstance(value, str):
        parts: Any = [part.rsplit(None, 2) for part in value.split(";") if part.strip()]
    elif isinstance(value, (list, tuple)):
        parts = value
    else:
        raise ValueError(f"intervals must be a list, not {value!r:.200}")
    return tuple(map(parse_interval, parts))


def parse_interval(part: Any) -> Interval:
    """One interval. Raises ValueError if it is not a label and two numbers."""
    if isinstance(part, Mapping):
        part = [part.get("label"), part.get("start_seconds"), part.get("end_seconds")]
    if isinstance(part, (list, tuple)) and len(part) == 3 and isinstance(part[0], str) and normal(part[0]):
        label = parse_label(part[0])
        with contextlib.suppress(TypeError, ValueError, OverflowError):  # an integer of 400 digits overflows
            if not any(isinstance(time, bool) for time in part[1:]):
                return label, float(part[1]), float(part[2])
    raise ValueError(f"an interval is a label, start_seconds and end_seconds, not {part!r:.200}")


def tidy_intervals(
    intervals: Iterable[Interval] | None, where: str, duration_seconds: float = math.inf
) -> tuple[tuple[Interval, ...] | None, list[Problem]]:
    """Clamp what sticks out of the video and drop what holds no time; each is a Problem.

    Kinds: ``interval_clamped`` (kept, cut to the video) and ``interval_dropped``.
    """
    if intervals is None:
        return None, []
    kept: list[Interval] = []
    problems: list[Problem] = []
    for label, start_seconds, end_seconds in intervals:
        start, end = max(start_seconds, 0.0), min(end_seconds, duration_seconds)
        shown = f"{label!r} {start_seconds:g} to {end_seconds:g} s"
        if not (math.isfinite(start) and start < end and not math.isnan(end_seconds)):
            reason = "it ends before it starts" if start_seconds >= end_seconds else "no part of it is in the video"
            problems.append(Problem("interval_dropped", where, f"the interval {shown} was left out: {reason}"))
            continue
        if (start, end) != (start_seconds, end_seconds):
            problems.append(
                Problem("interval_clamped", where, f"the interval {shown} was cut to {start:g} to {end:g} s")
            )
        kept.append((label, start, end))
    return tuple(kept), problems
