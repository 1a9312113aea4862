"""World d: a video is an activity, which is some actions in an order.

Input: a generator of random numbers, a WorldConfig.
Does: chooses sets of actions, each in two orders that are each other backwards, so that which actions a video shows
never tells its activity alone; leaves steps out, puts in an action that does not belong, and lays what is left along
the video, one at a time, with background between.
Output: the activities of a world; the name, the scene and the spans of one video.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from adaptfocus.pipelines.worlds.config import KINDS, WorldConfig
from adaptfocus.pipelines.worlds.render import NUM_SCENES

NUM_SETS = 5
SET_ACTIONS = 4
SHARED_ACTIONS = 2  # of two sets, at most: with a step left out they still differ
LEAVE_OUT = 0.25  # probability of each step
LEAST_STEPS = 3
STRAY = 0.5  # probability that a video shows an action that is none of its activity's
OWN_SCENE = 0.5  # probability that a video is set where its set of actions usually is
MOST_COVERED = 0.75  # share of a video that shows any action
LEAST_GAP_SECONDS = 1.0


@dataclass(frozen=True)
class Activity:
    """Actions in an order; one of them comes twice."""

    name: str
    steps: tuple[int, ...]  # class ids


@dataclass(frozen=True)
class DrawnActivity:
    """What one video shows."""

    activity: str
    scene: int
    spans: list[tuple[int, int, int]]  # (class id, first frame, end frame), in order of time, apart from each other


def activities_of(config: WorldConfig) -> tuple[Activity, ...]:
    """The activities of a world, a function of its seed: `set1_forwards`, `set1_backwards`, `set2_forwards`, ...

    Those of one set show the same actions, so nothing but order tells them apart.
    """
    rng = np.random.default_rng([config.seed, 1_000_081])
    found = []
    for number, chosen in enumerate(_sets(rng, len(config.classes)), start=1):
        a, b, c, d = rng.permutation(chosen).tolist()
        steps = (a, b, c, a, d)
        found += [Activity(f"set{number}_forwards", steps), Activity(f"set{number}_backwards", steps[::-1])]
    return tuple(found)


def draw_activity(rng: np.random.Generator, config: WorldConfig, num_frames: int) -> DrawnActivity:
    """One video of a random activity."""
    activities = activities_of(config)
    number = int(rng.integers(len(activities)))
    steps = _drawn_steps(rng, activities[number].steps)
    if rng.random() < STRAY:
        others = [k for k in range(len(config.classes)) if k not in activities[number].steps]
        steps.insert(int(rng.integers(len(steps) + 1)), int(rng.choice(others)))
    own_scene = number // 2 % NUM_SCENES
    scene = own_scene if rng.random() < OWN_SCENE else int(rng.integers(NUM_SCENES))
    spans = [(k, *span) for k, span in zip(steps, _draw_spans(rng, config, len(steps), num_frames), strict=True)]
    return DrawnActivity(activities[number].name, scene, spans)


def _sets(rng: np.random.Generator, num_classes: int) -> list[tuple[int, ...]]:
    """NUM_SETS sets, of which no two share more than SHARED_ACTIONS; every action is in one, and none in far more."""
    every = list(combinations(range(num_classes), SET_ACTIONS))
    most = -(-NUM_SETS * SET_ACTIONS // num_classes)  # rounded up
    while True:  # found by the third order or so
        chosen: list[tuple[int, ...]] = []
        for number in rng.permutation(len(every)):
            new = every[number]
            apart = all(len(set(new) & set(old)) <= SHARED_ACTIONS for old in chosen)
            if apart and all(sum(k in old for old in chosen) < most for k in new):
                chosen.append(new)
        if len(chosen) >= NUM_SETS and len(set().union(*chosen[:NUM_SETS])) == num_classes:
            return chosen[:NUM_SETS]


def _drawn_steps(rng: np.random.Generator, steps: tuple[int, ...]) -> list[int]:
    """Steps without those left out; what is left never reads the same backwards, so that its order tells something."""
    while True:
        left = [step for step in steps if rng.random() >= LEAVE_OUT]
        if len(left) >= LEAST_STEPS and left != left[::-1]:
            return left


def _draw_spans(rng: np.random.Generator, config: WorldConfig, count: int, num_frames: int) -> list[tuple[int, int]]:
    """[start, end) in frames of `count` actions, in order, with at least LEAST_GAP_SECONDS around each."""
    kind = KINDS[config.kind]
    shares = kind.min_coverage + (kind.max_coverage - kind.min_coverage) * rng.random(count)
    gap = round(LEAST_GAP_SECONDS * config.fps)
    room = min(MOST_COVERED * num_frames, num_frames - gap * (count + 1))  # of all actions
    lengths = np.maximum(1, (shares * min(1.0, room / (shares.sum() * num_frames)) * num_frames).astype(int))
    free = num_frames - int(lengths.sum()) - gap * (count + 1)
    before = gap * np.arange(1, count + 1) + np.sort(rng.integers(0, free + 1, size=count))
    starts = before + np.cumsum(lengths) - lengths
    return [(int(start), int(start + length)) for start, length in zip(starts, lengths, strict=True)]
