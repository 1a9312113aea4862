"""World d: a video is an activity, which is a set of actions in an order.

Each set of actions comes in two orders, one the reverse of the other, so that the set of actions in a video never
identifies its activity. Some steps are left out, and sometimes an action is added that does not belong. The steps are
placed along the video, one at a time, with background between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from adaptfocus.pipelines.worlds.config import KINDS, WorldConfig
from adaptfocus.pipelines.worlds.render import NUM_SCENES

NUM_SETS = 5
SET_ACTIONS = 4
SHARED_ACTIONS = 2  # most actions that two sets share: with a step left out they still differ
LEAVE_OUT = 0.25  # probability of leaving out each step
LEAST_STEPS = 3
STRAY = 0.5  # probability that a video shows an action that is not in its activity
OWN_SCENE = 0.5  # probability that a video has the usual scene of its set of actions
MOST_COVERED = 0.75  # largest share of a video that shows an action
LEAST_GAP_SECONDS = 1.0


@dataclass(frozen=True)
class Activity:
    """Actions in an order; one of them occurs twice."""

    name: str
    steps: tuple[int, ...]  # class ids


@dataclass(frozen=True)
class DrawnActivity:
    """What one video shows."""

    activity: str
    scene: int
    spans: list[tuple[int, int, int]]  # (class id, first frame, end frame), in order of time, with gaps


def activities_of(config: WorldConfig) -> tuple[Activity, ...]:
    """The activities of a world, as a function of its seed: `set1_forwards`, `set1_backwards`, `set2_forwards`, ...

    Those of one set show the same actions, so only their order distinguishes them.
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
    """NUM_SETS sets. No two share more than SHARED_ACTIONS; every action is in some set, and none in many more."""
    every = list(combinations(range(num_classes), SET_ACTIONS))
    most = -(-NUM_SETS * SET_ACTIONS // num_classes)  # rounded up
    while True:  # usually found by the third order
        chosen: list[tuple[int, ...]] = []
        for number in rng.permutation(len(every)):
            new = every[number]
            apart = all(len(set(new) & set(old)) <= SHARED_ACTIONS for old in chosen)
            if apart and all(sum(k in old for old in chosen) < most for k in new):
                chosen.append(new)
        if len(chosen) >= NUM_SETS and len(set().union(*chosen[:NUM_SETS])) == num_classes:
            return chosen[:NUM_SETS]


def _drawn_steps(rng: np.random.Generator, steps: tuple[int, ...]) -> list[int]:
    """The steps that are kept. They never read the same backwards, so that their order is informative."""
    while True:
        left = [step for step in steps if rng.random() >= LEAVE_OUT]
        if len(left) >= LEAST_STEPS and left != left[::-1]:
            return left


def _draw_spans(rng: np.random.Generator, config: WorldConfig, count: int, num_frames: int) -> list[tuple[int, int]]:
    """[start, end) in frames for `count` actions, in order, with at least LEAST_GAP_SECONDS around each."""
    kind = KINDS[config.kind]
    shares = kind.min_coverage + (kind.max_coverage - kind.min_coverage) * rng.random(count)
    gap = round(LEAST_GAP_SECONDS * config.fps)
    room = min(MOST_COVERED * num_frames, num_frames - gap * (count + 1))  # frames for all actions
    lengths = np.maximum(1, (shares * min(1.0, room / (shares.sum() * num_frames)) * num_frames).astype(int))
    free = num_frames - int(lengths.sum()) - gap * (count + 1)
    before = gap * np.arange(1, count + 1) + np.sort(rng.integers(0, free + 1, size=count))
    starts = before + np.cumsum(lengths) - lengths
    return [(int(start), int(start + length)) for start, length in zip(starts, lengths, strict=True)]
