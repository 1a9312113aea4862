"""Annotation files as large as the official ones and with their quirks, made from a seed.

The official files are not ours to copy. The counts below are theirs; how the 7 intervals of Charades that hold no time
are spread over its splits, and the number of intervals in each split, are made up.
``python -m tests.pipelines.datasets.official_sizes FOLDER`` writes all of them.
"""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class CharadesSize:
    """One split of Charades v1."""

    videos: int
    without_action: int
    intervals: int
    ends_after_length: int
    no_time: int


CHARADES = {
    "train": CharadesSize(7985, 174, 49_809, 14_596, 5),
    "test": CharadesSize(1863, 49, 16_691, 5_027, 2),
}
CHARADES_CLASSES = 157
MULTITHUMOS_VIDEOS = {"validation": 200, "test": 213}
MULTITHUMOS_CLASSES, MULTITHUMOS_INTERVALS = 65, 38_690
MULTITHUMOS_NO_TIME, MULTITHUMOS_AFTER_END = 7, 65
BREAKFAST_VIDEOS, BREAKFAST_LABELS = 1712, 48
BREAKFAST_ACTIVITIES = (
    "cereals", "coffee", "friedegg", "juice", "milk", "pancake", "salat", "sandwich", "scrambledegg", "tea",
)  # fmt: skip
CAMERAS = ("cam01", "cam02", "stereo01", "webcam01", "webcam02")
FRAMES_PER_SECOND = 15


def write_charades(folder: Path, seed: int = 0) -> None:
    """``Charades_v1_{train,test}.csv`` with all columns, ``Charades_v1_classes.txt``."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    classes = "".join(f"c{k:03d} Doing thing {k} with a cup/glass\n" for k in range(CHARADES_CLASSES))
    (folder / "Charades_v1_classes.txt").write_text(classes)
    first = 0
    for split, size in CHARADES.items():
        ids = [f"{number:05d}".translate(str.maketrans("0123456789", "A1C3E5G7I9")) for number in range(99_999)]
        rows = _charades_rows(random, size, ids[first : first + size.videos])
        first += size.videos
        with (folder / f"Charades_v1_{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["id", "subject", "scene", "quality", "relevance", "verified", "script", "objects", "descriptions",
                 "actions", "length"]
            )  # fmt: skip
            writer.writerows(rows)


def _charades_rows(random: np.random.Generator, size: CharadesSize, ids: list[str]) -> list[list[str]]:
    """Actions are dealt to the videos that have any, each of which gets one before any gets more."""
    lengths = np.round(random.uniform(4, 60, size.videos), 2)
    empty = set(random.choice(size.videos, size.without_action, replace=False).tolist())
    acting = [v for v in range(size.videos) if v not in empty]
    owner = np.concatenate([acting, random.choice(acting, size.intervals - len(acting))])
    late, broken = np.split(random.permutation(size.intervals), [size.ends_after_length])
    is_late, is_broken = np.zeros((2, size.intervals), bool)
    is_late[late], is_broken[broken[: size.no_time]] = True, True
    actions: list[list[str]] = [[] for _ in range(size.videos)]
    for k, (a, b) in enumerate(random.random((size.intervals, 2))):
        video, length = owner[k], lengths[owner[k]]
        start, end = min(a, b) * (length - 1), min(a, b) * (length - 1) + max(0.1, abs(a - b) * length * 0.9)
        end = length + 0.1 + 5 * a if is_late[k] else min(end, length)
        if is_broken[k]:
            start, end = end, start
        actions[video].append(f"c{random.integers(CHARADES_CLASSES):03d} {start:.2f} {end:.2f}")
    said = 'A person walks in, sits down; then laughs. "Hi," they say.'
    return [
        [name, "HR43", "Kitchen", "6", "7", "Yes", said, "cup;chair", said, ";".join(actions[v]), f"{lengths[v]:.2f}"]
        for v, name in enumerate(ids)
    ]


def multithumos_table(seed: int = 0) -> dict[str, dict]:
    """The one JSON of MultiTHUMOS."""
    random = np.random.default_rng(seed)
    parts = [part for part, videos in MULTITHUMOS_VIDEOS.items() for _ in range(videos)]
    names = [(f"video_{part}_{number:07d}", part) for number, part in enumerate(parts, start=51)]
    table: dict[str, dict] = {
        name: {
            "subset": "training" if part == "validation" else "testing",
            "duration": round(float(random.uniform(20, 500)), 2),
            "actions": [],
        }
        for name, part in names
    }
    order = random.permutation(MULTITHUMOS_INTERVALS)
    late = set(order[:MULTITHUMOS_AFTER_END].tolist())
    broken = set(order[-MULTITHUMOS_NO_TIME:].tolist())
    for k in range(MULTITHUMOS_INTERVALS):
        entry = table[names[k % len(names)][0]]
        start = round(float(random.uniform(0, entry["duration"] - 10)), 1)
        end = round(start + float(random.uniform(0.2, 9)), 1)
        if k in late:
            end = round(entry["duration"] + 1.5, 1)
        number = k % MULTITHUMOS_CLASSES if k < 1000 else int(random.integers(MULTITHUMOS_CLASSES))
        action = [number + 1, start, start if k in broken else end]
        entry["actions"].append(action)
    return table


def write_multithumos(folder: Path, as_json: bool, seed: int = 0) -> None:
    """Either published form, with ``class_list.txt``."""
    folder.mkdir(parents=True, exist_ok=True)
    classes = [f"Thing{k}" for k in range(1, MULTITHUMOS_CLASSES + 1)]
    (folder / "class_list.txt").write_text("".join(f"{k} {name}\n" for k, name in enumerate(classes, start=1)))
    table = multithumos_table(seed)
    if as_json:
        (folder / "multithumos.json").write_text(json.dumps(table))
        return
    (folder / "annotations").mkdir(exist_ok=True)
    lines: dict[int, list[str]] = {k: [] for k in range(1, MULTITHUMOS_CLASSES + 1)}
    for name, entry in table.items():
        for number, start, end in entry["actions"]:
            lines[number].append(f"{name} {start} {end}\n")
    for number, of_class in lines.items():
        (folder / "annotations" / f"{classes[number - 1]}.txt").write_text("".join(of_class))


def breakfast_names() -> list[str]:
    """1,712 names of 52 people: all ten activities before all cameras of one."""
    people = [f"P{number:02d}" for number in range(3, 55)]
    names = [f"{p}_{camera}_{p}_{activity}" for camera in CAMERAS for p in people for activity in BREAKFAST_ACTIVITIES]
    return names[:BREAKFAST_VIDEOS]


def write_breakfast(folder: Path, seed: int = 0, step_frames: tuple[int, int] = (30, 500)) -> None:
    """``groundTruth/``, ``mapping.txt`` and the bundles of four splits; about 2,000 frames a video."""
    random = np.random.default_rng(seed)
    labels = ["SIL", *(f"do_thing_{k}" for k in range(1, BREAKFAST_LABELS))]
    (folder / "groundTruth").mkdir(parents=True)
    (folder / "splits").mkdir()
    (folder / "mapping.txt").write_text("".join(f"{k} {name}\n" for k, name in enumerate(labels)))
    names = breakfast_names()
    for number, name in enumerate(names):
        middle = random.permutation(BREAKFAST_LABELS - 1)[: random.integers(3, 9)] + 1
        middle[0] = number % (BREAKFAST_LABELS - 1) + 1
        steps = [0, *middle.tolist(), 0]
        text = "".join(f"{labels[k]}\n" * int(random.integers(*step_frames)) for k in steps)
        (folder / "groundTruth" / f"{name}.txt").write_text(text)
    for split in range(1, 5):
        for part in ("train", "test"):
            inside = [n for n in names if ((int(n[1:3]) - 3) // 13 + 1 == split) == (part == "test")]
            lines = ["#bundle", *(f"./data/groundTruth/{name}.txt" for name in inside)]
            (folder / "splits" / f"{part}.split{split}.bundle").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    root = Path(sys.argv[1])
    write_charades(root / "charades")
    write_multithumos(root / "multithumos", as_json=True)
    write_multithumos(root / "multithumos-text", as_json=False)
    write_breakfast(root / "breakfast")
