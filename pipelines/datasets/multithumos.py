"""MultiTHUMOS: 413 sports videos of THUMOS'14 with 65 classes, densely labelled.

Input: a folder with ``class_list.txt`` and either one text file a class (``annotations/Billiards.txt``: ``video start
end``) or one JSON (``{"video_...": {"subset", "duration", "actions": [[class, start, end], ...]}}``).
Does: reads either; classes keep the order of their ids, which begin at 1.
Output: a Release; the videos' activities are their labels. Only the JSON says how long the videos are.

http://ai.stanford.edu/~syyeung/everymoment.html
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from typing import Any

from adaptfocus.pipelines.annotations.names import check_id, check_unique
from adaptfocus.pipelines.annotations.rows import Interval, Problem, labels_and
from adaptfocus.pipelines.datasets.release import Release, ReleasedVideo
from adaptfocus.pipelines.datasets.release_files import (
    in_threads,
    lines_of,
    only_file,
    parse_json,
    read_ids_and_names,
    seconds_of,
    texts_by_name,
)
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.store.walk import files_below

NEEDED = "needed are class_list.txt and either a .json or a text file for each class"
SPLITS = {"training": "train", "validation": "train", "testing": "test", "test": "test"}


def read_multithumos(annotations_url: str) -> Release:
    """Both splits: videos of THUMOS's validation set are ``train``, those of its test set ``test``.

    Args:
        annotations_url: the folder, or the JSON with the class list beside it.

    Problem kinds: ``bad_row``, ``label_not_in_classes``, ``missing_list`` (no file of a class), ``no_split``.

    Raises:
        InputError: a file is missing, the JSON is none of this kind, or its classes begin at 0.
    """
    if annotations_url.endswith(".json"):
        files, json_urls = files_below(posixpath.dirname(annotations_url) or "."), [annotations_url]
    else:
        files = files_below(annotations_url)
        json_urls = [url for url in files if url.endswith(".json")]
    names = {
        int(number): name
        for number, name in read_ids_and_names(only_file(files, "class_list.txt", annotations_url, NEEDED)).items()
        if number.isdigit()
    }
    of_class = {f"{name}.txt" for name in names.values()}
    texts = texts_by_name((url for url in files if posixpath.basename(url) in of_class), annotations_url)
    if texts and not annotations_url.endswith(".json"):
        return _from_texts(texts, names)
    if len(json_urls) != 1:
        raise InputError(f"{annotations_url}: there are {len(json_urls)} .json files and no class's text; {NEEDED}")
    return _from_json(json_urls[0], names)


def _from_texts(texts: dict[str, str], names: dict[int, str]) -> Release:
    intervals: dict[str, list[Interval]] = defaultdict(list)
    problems: list[Problem] = []
    listed = {name: texts[name] for name in names.values() if name in texts}
    for name, lines in zip(listed, in_threads(lines_of, [*listed.values()]), strict=True):
        for number, line in lines:
            where = f"{name}.txt line {number}"
            try:
                video_id, *times = line.split()
                start, end = map(float, times)
            except ValueError:
                problems.append(Problem("bad_row", where, f"{line!r:.200} is not a video and two times"))
                continue
            intervals[check_id(video_id, where)].append((name, start, end))  # an id may be in each line
    problems += [
        Problem("missing_list", name, f"there is no {name}.txt") for name in names.values() if name not in texts
    ]
    videos = [_video(video_id, None, None, spans, problems) for video_id, spans in sorted(intervals.items())]
    return Release("multithumos", tuple(names.values()), tuple(videos), tuple(problems))


def _from_json(url: str, names: dict[int, str]) -> Release:
    table = parse_json(url)
    problems: list[Problem] = []
    videos: list[ReleasedVideo] = []
    for video_id, entry in sorted(table.items()):
        video_id = check_id(video_id, url)
        if not isinstance(entry, dict) or not isinstance(entry.get("actions"), list):
            problems.append(Problem("bad_row", video_id, "it has no list of actions; it was left out"))
            continue
        intervals: list[Interval] = []
        for action in entry["actions"]:
            try:
                number, start, end = int(action[0]), float(action[1]), float(action[2])
            except (TypeError, ValueError, IndexError, KeyError, OverflowError):
                problems.append(Problem("bad_row", video_id, f"{action!r:.200} is not a class and two times"))
                continue
            if number == 0:
                raise InputError(f"{url}: {video_id} has the class 0; MultiTHUMOS's classes are 1 to {len(names)}")
            if number in names:
                intervals.append((names[number], start, end))
            else:
                said = f"the class {number} is not among 1 to {len(names)}; it was left out"
                problems.append(Problem("label_not_in_classes", video_id, said))
        duration = seconds_of(entry.get("duration"), video_id, problems)
        videos.append(_video(video_id, entry.get("subset"), duration, intervals, problems))
    check_unique((video.video_id, url) for video in videos)  # two Unicode forms of one id
    return Release("multithumos", tuple(names.values()), tuple(videos), tuple(problems))


def _video(
    video_id: str, subset: Any, duration: float | None, intervals: list[Interval], problems: list[Problem]
) -> ReleasedVideo:
    said = str(subset) if subset else video_id.removeprefix("video_").partition("_")[0]
    split = SPLITS.get(said)
    if split is None:
        problems.append(Problem("no_split", video_id, f"{said!r} is none of {', '.join(SPLITS)}"))
    labels = labels_and(intervals, ())
    return ReleasedVideo(video_id, split, labels, tuple(intervals), duration, activities=labels, names=(video_id,))
