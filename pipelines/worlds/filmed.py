"""World e: what makes footage harder than a still picture that something runs across.

Input: a generator of random numbers, a WorldConfig.
Does: draws classes that come in pairs, short and long spans of which those of a pair often share a moment; draws things
that grow and shrink on a scene larger than the picture, among them some that nearly do what a class does; films the
scene with a camera that pans and shakes, in a light that changes.
Output: frames, class ids, spans of one video.

Whole numbers only, as in worlds/render.py. A class is a sprite that runs along an axis *of the scene*: where the camera
pans, what stands still moves in the picture too.
"""

from __future__ import annotations

import numpy as np

from adaptfocus.pipelines.worlds.config import KINDS, MOTIONS, WorldConfig
from adaptfocus.pipelines.worlds.labels import draw_labels, draw_spans, draw_tailed_labels
from adaptfocus.pipelines.worlds.render import (
    LOOKS,
    NUM_SCENES,
    SPRITES,
    SUBPIXELS,
    bounce,
    draw_sized_sprite,
    scene_background,
)

MARGIN_PIXELS = 3  # of the scene on each side of the picture: how far the camera pans
MIN_SIZE, MAX_SIZE = 5, 8  # of a thing, in pixels; the other worlds have the first (at 4 a cross is lost)
TOGETHER = 0.5  # probability that a label brings its partner, and that two partners share a moment
FULL_LIGHT = 16  # light is in sixteenths
DARKEST, BRIGHTEST = 9, 18
SHOT_SECONDS = (4, 10)  # for so long the camera moves one way, in one light
# What things of no class do, each as likely; the first three are done by sprites of the classes.
LOOKALIKES = ("runs_diagonally", "sways", "drifts", "blinks", "other_thing_runs")


def partners(config: WorldConfig) -> list[int]:
    """The class that each class often comes with, the same in both splits: another sprite's where there are several.

    They come in pairs: the partner of a class's partner is the class itself.
    """
    order = np.random.default_rng([config.seed, 1_000_117]).permutation(config.num_sprites)
    found = [0] * len(config.classes)
    for place, sprite in enumerate(order.tolist()):
        # One of two movements of this sprite goes with one of the next sprite's: no two pairs share a class.
        following = int(order[(place + 1) % len(order)])
        first, second = len(MOTIONS) * sprite, len(MOTIONS) * following + 1
        found[first], found[second] = second, first
    return found


def draw_filmed(
    rng: np.random.Generator, config: WorldConfig, num_frames: int, long_tail: bool
) -> tuple[np.ndarray, list[int], list[tuple[int, int, int]]]:
    """Frames uint8 [T, pixels, pixels, 3], class ids (sorted), (class id, first frame, end frame) of each interval."""
    scene, brightness = int(rng.integers(NUM_SCENES)), int(rng.integers(-12, 13))
    size = config.pixels + 2 * MARGIN_PIXELS
    background = scene_background(scene, (int(rng.integers(size)), int(rng.integers(size))), brightness, size)
    if long_tail:
        labels, _ = draw_tailed_labels(rng, config)
    else:
        labels = _with_partners(rng, config, draw_labels(rng, config, scene))
    spans = _draw_spans(rng, config, labels, num_frames)
    frames = np.repeat(background[None], num_frames, axis=0)
    _draw_lookalikes(rng, config, frames)
    for k, start, end in spans:
        _draw_running(rng, frames[start:end], k // len(MOTIONS), k % len(MOTIONS) == 0)
    return _film(rng, config, frames), labels, spans


def _with_partners(rng: np.random.Generator, config: WorldConfig, labels: list[int]) -> list[int]:
    brought = {partners(config)[k] for k in labels if rng.random() < TOGETHER}
    return sorted({*labels, *brought})


def _draw_spans(
    rng: np.random.Generator, config: WorldConfig, labels: list[int], num_frames: int
) -> list[tuple[int, int, int]]:
    """Of each label as in the other worlds; the second of two partners often takes place where the first does."""
    found: dict[int, list[tuple[int, int]]] = {}
    for k in labels:
        found[k] = draw_spans(rng, KINDS[config.kind], num_frames)
        partner = partners(config)[k]
        if partner in found and partner != k and rng.random() < TOGETHER:
            length = sum(end - start for start, end in found[k])
            shared = int(rng.integers(*found[partner][0]))  # a frame that shows both
            start = min(max(0, shared - int(rng.integers(length))), num_frames - length)
            found[k] = [(start, start + length)]
    return [(k, *span) for k, spans in found.items() for span in spans]


def _draw_lookalikes(rng: np.random.Generator, config: WorldConfig, scene: np.ndarray) -> None:
    """Things of no class for 4 to 12 seconds each, `config.distractors` of them at a time on average."""
    for _ in range(round(config.distractors * len(scene) / (8 * config.fps))):
        length = int(rng.integers(4 * config.fps, 12 * config.fps + 1))
        start = int(rng.integers(-length + 1, len(scene)))
        frames = scene[max(0, start) : max(0, start + length)]
        _draw_lookalike(rng, config, frames, LOOKALIKES[int(rng.integers(len(LOOKALIKES)))])


def _draw_lookalike(rng: np.random.Generator, config: WorldConfig, frames: np.ndarray, what: str) -> None:
    sprite = int(rng.integers(config.num_sprites))
    if what == "other_thing_runs":
        others = [place for place in range(len(LOOKS)) if place >= len(SPRITES)]
        _draw_running(rng, frames, int(rng.choice(others)), bool(rng.integers(2)))
        return
    span, steps = frames.shape[1] - MAX_SIZE, len(frames)
    place = [int(rng.integers(span + 1)) for _ in range(2)]
    if what == "runs_diagonally":
        top, left = (bounce(p * SUBPIXELS, _speed(rng), steps, span) for p in place)
    elif what == "sways":  # along an axis as the classes do, but over two pixels only
        swayed = np.minimum(place[0] + bounce(0, _speed(rng), steps, 2), span)
        top, left = (swayed, np.full(steps, place[1]))[:: 1 if rng.random() < 0.5 else -1]
    else:
        drift = [int(d) if what == "drifts" else 0 for d in rng.integers(-1, 2, size=2)]
        top, left = (bounce(p * SUBPIXELS, d, steps, span) for p, d in zip(place, drift, strict=True))
    blink_frames = int(rng.integers(1, 4))
    visible = (np.arange(steps) // blink_frames) % 2 == 0 if what == "blinks" else None
    draw_sized_sprite(frames, sprite, top, left, _sizes(rng, steps), MAX_SIZE, visible)


def _draw_running(rng: np.random.Generator, frames: np.ndarray, look: int, horizontal: bool) -> None:
    span, steps = frames.shape[1] - MAX_SIZE, len(frames)
    along = bounce(int(rng.integers(span + 1)) * SUBPIXELS, _speed(rng), steps, span)
    across = np.full(steps, int(rng.integers(span + 1)))
    top, left = (across, along) if horizontal else (along, across)
    draw_sized_sprite(frames, look, top, left, _sizes(rng, steps), MAX_SIZE)


def _speed(rng: np.random.Generator) -> int:
    """1.5 to 3 pixels a frame, in quarters, either way."""
    return int(rng.integers(6, 13)) * (1 if rng.random() < 0.5 else -1)


def _sizes(rng: np.random.Generator, steps: int) -> np.ndarray:
    """A thing that comes closer, goes away or stays as far: pixels, int [steps]."""
    first, last = (int(s) for s in rng.integers(MIN_SIZE, MAX_SIZE + 1, size=2))
    return first + (last - first) * np.arange(steps) // max(1, steps)


def _film(rng: np.random.Generator, config: WorldConfig, scene: np.ndarray) -> np.ndarray:
    """What the camera sees of frames uint8 [T, S, S, 3]: [T, pixels, pixels, 3]."""
    steps, reach = len(scene), 2 * MARGIN_PIXELS
    top, left = np.empty(steps, int), np.empty(steps, int)
    light = np.empty(steps, int)
    at = [MARGIN_PIXELS, MARGIN_PIXELS]
    begin = 0
    while begin < steps:
        end = min(steps, begin + int(rng.integers(SHOT_SECONDS[0] * config.fps, SHOT_SECONDS[1] * config.fps + 1)))
        shakes, length = int(rng.integers(2)), end - begin
        for place, axis in zip((top, left), range(2), strict=True):
            panned = bounce(at[axis] * SUBPIXELS, int(rng.integers(-2, 3)), length, reach)
            place[begin:end] = np.clip(panned + shakes * rng.integers(-1, 2, size=length), 0, reach)
            at[axis] = int(panned[-1])
        ends = rng.integers(DARKEST, BRIGHTEST + 1, size=2)
        light[begin:end] = ends[0] + (ends[1] - ends[0]) * np.arange(length) // length
        begin = end
    rows, columns = (place[:, None] + np.arange(config.pixels) for place in (top, left))
    seen = scene[np.arange(steps)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return np.minimum(seen.astype(np.int64) * light[:, None, None, None] // FULL_LIGHT, 255).astype(np.uint8)
