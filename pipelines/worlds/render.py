"""How the synthetic worlds look: sprites, their movements, and the scenes behind them.

Input: numbers drawn elsewhere (which sprite, where it starts, how fast it goes).
Does: draws with whole numbers only, so that every platform draws the same pixels.
Output: uint8 frames [T, H, W, 3], RGB, changed in place.

Nothing here draws a random number, and one frame never tells a movement: the same sprite, at the same place, may be
moving horizontally, vertically, drifting or blinking.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

SPRITE_PIXELS = 5
SUBPIXELS = 4  # places and speeds are whole quarters of a pixel
NUM_SCENES = 6

_COLORS = {
    "red": (230, 50, 50),
    "green": (60, 210, 70),
    "blue": (70, 100, 250),
    "yellow": (240, 220, 60),
    "magenta": (225, 70, 220),
    "cyan": (60, 215, 225),
    "grey": (175, 175, 175),
}
# Rows of 5 bits.
_SHAPES = {
    "square": ("#####", "#####", "#####", "#####", "#####"),
    "disc": (".###.", "#####", "#####", "#####", ".###."),
    "cross": ("..#..", "..#..", "#####", "..#..", "..#.."),
    "ring": ("#####", "#...#", "#...#", "#...#", "#####"),
    "triangle": ("..#..", "..#..", ".###.", ".###.", "#####"),
    "diamond": ("..#..", ".###.", "#####", ".###.", "..#.."),
    "hourglass": ("#####", ".###.", "..#..", ".###.", "#####"),
    "gate": ("#...#", "#...#", "#####", "#...#", "#...#"),
    "saltire": ("#...#", ".#.#.", "..#..", ".#.#.", "#...#"),
    "corner": ("##...", "##...", "##...", "#####", "#####"),
    "fence": ("#.#.#", "#.#.#", "#.#.#", "#.#.#", "#.#.#"),
    "slash": ("...##", "..###", ".###.", "###..", "##..."),
}
# Where movement tells the class, colour and shape always go together, so that a sprite is known by either.
SPRITES = ("red_square", "green_disc", "blue_cross", "yellow_ring", "magenta_triangle", "cyan_diamond")
# Where appearance tells it: the sprites' shapes in each other's colours, and six other shapes in the same colours. A
# colour belongs to two classes, and no class is a sprite of the pre-training (worlds/trimmed.py).
APPEARANCES = (
    *("red_disc", "red_hourglass", "green_cross", "green_gate", "blue_ring", "blue_saltire"),
    *("yellow_triangle", "yellow_corner", "magenta_diamond", "magenta_fence", "cyan_square", "cyan_slash"),
)
# All that can be drawn. `sprite` is a place in it everywhere below; SPRITES come first.
LOOKS = (*SPRITES, *(f"{c}_{s}" for c in _COLORS for s in _SHAPES if f"{c}_{s}" not in SPRITES))

# Two dark colours a scene: the sprites stay visible, and a scene is easily known by its colours, which is the trap.
_SCENE_COLORS = (
    ((70, 45, 40), (105, 75, 60)),
    ((35, 65, 45), (65, 100, 70)),
    ((40, 45, 80), (65, 75, 115)),
    ((80, 80, 80), (115, 115, 110)),
    ((75, 70, 30), (110, 100, 60)),
    ((65, 35, 75), (95, 65, 105)),
)


# (rows [H, 1], columns [1, W], pixels) -> 0 or 1 [H, W]
_TEXTURES: tuple[Callable[[np.ndarray, np.ndarray, int], np.ndarray], ...] = (
    lambda y, x, n: y // 3 % 2 + 0 * x,
    lambda y, x, n: x // 3 % 2 + 0 * y,
    lambda y, x, n: (x + y) // 4 % 2,
    lambda y, x, n: (x // 4 + y // 4) % 2,
    lambda y, x, n: ((x % n - n // 2) ** 2 + (y % n - n // 2) ** 2) // 24 % 2,
    lambda y, x, n: ((y % 4 == 0) | ((x + 3 * (y // 4)) % 6 == 0)).astype(np.int64),
)


def scene_background(scene: int, offset: tuple[int, int], brightness: int, pixels: int) -> np.ndarray:
    """One still background, uint8 [pixels, pixels, 3].

    Args:
        scene: 0 to NUM_SCENES - 1: stripes along either axis, diagonals, chessboard, rings, bricks.
        offset: how far the texture is shifted, (rows, columns).
        brightness: added to every channel.
        pixels: height and width.
    """
    y, x = np.arange(pixels)[:, None] + offset[0], np.arange(pixels)[None, :] + offset[1]
    colors = np.clip(np.array(_SCENE_COLORS[scene]) + brightness, 0, 255).astype(np.uint8)
    return colors[_TEXTURES[scene](y, x, pixels)]


def bounce(start: int, speed: int, steps: int, span: int) -> np.ndarray:
    """Places of a thing that runs to and fro in [0, span] pixels: int [steps].

    `start` and `speed` are in quarters of a pixel (SUBPIXELS); the sign of `speed` is the direction it sets off in.
    """
    period = 2 * span * SUBPIXELS
    phase = (start + speed * np.arange(steps)) % period
    return np.minimum(phase, period - phase) // SUBPIXELS


def draw_sprite(
    frames: np.ndarray, sprite: int, top: np.ndarray, left: np.ndarray, visible: np.ndarray | None = None
) -> None:
    """Draw one sprite into frames uint8 [T, H, W, 3], at (top, left) int [T], where visible bool [T]."""
    dy, dx = _sprite_pixels(sprite)
    shown = np.arange(len(frames)) if visible is None else np.nonzero(visible)[0]
    color = _COLORS[LOOKS[sprite].split("_")[0]]
    frames[shown[:, None], top[shown, None] + dy, left[shown, None] + dx] = color


@lru_cache(None)
def _sprite_pixels(sprite: int, size: int = SPRITE_PIXELS) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) of a sprite's pixels inside its box of `size` x `size`; each is its nearest of the 5 x 5."""
    shape = np.array([[c == "#" for c in row] for row in _SHAPES[LOOKS[sprite].split("_")[1]]])
    nearest = (2 * np.arange(size) + 1) * SPRITE_PIXELS // (2 * size)
    rows, columns = np.nonzero(shape[nearest][:, nearest])
    return rows, columns


def draw_sized_sprite(
    frames: np.ndarray, sprite: int, top: np.ndarray, left: np.ndarray, size: np.ndarray, box: int,
    visible: np.ndarray | None = None,
) -> None:  # fmt: skip
    """Draw one sprite of changing size: `size` int [T], in pixels, in the middle of a box of `box` x `box` pixels.

    Args:
        frames: uint8 [T, H, W, 3], drawn into.
        sprite: place in LOOKS.
        top: of the box, int [T].
        left: of the box, int [T].
        size: from 1 to `box`.
        box: height and width of what the sprite may fill.
        visible: bool [T]; None for always.
    """
    color = _COLORS[LOOKS[sprite].split("_")[0]]
    for pixels in np.unique(size).tolist():
        is_shown = (size == pixels) if visible is None else (size == pixels) & visible
        shown, before = np.nonzero(is_shown)[0], (box - pixels) // 2
        dy, dx = _sprite_pixels(sprite, pixels)
        frames[shown[:, None], top[shown, None] + before + dy, left[shown, None] + before + dx] = color


def decoys(appearances: Sequence[str]) -> tuple[list[int], list[int]]:
    """What is easily taken for some appearances and is none: their shapes in grey; their colours in other shapes.

    Both as places in LOOKS, sorted.
    """
    colors, shapes = ({name.split("_")[part] for name in appearances} for part in (0, 1))
    others = [(place, *name.split("_")) for place, name in enumerate(LOOKS) if name not in appearances]
    in_grey = [place for place, color, shape in others if color == "grey" and shape in shapes]
    in_other_shapes = [place for place, color, _ in others if color in colors]
    return in_grey, in_other_shapes


def draw_action(frames: np.ndarray, sprite: int, horizontal: bool, place: tuple[int, int], speed: int) -> None:
    """A sprite running to and fro along one axis through all of the frames.

    Args:
        frames: uint8 [T, H, W, 3], drawn into.
        sprite: place in LOOKS.
        horizontal: the axis it runs along.
        place: where it starts: (along its axis, across it), in whole pixels.
        speed: in quarters of a pixel a frame, with a sign; 0 stands still.
    """
    span = frames.shape[1] - SPRITE_PIXELS
    along = bounce(place[0] * SUBPIXELS, speed, len(frames), span)
    across = np.full(len(frames), place[1])
    top, left = (across, along) if horizontal else (along, across)
    draw_sprite(frames, sprite, top, left)


def draw_distractor(
    frames: np.ndarray, sprite: int, place: tuple[int, int], drift: tuple[int, int], blink_frames: int
) -> None:
    """A sprite that does nothing that counts: it drifts slowly, or stands and blinks.

    Args:
        frames: uint8 [T, H, W, 3], drawn into.
        sprite: place in LOOKS.
        place: where it starts, (top, left), in whole pixels.
        drift: (rows, columns) in quarters of a pixel a frame; at most 1, a tenth of an action's speed.
        blink_frames: shown that many frames, hidden as many; 0 for always shown.
    """
    span = frames.shape[1] - SPRITE_PIXELS
    top, left = (bounce(p * SUBPIXELS, d, len(frames), span) for p, d in zip(place, drift, strict=True))
    visible = (np.arange(len(frames)) // blink_frames) % 2 == 0 if blink_frames else None
    draw_sprite(frames, sprite, top, left, visible)
