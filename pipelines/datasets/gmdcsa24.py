"""GMDCSA24: people in real rooms, some of whom fall; overlapping intervals with labels, written by hand.

Input: the folder that holds ``subject_N/{ADL,Fall}/NN.mp4`` and ``subject_N/{ADL,Fall}.csv``.
Does: reads the CSVs as they are: stray ":" and spaces, unclosed brackets, two spellings of one label, clips that
are listed and absent. The length column is rounded and sometimes wrong, so nothing here uses it.
Output: AnnotatedVideo rows (id ``subject_1/Fall/13``) and Problem rows.

https://github.com/ekramalam/GMDCSA24-A-Dataset-for-Human-Fall-Detection-in-Videos
"""

from __future__ import annotations

import csv
import io
import posixpath
import re

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.names import normal, normal_id
from adaptfocus.pipelines.annotations.rows import AnnotatedVideo, Interval, Problem, labels_and, tidy_intervals
from adaptfocus.pipelines.errors import InputError

# A label, perhaps with a direction in brackets, and its times: "Falling (BW)[6.9 to 12; 13 to 14]". Either closing
# bracket may be missing (subject 2 Fall 11, subject 3 ADL 04), and so may "to" (subject 2 Fall 19).
_ENTRY = re.compile(r"(?P<label>[A-Za-z][A-Za-z ]*(?:\( *[A-Za-z]+ *\)?)?)\s*(?P<times>\[(?:[\d.\s;:]|to)*\]?)?")
_TIMES = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*(?:to)?\s+(\d+\.?\d*|\.\d+)\s*:?\s*")


def read_gmdcsa24(root_url: str) -> tuple[list[AnnotatedVideo], list[Problem]]:
    """The clips that are there, ordered by subject, kind and number, and what is wrong with the lists.

    The dataset has no split. A clip's group is its subject's folder.

    Raises:
        InputError: there is no such list under `root_url`, or a list has a file twice.
    """
    lists = [
        url
        for folder in store.list_folders(root_url)
        for url in store.list_files(folder)
        if posixpath.basename(url).lower() in ("adl.csv", "fall.csv")
    ]
    if not lists:
        raise InputError(
            f"there is no subject_N/ADL.csv or subject_N/Fall.csv under {root_url}; give the dataset's top folder"
        )
    videos: list[AnnotatedVideo] = []
    problems: list[Problem] = []
    for csv_url in lists:
        subject = posixpath.basename(posixpath.dirname(csv_url))
        found, trouble = _read_list(csv_url, subject)
        videos += found
        problems += trouble
    return videos, problems


def _read_list(csv_url: str, subject: str) -> tuple[list[AnnotatedVideo], list[Problem]]:
    folder_url = csv_url.removesuffix(".csv")
    prefix = f"{subject.lower().replace(' ', '_')}/{posixpath.basename(folder_url)}"
    there = {normal_id(posixpath.basename(url)): url for url in store.list_files(folder_url)}
    text = store.read_bytes(csv_url).decode("utf-8-sig", errors="replace")
    lines = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    header = [name.strip() for name in next(lines, [])]
    if header[:1] != ["File Name"] or header[-1:] != ["Classes"]:
        raise InputError(f"{csv_url}: the columns are {header}; the first must be 'File Name', the last 'Classes'")
    videos: list[AnnotatedVideo] = []
    problems: list[Problem] = []
    seen: set[str] = set()
    for fields in lines:
        where = f"{subject}/{posixpath.basename(csv_url)} line {lines.line_num}"
        if not any(field.strip() for field in fields):
            continue
        name = normal_id(fields[0])
        if name in seen:
            raise InputError(f"{where}: {name!r} occurs twice in this list; keep one of its rows")
        seen.add(name)
        if len(fields) < len(header):
            reason = f"has {len(fields)} of {len(header)} columns"
            problems.append(Problem("bad_row", where, f"{name!r} {reason}; the row was left out"))
            continue
        if name not in there:
            problems.append(Problem("missing_file", where, f"{name} is listed, but is not in {folder_url}"))
            continue
        # A description with a comma in it gives more fields; the classes stay the last.
        labels, intervals, trouble = parse_classes(fields[-1], where)
        problems += trouble
        video_id = f"{prefix}/{name.removesuffix('.mp4')}"
        videos.append(AnnotatedVideo(video_id, there[name], labels, intervals, group=normal(subject)))
    for name in sorted(set(there) - seen):
        problems.append(Problem("not_listed", f"{subject}/{posixpath.basename(csv_url)}", f"{name} has no row"))
    return videos, problems


def parse_classes(text: str, where: str) -> tuple[tuple[str, ...], tuple[Interval, ...], list[Problem]]:
    """``"Falling (BW)[6.9 to 12]; Walking[0 to 3.6]"`` -> labels, intervals, problems.

    A label without times stays a label of the video; it is counted (``label_without_interval``).
    """
    labels: list[str] = []
    intervals: list[Interval] = []
    problems: list[Problem] = []
    for entry in _ENTRY.finditer(text):
        label = _canonical(entry["label"])
        labels.append(label)
        times = [part for part in (entry["times"] or "").strip("[]").split(";") if part.strip(" :")]
        if not times:
            problems.append(Problem("label_without_interval", where, f"{label!r} has no times"))
        for part in times:
            numbers = _TIMES.fullmatch(part)
            if numbers:
                intervals.append((label, float(numbers[1]), float(numbers[2])))
            else:
                problems.append(Problem("interval_dropped", where, f"{part.strip()!r} of {label!r} is not two times"))
    rest = _ENTRY.sub("", text).strip(" ;:]\t")
    if rest:
        problems.append(Problem("stray_text", where, f"{rest!r} was not understood"))
    kept, dropped = tidy_intervals(intervals, where)
    return labels_and(kept, labels), kept or (), problems + dropped


def _canonical(label: str) -> str:
    """One spelling: ``Fall (FW)``, ``Falling (FW`` and ``falling ( FW )`` are all ``Falling (FW)``."""
    action, _, direction = label.partition("(")
    action = " ".join(action.split()).capitalize()
    action = "Falling" if action == "Fall" else action
    direction = direction.strip(" )").upper()
    return f"{action} ({direction})" if direction else action
