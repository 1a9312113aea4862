"""Pictures that cost a codec as much as filmed ones: moving texture, things that move across it, sensor noise.

Windows are cut out of large textures, in integer arithmetic. The pictures are planes of YUV 4:2:0.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_THINGS = 6
_NOISE_LEVELS = 2.0  # standard deviation, of 255


def render(width: int, height: int, frames: int, seed: int = 0) -> Iterator[np.ndarray]:
    """`frames` pictures: uint8 [height * 3 / 2, width], the planes Y, U and V one below the other."""
    random = np.random.default_rng(seed)
    margin = 2 * max(width, height)
    ground = _texture(random, height + margin // 2, width + margin // 2)
    colours = [_texture(random, ground.shape[0] // 2, ground.shape[1] // 2) // 4 + 96 for _ in range(2)]
    things = [_texture(random, height // 3, width // 5) for _ in range(_THINGS)]
    places = random.random((_THINGS, 2)) * (height, width)
    speeds = random.normal(scale=height / 150, size=(_THINGS, 2))
    noise = np.rint(random.normal(scale=_NOISE_LEVELS, size=(2 * height, 2 * width))).astype(np.int16)
    for number in range(frames):
        top, left = _path(number, margin // 2)
        luma = ground[top : top + height, left : left + width].astype(np.int16)
        for thing, (y, x) in zip(things, places + number * speeds, strict=True):
            _put(luma, thing, int(y) % height, int(x) % width)
        shift = random.integers((height, width))
        luma += noise[shift[0] : shift[0] + height, shift[1] : shift[1] + width]
        window = slice(top // 2, top // 2 + height // 2), slice(left // 2, left // 2 + width // 2)
        chroma = [plane[window].reshape(height // 4, width) for plane in colours]
        yield np.concatenate([np.clip(luma, 16, 235).astype(np.uint8), *chroma])


def _path(number: int, room: int) -> tuple[int, int]:
    """The place of the window in a picture: on a slow curve, in even numbers so that colours move along."""
    angle = number / 90
    y, x = (0.5 + 0.45 * np.sin(angle)) * room, (0.5 + 0.45 * np.sin(0.73 * angle + 1)) * room
    return int(y) // 2 * 2, int(x) // 2 * 2


def _put(luma: np.ndarray, thing: np.ndarray, y: int, x: int) -> None:
    part = luma[y : y + thing.shape[0], x : x + thing.shape[1]]
    part[:] = thing[: part.shape[0], : part.shape[1]]


def _texture(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """The sum of noise of several grains, uint8 [height, width]: edges and areas, but no pixel-sized checks."""
    total = np.zeros((height, width), np.float32)
    for grain, weight in ((4, 12), (16, 25), (64, 40)):
        rows, columns = height // grain + 2, width // grain + 2
        coarse = random.random((rows, columns), dtype=np.float32) - 0.5
        total += weight * 2 * _enlarged(coarse, grain)[:height, :width]
    return np.clip(total + 118, 16, 235).astype(np.uint8)


def _enlarged(coarse: np.ndarray, grain: int) -> np.ndarray:
    """Enlarge linearly in both directions."""
    steps = np.arange(grain, dtype=np.float32) / grain
    rows = (coarse[:-1, None] * (1 - steps[:, None]) + coarse[1:, None] * steps[:, None]).reshape(-1, coarse.shape[1])
    return (rows[:, :-1, None] * (1 - steps) + rows[:, 1:, None] * steps).reshape(rows.shape[0], -1)
