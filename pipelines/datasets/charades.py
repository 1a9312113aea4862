"""Charades v1: people at home, 157 classes of actions that overlap.

Input: the folder that holds ``Charades_v1_train.csv``, ``Charades_v1_test.csv`` and ``Charades_v1_classes.txt``.
Does: reads the lists as they are. Classes keep the order of their ids, so class k is cK in the official evaluation.
All classes that a row names are labels of its video, whatever their times: so does the official evaluation.
Output: a Release; the videos' activities are their labels.

https://prior.allenai.org/projects/charades
"""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Sequence

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.names import check_id, check_unique, normal_id
from adaptfocus.pipelines.annotations.rows import Interval, Problem, labels_and
from adaptfocus.pipelines.datasets.release import Release, ReleasedVideo, Sentence
from adaptfocus.pipelines.datasets.release_files import lines_of, only_file, read_ids_and_names, seconds_of
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.store.walk import files_below

NEEDED = "needed are Charades_v1_train.csv, Charades_v1_test.csv and Charades_v1_classes.txt"
SPLITS = ("train", "test")


def read_charades(annotations_url: str) -> Release:
    """Both splits.

    Problem kinds: ``bad_row`` (no id), ``bad_action`` (not a class and two times), ``label_not_in_classes``,
    ``bad_length`` (no number), ``missing_list`` (one of the two splits).

    Raises:
        InputError: there are no lists or classes, a list lacks a column, an id is unsafe or occurs twice.
    """
    files = files_below(annotations_url)
    names = read_ids_and_names(only_file(files, "Charades_v1_classes.txt", annotations_url, NEEDED))
    there = {posixpath.basename(url) for url in files}
    lists = {split: f"Charades_v1_{split}.csv" for split in SPLITS if f"Charades_v1_{split}.csv" in there}
    if not lists:
        raise InputError(f"{annotations_url}: there are no lists; {NEEDED}")
    videos: list[ReleasedVideo] = []
    problems: list[Problem] = []
    places: list[tuple[str, str]] = []
    for split, name in lists.items():
        for where, video, found in _read_list(only_file(files, name, annotations_url, NEEDED), split, names):
            problems += found
            if video is not None:
                videos.append(video)
                places.append((video.video_id, where))
    check_unique(places)
    for split in SPLITS:
        if split not in lists:
            problems.append(Problem("missing_list", annotations_url, f"there is no Charades_v1_{split}.csv"))
    return Release("charades", tuple(names.values()), tuple(videos), tuple(problems))


def _read_list(url: str, split: str, names: dict[str, str]) -> list[tuple[str, ReleasedVideo | None, list[Problem]]]:
    """(place, video, problems) of each row."""
    text = store.read_bytes(url).decode("utf-8-sig", errors="replace")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        missing = [name for name in ("id", "actions", "length") if name not in (reader.fieldnames or [])]
        if missing:
            raise InputError(f"{url}: there is no column {' and no '.join(missing)}; there are {reader.fieldnames}")
        return [_row(row, f"{posixpath.basename(url)} line {reader.line_num}", split, names) for row in reader]
    except csv.Error as error:
        raise InputError(f"{url} does not parse as CSV after line {reader.line_num} ({error})") from None


def _row(
    row: dict[str, str | None], where: str, split: str, names: dict[str, str]
) -> tuple[str, ReleasedVideo | None, list[Problem]]:
    video_id = (row["id"] or "").strip()
    if not video_id:
        return where, None, [Problem("bad_row", where, "it has no id; it was left out")]
    video_id = check_id(video_id, where)
    intervals, labels, problems = _actions(row["actions"] or "", names, f"{where} ({video_id})")
    length = seconds_of(row["length"], f"{where} ({video_id})", problems)
    return where, ReleasedVideo(video_id, split, labels, intervals, length, labels, names=(video_id,)), problems


def _actions(
    text: str, names: dict[str, str], where: str
) -> tuple[tuple[Interval, ...], tuple[str, ...], list[Problem]]:
    """``c092 11.90 21.20;c147 0.00 12.60`` -> intervals, labels, problems. No action at all is no problem."""
    intervals: list[Interval] = []
    problems: list[Problem] = []
    for part in filter(None, map(str.strip, text.split(";"))):
        try:
            class_id, *times = part.split()
            start, end = map(float, times)
        except ValueError:
            problems.append(Problem("bad_action", where, f"{part!r} is not a class and two times; it was left out"))
            continue
        if class_id in names:
            intervals.append((names[class_id], start, end))
        else:
            said = f"{class_id} is not among the {len(names)} classes; it was left out"
            problems.append(Problem("label_not_in_classes", where, said))
    return tuple(intervals), labels_and(intervals, ()), problems


def read_charades_sta(urls: Sequence[str]) -> tuple[list[Sentence], list[Problem]]:
    """Charades-STA's lines, ``AO8RW 0.0 6.9##a person puts a bag down.``, in their order.

    Problem kinds: ``bad_sentence`` (not such a line).
    """
    sentences: list[Sentence] = []
    problems: list[Problem] = []
    for url in urls:
        for number, line in lines_of(url):
            where = f"{posixpath.basename(url)} line {number}"
            times, _, text = line.partition("##")
            try:
                video_id, start, end = times.split()
                sentence = Sentence(normal_id(video_id), float(start), float(end), text.strip(), where)
            except ValueError:
                sentence = None
            if sentence is not None and sentence.text:
                sentences.append(sentence)
            else:
                said = f"{line!r:.200} is not 'id start end##sentence'; it was left out"
                problems.append(Problem("bad_sentence", where, said))
    return sentences, problems
