"""MS-TCN, ASFormer, LTContext and POC: a feature and a label for every frame.

The files that are written and checked:

    features/NAME.npy                  float32 [D, T]
    groundTruth/NAME.txt               one label a frame
    mapping.txt                        "number label"
    splits/{train,test}.splitN.bundle  "NAME.txt"            (MS-TCN, ASFormer, LTContext)
    splitN.{train,test}                "NAME"                (POC)
    recipe_mapping.txt                 "number recipe"       (POC; the recipe is NAME's fourth word between _)

MS-TCN finds a feature by NAME up to its first dot. It silently cuts features and labels to the shorter of the two. Its
evaluation leaves out only the label "background".
"""

from __future__ import annotations

import io
import posixpath
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.tasks import read_activities
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.features.layouts.axes import Problems, check_axes, check_matrix, check_values
from adaptfocus.pipelines.features.layouts.given import (
    Given,
    at_frames,
    check_any,
    frames_in,
    leave_out,
    names_of,
    read_facts,
    read_lines,
    write_text,
)
from adaptfocus.pipelines.features.layouts.ground_truth import mapping_of, truths, word

RECIPE_WORD = 3


@dataclass(frozen=True)
class Reader:
    """How one of these projects finds its files."""

    name: str
    is_poc: bool = False

    def split_url(self, url: str, split: str, number: int) -> str:
        parts = (f"split{number}.{split}",) if self.is_poc else ("splits", f"{split}.split{number}.bundle")
        return store.inside(url, *parts)

    def truth_name(self, line: str) -> str:
        """The name of the label file for a line of a split."""
        return f"{line}.txt" if self.is_poc else line

    def feature_name(self, line: str) -> str:
        """The name of the feature file for a line of a split."""
        return f"{line}.npy" if self.is_poc else f"{line.split('.')[0]}.npy"


MSTCN, ASFORMER, LTCONTEXT = Reader("MS-TCN"), Reader("ASFormer"), Reader("LTContext")
POC = Reader("POC", is_poc=True)


def write(url: str, given: Given, reader: Reader) -> dict[str, int]:
    """Write the layout -> counts of the videos, and of those left out because they have no labels."""
    known = truths(given)
    names = _names(given, reader)
    splits: dict[str, list[str]] = {}
    labels: set[str] = set()
    done: Counter[str] = Counter()
    for video in given.videos():
        truth = known.get(video.video_id)
        if truth is None:
            done["without labels"] += 1
            continue
        split = truth.split or video.split
        if split is None:
            raise ConfigError(
                f"{video.video_id} is in no split; extract with --split, or give a segmentation.jsonl that says so"
            )
        name = names[video.video_id]
        try:
            lines = truth.labels(given.fps, given.background)
            features = at_frames(video, len(lines), given.fps, given.align).T
            write_array(store.inside(url, "features", f"{name}.npy"), features)
            write_text(store.inside(url, "groundTruth", f"{name}.txt"), lines)
        except Exception as error:
            leave_out(done, video.video_id, error)
            continue
        splits.setdefault(split, []).append(name)
        labels.update(lines)
        done["videos"] += 1
    if not splits:
        if done["left out"]:
            check_any(done)
        raise InputError("no video of the features has labels; their ids must be those of the segmentation")
    write_text(store.join(url, "mapping.txt"), [f"{n} {label}" for label, n in mapping_of(labels).items()])
    for split, members in splits.items():
        lines = members if reader.is_poc else [f"{name}.txt" for name in members]
        write_text(reader.split_url(url, split, given.split_number), lines)
    if reader.is_poc:
        recipes = {name.split("_")[RECIPE_WORD] for members in splits.values() for name in members}
        write_text(store.join(url, "recipe_mapping.txt"), [f"{n} {r}" for r, n in mapping_of(recipes).items()])
    return dict(done)


def _names(given: Given, reader: Reader) -> dict[str, str]:
    """id -> name. POC needs a recipe in the name: Breakfast's own ids have one (P03_cam01_P03_cereals)."""
    names = names_of([video_id for each in given.sets for video_id in each.video_ids])
    if not reader.is_poc:
        return names
    if given.activities_url:
        recipes = {row.video_id: row.activities for row in read_activities(given.activities_url)}
        missing = [video_id for video_id in names if not recipes.get(video_id)]
        if missing:
            raise InputError(f"{given.activities_url} has no activity for {missing[:3]}; POC needs a recipe for each")
        return {
            video_id: f"{name.replace('_', '-')}_x_x_{word(recipes[video_id][0]).replace('_', '-')}"
            for video_id, name in names.items()
        }
    short = [name for name in names.values() if len(name.split("_")) <= RECIPE_WORD]
    if short:
        raise ConfigError(
            f"POC takes the recipe from the fourth word of a name (P03_cam01_P03_cereals), and {short[0]!r} has none; "
            "give an activity.jsonl with --activities"
        )
    return names


def write_array(url: str, array: np.ndarray) -> None:
    """One .npy file, in C order."""
    data = io.BytesIO()
    np.save(data, np.ascontiguousarray(array, np.float32), allow_pickle=False)
    store.write_bytes(url, data.getvalue())


def read_array(url: str, name: str, problems: Problems) -> np.ndarray | None:
    """The array of a .npy file without pickles; None if it is not one, with the reason among the problems."""
    if not store.exists(url):
        problems.say("missing", f"{name} is missing; export again")
        return None
    try:
        return np.load(io.BytesIO(store.read_bytes(url)), allow_pickle=False)
    except (ValueError, EOFError) as error:
        problems.say("not an array", f"{name} is not a plain .npy file ({str(error)[:100]}); export again")
        return None


def check(url: str, given: Given, reader: Reader) -> tuple[int, Problems]:
    """(number of videos, problems) as the reader would see them."""
    problems = Problems()
    facts = read_facts(url)
    number = facts.get("split_number", given.split_number)
    mapping = _mapping(url, "mapping.txt", problems)
    recipes = _mapping(url, "recipe_mapping.txt", problems) if reader.is_poc else set()
    lines: list[str] = []
    for split in ("train", "test", "val"):
        place = reader.split_url(url, split, number)
        if store.exists(place):
            found = read_lines(place)
            lines += found
            _check_split(place, found, reader, recipes, problems)
        elif split != "val":
            text = f"{posixpath.relpath(place, url)} is missing; {reader.name} reads train and test: export both splits"
            problems.say("missing split", text)
    expected = _Expected(given, facts, reader)
    shapes: dict[str, tuple[int, ...]] = {}
    steps: dict[str, int] = {}
    videos = 0
    for line in dict.fromkeys(lines):
        if "/" in line:  # it would be read from another folder
            problems.say("unknown name", f"{line!r:.200} has a slash; a split lists file names: export again")
            continue
        name = f"features/{reader.feature_name(line)}"
        labels = _labels(url, reader.truth_name(line), mapping, problems)
        array = read_array(store.join(url, name), name, problems)
        if array is None or not check_matrix(name, array, problems, reader.name):
            continue
        videos += 1
        if expected.agrees(name, line, array, len(labels), problems):
            shapes[name] = array.shape
            if labels:
                steps[name] = len(labels)
    dim = (facts.get("feature_shape") or [None])[-1] if not given.sets else given.sets[0].dim
    bad = check_axes(shapes, problems, reader=reader.name, time_axis=1, dim=dim, steps=steps)
    for name in sorted(shapes.keys() & steps.keys() - bad):
        if shapes[name][1] != steps[name]:
            problems.say(
                "alignment",
                f"{name} has {shapes[name][1]} frames and its groundTruth {steps[name]} labels; {reader.name} silently "
                "cuts to the shorter: export both at one --fps",
            )
    return videos, problems


class _Expected:
    """What the files should hold according to the features; nothing if no features are given."""

    def __init__(self, given: Given, facts: dict[str, Any], reader: Reader) -> None:
        self.fps, self.align = facts.get("fps", given.fps), facts.get("align", given.align)
        self.reader = reader
        self.videos: dict[str, tuple[Any, str]] = {}
        if given.sets:
            ids = _names(given, reader)
            sets = {video_id: each for each in given.sets for video_id in each.video_ids}
            self.videos = {name: (sets[video_id], video_id) for video_id, name in ids.items()}

    def agrees(self, name: str, line: str, array: np.ndarray, labels: int, problems: Problems) -> bool:
        """Whether an array equals the features at as many frames as there are labels; notes a problem if not."""
        if not self.videos:
            return True
        place = self.videos.get(line if self.reader.is_poc else line.removesuffix(".txt"))
        if place is None:
            problems.say("unknown name", f"{name} belongs to no video of the features; names are ids with - for dots")
            return True
        video = place[0].video(place[1])
        frames = labels or frames_in(video.duration_seconds, self.fps)
        wanted = at_frames(video, frames, self.fps, self.align).T
        return check_values(name, array, wanted, problems, reader=self.reader.name, time_axis=1, hertz=self.fps)


def _mapping(url: str, name: str, problems: Problems) -> set[str]:
    place = store.join(url, name)
    if not store.exists(place):
        problems.say("missing", f"{name} is missing; export again")
        return set()
    rows = [line.split() for line in read_lines(place)]
    if [row[0] for row in rows] != [str(n) for n in range(len(rows))] or any(len(row) != 2 for row in rows):
        text = f"{name} must say 'number label', with numbers from 0 and no space in a label: export again"
        problems.say("mapping", text)
    return {row[1] for row in rows if len(row) > 1}


def _labels(url: str, name: str, mapping: set[str], problems: Problems) -> list[str]:
    place = store.join(url, "groundTruth", name)
    if not store.exists(place):
        problems.say("missing", f"groundTruth/{name} is missing; export again")
        return []
    labels = read_lines(place)
    strange = sorted(set(labels) - mapping)
    if strange:
        text = f"groundTruth/{name} has labels that mapping.txt lacks: {strange[:3]}; export again"
        problems.say("label", text)
    return labels


def _check_split(place: str, lines: list[str], reader: Reader, recipes: set[str], problems: Problems) -> None:
    name = posixpath.basename(place)
    if not store.read_bytes(place).endswith(b"\n"):
        problems.say(
            "last line", f"{name}: its last line has no newline, and {reader.name} drops it: end it with a newline"
        )
    twice = [line for line, count in Counter(lines).items() if count > 1]
    if twice:
        problems.say("twice", f"{name} names {twice[:3]} twice: remove one")
    for line in lines:
        stem = line if reader.is_poc else line.removesuffix(".txt")
        if "." in stem or (not reader.is_poc and stem == line):
            wanted = "NAME" if reader.is_poc else "NAME.txt"
            problems.say("name", f"{name} has {line!r}; {reader.name} reads {wanted}, with no other dot in it")
        elif reader.is_poc and (stem.split("_") + [""] * 4)[RECIPE_WORD] not in recipes:
            problems.say("recipe", f"{name}: the fourth word of {line!r} is not a recipe in recipe_mapping.txt")
