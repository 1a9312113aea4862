"""What happens in a video of a world, and when: labels and spans.

In a balanced world, half of a video's classes follow from its scene's preferences; another world may have a long tail.
"""

from __future__ import annotations

import numpy as np

from adaptfocus.pipelines.worlds.config import KINDS, WorldConfig, WorldKind
from adaptfocus.pipelines.worlds.render import NUM_SCENES

PREFERRED_SHARE_OF_CLASSES = 4  # a scene prefers one class in four


def scene_preferences(config: WorldConfig) -> np.ndarray:
    """The classes that each scene prefers, the same in both splits: int [NUM_SCENES, preferred]."""
    rng = np.random.default_rng([config.seed, 1_000_003])
    num_classes = len(config.classes)
    preferred = max(2, num_classes // PREFERRED_SHARE_OF_CLASSES)
    # Dealt like cards, so that classes differ by at most one in the number of scenes that prefer them.
    deck = np.concatenate([rng.permutation(num_classes) for _ in range(NUM_SCENES)])
    hands: list[list[int]] = [[] for _ in range(NUM_SCENES)]
    for k in deck:
        hand = next((h for h in hands if len(h) < preferred and k not in h), None)
        if hand is not None:
            hand.append(int(k))
    return np.array(hands)


def class_ranks(config: WorldConfig) -> np.ndarray:
    """The rank of each class in a long tail, 1 for the most frequent: int [K].

    Drawn from the seed, so that over several seeds no class is rare because of its looks.
    """
    return np.random.default_rng([config.seed, 1_000_033]).permutation(len(config.classes)) + 1


def draw_labels(rng: np.random.Generator, config: WorldConfig, scene: int) -> list[int]:
    """Class ids of one video, sorted: half of them from the scene's preferred classes, the others from the rest."""
    num_classes = len(config.classes)
    count = min(int(rng.choice(KINDS[config.kind].label_counts)), num_classes)
    preferred = scene_preferences(config)[scene]
    # An odd one goes to either half with equal probability.
    from_scene = min((count + int(rng.integers(2))) // 2, len(preferred))
    chosen = rng.permutation(preferred)[:from_scene].tolist()
    others = [k for k in rng.permutation(num_classes).tolist() if k not in chosen]
    return sorted(chosen + others[: count - from_scene])


def draw_tailed_labels(rng: np.random.Generator, config: WorldConfig) -> tuple[list[int], int]:
    """Class ids of one video, sorted, with frequencies proportional to 1 / rank; and a scene that fits them.

    The scene is one of those that prefer the most of these labels. If labels were drawn by scene, a rare class would be
    frequent in the scenes that prefer it.
    """
    count = min(int(rng.choice(KINDS[config.kind].label_counts)), len(config.classes))
    # Systematic sampling in a random order: `count` different classes, each with exactly its probability.
    order = rng.permutation(len(config.classes))
    edges = np.cumsum(inclusion_probabilities(1 / class_ranks(config)[order], count))
    places = np.searchsorted(edges, rng.random() + np.arange(count), side="right")
    labels = sorted(order[np.minimum(places, len(order) - 1)].tolist())
    fits = np.isin(scene_preferences(config), labels).sum(axis=1)
    return labels, int(rng.choice(np.flatnonzero(fits == fits.max())))


def inclusion_probabilities(weights: np.ndarray, count: int) -> np.ndarray:
    """Probabilities with sum `count`, proportional to `weights` except where they would exceed 1: float [K]."""
    p = count * weights / weights.sum()
    while (full := p >= 1).sum() < len(p) and p.max() > 1:
        p = np.where(full, 1.0, weights * (count - full.sum()) / weights[~full].sum())
    return np.minimum(p, 1.0)


def draw_spans(rng: np.random.Generator, kind: WorldKind, num_frames: int) -> list[tuple[int, int]]:
    """The intervals of one action: [start, end) in frames, in order, with gaps."""
    coverage = kind.min_coverage + (kind.max_coverage - kind.min_coverage) * rng.random() ** kind.coverage_power
    pieces = int(rng.integers(1, kind.max_intervals + 1))
    length = max(1, round(coverage * num_frames / pieces))
    free = num_frames - pieces * length
    gaps = np.sort(rng.integers(0, free + 1, size=pieces))
    return [(int(gap) + i * length, int(gap) + (i + 1) * length) for i, gap in enumerate(gaps)]
