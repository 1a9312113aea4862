"""Trimmed clips to pre-train on: sprites in front of a scene, each with its own movement.

A clip has one to three sprites, which last the whole clip. Its labels are *which sprites occur* and *which movements
occur*, separately. Who does what, and so every action of the worlds, is never a label.

These clips are what Kinetics is for the real backbones: trimmed clips, other classes, the same kind of pixels.
"""

from __future__ import annotations

import numpy as np

from adaptfocus.pipelines.worlds.render import (
    NUM_SCENES,
    SPRITE_PIXELS,
    SPRITES,
    draw_action,
    draw_distractor,
    scene_background,
)

MOVEMENTS = ("runs_horizontally", "runs_vertically", "drifts", "blinks")
LABELS = (*SPRITES, *MOVEMENTS)


def draw_clip(rng: np.random.Generator, clip: np.ndarray, num_sprites: int = len(SPRITES)) -> list[int]:
    """Draw one clip.

    Args:
        rng: decides everything.
        clip: uint8 [T, S, S, 3], RGB; overwritten.
        num_sprites: sprites are chosen from the first `num_sprites` of SPRITES.

    Returns:
        Its labels, as sorted indexes into (the first `num_sprites` of SPRITES, then MOVEMENTS).
    """
    pixels = clip.shape[1]
    offset = (int(rng.integers(pixels)), int(rng.integers(pixels)))
    scene, brightness = int(rng.integers(NUM_SCENES)), int(rng.integers(-12, 13))
    clip[:] = scene_background(scene, offset, brightness, pixels)
    labels: set[int] = set()
    for _ in range(int(rng.integers(1, 4))):
        sprite, movement = int(rng.integers(num_sprites)), int(rng.integers(len(MOVEMENTS)))
        _draw(rng, clip, sprite, movement)
        labels |= {sprite, num_sprites + movement}
    return sorted(labels)


def _draw(rng: np.random.Generator, clip: np.ndarray, sprite: int, movement: int) -> None:
    row, column = (int(p) for p in rng.integers(clip.shape[1] - SPRITE_PIXELS + 1, size=2))
    if movement < 2:
        speed = int(rng.integers(6, 13)) * (1 if rng.random() < 0.5 else -1)
        draw_action(clip, sprite, movement == 0, (row, column), speed)
    elif movement == 2:
        drift = (int(rng.integers(-1, 2)), int(rng.integers(-1, 2)))
        draw_distractor(clip, sprite, (row, column), drift, 0)
    else:
        draw_distractor(clip, sprite, (row, column), (0, 0), int(rng.integers(1, 4)))
