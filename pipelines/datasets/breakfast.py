"""Breakfast: 52 people, 10 activities, up to five cameras, every frame labelled with one of 48 actions.

Input: a folder with ``groundTruth/*.txt`` (one label a frame, 15 frames a second), ``mapping.txt`` and ``splits/``, as
segmentation projects share it; or with the ``segmentation_coarse`` of the dataset's authors (lines ``1-30 SIL``).
Does: takes activity, person and camera from the file name, ``P03_cam01_P03_cereals``; runs of a label are segments.
Output: a Release. A video's split is the one that it is tested in, ``s1`` to ``s4``: train on the other three.

https://serre-lab.clps.brown.edu/resource/breakfast-actions-dataset/
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from adaptfocus.pipelines.annotations.rows import Problem, labels_and
from adaptfocus.pipelines.annotations.tasks import Segment
from adaptfocus.pipelines.datasets.release import Release, ReleasedVideo
from adaptfocus.pipelines.datasets.release_files import (
    in_threads,
    lines_of,
    only_file,
    read_ids_and_names,
    texts_by_name,
)
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.store.walk import files_below

FRAMES_PER_SECOND = 15
BACKGROUND = "SIL"  # silence: nothing of what the other 47 labels say
NEEDED = "needed are groundTruth/NAME.txt or segmentation_coarse/ACTIVITY/NAME.txt, NAME as P03_cam01_P03_cereals"
_NAME = re.compile(r"P(\d+)_([a-z]+\d*)_P(\d+)_([A-Za-z]+)")
_BUNDLE = re.compile(r"(train|test)\.split(\d+)\.bundle")

Lines = Sequence[tuple[int, str]]  # number, text
Run = tuple[int, int, str]  # first frame, end frame, label


def read_breakfast(annotations_url: str, activities_as_labels: bool = False) -> Release:
    """All four splits.

    Args:
        activities_as_labels: the weak label of a video is its activity, one of 10, and there are no intervals.
            Otherwise it is tagged with the actions of its segments, and the segments are its intervals.

    Problem kinds: ``bad_name``, ``bad_row`` (a file without labels, a line that is none), ``label_not_in_classes`` (the
    video is left out), ``gap_filled`` (a hole in coarse segments became SIL), ``segment_overlap`` (the later one
    begins where the earlier one ends), ``no_split``, ``not_annotated`` (a bundle lists it).

    Raises:
        InputError: there are no such files.
    """
    files = files_below(annotations_url)
    folder = "/groundTruth/" if any("/groundTruth/" in f"/{url}" for url in files) else "/segmentation_coarse/"
    texts = texts_by_name((url for url in files if folder in f"/{url}"), annotations_url)
    if not texts:
        raise InputError(f"{annotations_url}: there are no frame labels; {NEEDED}")
    problems: list[Problem] = []
    named = {}
    for name, url in sorted(texts.items()):
        if _NAME.fullmatch(name):
            named[name] = url
        else:
            problems.append(Problem("bad_name", name, f"{name}.txt is not called as P03_cam01_P03_cereals.txt"))
    runs: dict[str, list[Run]] = {}
    for (name, _), lines in zip(named.items(), in_threads(lines_of, [*named.values()]), strict=True):
        read = _frames if folder == "/groundTruth/" else _ranges
        runs[name] = read(name, lines, problems)
        if not runs[name]:
            problems.append(Problem("bad_row", name, "it labels no frame; the video was left out"))
    classes = _classes(files, annotations_url, runs)
    splits = _splits(files, runs, problems)
    videos = []
    for name, of_video in runs.items():
        strange = sorted({label for _, _, label in of_video} - set(classes))
        if strange:
            said = f"{', '.join(strange)} is not among the {len(classes)} classes; the video was left out"
            problems.append(Problem("label_not_in_classes", name, said))
        elif of_video:
            videos.append(_video(name, of_video, splits.get(name), activities_as_labels))
    if activities_as_labels:
        classes = sorted({video.labels[0] for video in videos})
    return Release("breakfast", tuple(classes), tuple(videos), tuple(problems))


def _video(name: str, runs: list[Run], split: str | None, activities_as_labels: bool) -> ReleasedVideo:
    activity = name.split("_")[3]
    segments: tuple[Segment, ...] = tuple((a / FRAMES_PER_SECOND, b / FRAMES_PER_SECOND, label) for a, b, label in runs)
    intervals = None if activities_as_labels else tuple((label, start, end) for start, end, label in segments)
    names, second_names = video_names(name)
    return ReleasedVideo(
        name, split, (activity,) if activities_as_labels else labels_and(intervals, ()), intervals, segments[-1][1],
        activities=(activity,), segments=segments, names=names, second_names=second_names,
    )  # fmt: skip


def video_names(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names that a video's file may go by, and those that are its second choice.

    ``P03_cam01_P03_tea`` is released as ``P03/cam01/P03_tea.avi``; ``P03_stereo01_P03_tea`` as the two files
    ``P03/stereo/P03_tea_ch0.avi`` and ``..._ch1.avi``, which show the same: channel 0 is taken where it is there.
    """
    person, camera, _, activity = name.split("_")
    short = f"{person}_{activity}"
    if not camera.startswith("stereo"):
        return (name, f"{person}/{camera}/{short}"), ()
    folders = (camera.rstrip("0123456789"), camera)
    plain = [name, *(f"{person}/{folder}/{short}" for folder in folders)]
    return (*plain, *(f"{each}_ch0" for each in plain)), tuple(f"{each}_ch1" for each in plain)


def _frames(name: str, lines: Lines, problems: list[Problem]) -> list[Run]:
    """One label a frame -> runs."""
    if lines and lines[-1][0] != len(lines):
        # Which frames the lines behind an empty one belong to, nobody can tell.
        problems.append(Problem("bad_row", name, "there are empty lines among its labels"))
        return []
    runs: list[Run] = []
    at = 0
    for label, group in groupby(label for _, label in lines):
        end = at + sum(1 for _ in group)
        runs.append((at, end, label))
        at = end
    return runs


def _ranges(name: str, lines: Lines, problems: list[Problem]) -> list[Run]:
    """``1-30 SIL``: frames counted from 1, the last one included -> runs that meet."""
    given: list[Run] = []
    for _, line in lines:
        frames, _, label = line.partition(" ")
        first, _, last = frames.partition("-")
        if label.strip() and first.isdigit() and last.isdigit() and 0 < int(first) <= int(last):
            given.append((int(first) - 1, int(last), label.strip()))
        else:
            problems.append(Problem("bad_row", name, f"{line!r:.200} is not 'FIRST-LAST LABEL'; it was left out"))
    runs: list[Run] = []
    at = 0
    for first, end, label in sorted(given):
        if first > at:
            problems.append(
                Problem("gap_filled", name, f"frames {at + 1} to {first} have no label; {BACKGROUND} it is")
            )
            runs.append((at, first, BACKGROUND))
        elif first < at:
            said = f"{label} begins in frame {first + 1}, before the segment that ends in frame {at}; it was cut"
            problems.append(Problem("segment_overlap", name, said))
        if end > max(first, at):
            runs.append((max(first, at), end, label))
            at = end
    joined = [list(group) for _, group in groupby(runs, key=lambda run: run[2])]
    return [(group[0][0], group[-1][1], group[0][2]) for group in joined]


def _classes(files: Sequence[str], place: str, runs: dict[str, list[Run]]) -> list[str]:
    """Those of mapping.txt in its order; without one, all labels in alphabetical order."""
    if any(posixpath.basename(url) == "mapping.txt" for url in files):
        return list(read_ids_and_names(only_file(files, "mapping.txt", place, NEEDED)).values())
    return sorted({label for of_video in runs.values() for _, _, label in of_video})


def _splits(files: Sequence[str], names: Iterable[str], problems: list[Problem]) -> dict[str, str]:
    """The split that each video is tested in: as its test bundle says, or by person where that split has no bundle.

    The bundles of one split say what is tested in it, and of all other videos only that they are not.
    """
    splits: dict[str, str] = {}
    listed: set[str] = set()
    bundled: set[str] = set()
    for url in files:
        bundle = _BUNDLE.fullmatch(posixpath.basename(url))
        if bundle:
            # "#bundle" in front, then "./data/groundTruth/P03_cam01_P03_cereals.txt" or the name alone
            inside = [posixpath.basename(line).removesuffix(".txt") for _, line in lines_of(url) if line[0] != "#"]
            listed.update(inside)
            bundled.add(f"s{bundle[2]}")
            if bundle[1] == "test":
                again = [name for name, times in Counter(inside).items() if times > 1 or name in splits]
                if again:
                    raise InputError(f"{url}: {again[0]!r} occurs twice in the test bundles; keep it in one of them")
                splits.update((name, f"s{bundle[2]}") for name in inside)
    known = set(names)
    for name in sorted(listed - known):
        problems.append(Problem("not_annotated", name, "a bundle lists it, and there are no labels of it"))
    for name in sorted(known):
        by_person = _split_of_person(name)
        if name not in splits and by_person and by_person not in bundled:
            splits[name] = by_person
        elif name not in splits:
            said = f"no test bundle lists it, and its person is of {by_person}, whose bundles are there"
            problems.append(Problem("no_split", name, said if by_person else "no split has its person"))
    return splits


def _split_of_person(name: str) -> str | None:
    """The usual four splits: 13 people each, P03 to P54."""
    fold = (int(name[1:].split("_")[0]) - 3) // 13 + 1
    return f"s{fold}" if 1 <= fold <= 4 else None
