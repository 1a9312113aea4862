"""The benchmark worlds: long synthetic videos whose actions are known to the frame.

Labels, intervals, scenes and distractors depend only on (seed, kind, split, index). Videos are rendered and encoded as
real H.264.

An action is a sprite that runs along an axis. In world c it is a thing of some shape and colour, whatever it does. In
world d a video is an activity: actions in an order, one at a time, with sentences about them. The worlds are hard for
the same reasons as real weak labels: an action covers little of its video, actions overlap, half of a video's labels
follow from its scene (so that the background misleads), and things that look nearly the same blink or drift where there
is no action.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.worlds.activities import draw_activity
from adaptfocus.pipelines.worlds.config import KINDS, MOTIONS, SPLITS, TRIMMED, WorldConfig
from adaptfocus.pipelines.worlds.filmed import draw_filmed
from adaptfocus.pipelines.worlds.labels import draw_labels, draw_spans, draw_tailed_labels
from adaptfocus.pipelines.worlds.render import (
    LOOKS,
    NUM_SCENES,
    SPRITE_PIXELS,
    decoys,
    draw_action,
    draw_distractor,
    scene_background,
)
from adaptfocus.pipelines.worlds.sentences import sentences_about
from adaptfocus.pipelines.worlds.trimmed import draw_clip


@dataclass(frozen=True)
class WorldVideo:
    """One video of a world, before encoding."""

    video_id: str
    labels: tuple[str, ...]
    intervals: tuple[tuple[str, float, float], ...]  # (label, start_seconds, end_seconds)
    frames: np.ndarray  # uint8 [T, pixels, pixels, 3], RGB
    activity: str | None = None  # in a world of activities
    sentences: tuple[tuple[float, float, str], ...] = ()  # (start_seconds, end_seconds, text), one an interval


# frames, class ids, (class id, first frame, end frame) of each interval
Drawn = tuple[np.ndarray, list[int], list[tuple[int, int, int]]]


def make_video(config: WorldConfig, split: str, index: int) -> WorldVideo:
    """Video `index` of a split: a pure function of its arguments.

    It does not depend on the number of videos: a larger world begins with the same videos.

    Raises:
        ConfigError: no such split.
    """
    if split not in SPLITS:
        raise ConfigError(f"split {split!r} is not known; choose one of {', '.join(SPLITS)}")
    rng = np.random.default_rng([config.seed, list(KINDS).index(config.kind), SPLITS.index(split), index])
    seconds = config.min_seconds + (config.max_seconds - config.min_seconds) * rng.random()
    num_frames = round(seconds * config.fps)
    names, fps, activity, sentences = config.classes, config.fps, None, []
    if config.kind == TRIMMED:
        frames, labels, spans = _draw_trimmed(rng, config, num_frames)
    elif KINDS[config.kind].is_composed:
        (frames, labels, spans), activity = _draw_composed(rng, config, num_frames)
        sentences = sentences_about(rng, [names[k] for k, _, _ in spans])
    elif KINDS[config.kind].is_filmed:
        frames, labels, spans = draw_filmed(rng, config, num_frames, config.long_tail and split == "train")
    else:
        frames, labels, spans = _draw_long(rng, config, num_frames, config.long_tail and split == "train")
    return WorldVideo(
        video_id=f"{config.kind}-{split}-{index:05d}",
        labels=tuple(names[k] for k in labels),
        intervals=tuple((names[k], start / fps, end / fps) for k, start, end in spans),
        frames=frames,
        activity=activity,
        sentences=tuple(
            (start / fps, end / fps, text) for text, (_, start, end) in zip(sentences, spans, strict=False)
        ),
    )


def _draw_trimmed(rng: np.random.Generator, config: WorldConfig, num_frames: int) -> Drawn:
    frames = np.empty((num_frames, config.pixels, config.pixels, 3), np.uint8)
    labels = draw_clip(rng, frames, config.num_sprites)
    return frames, labels, [(k, 0, num_frames) for k in labels]


def _draw_long(rng: np.random.Generator, config: WorldConfig, num_frames: int, long_tail: bool) -> Drawn:
    scene = int(rng.integers(NUM_SCENES))
    offset = (int(rng.integers(config.pixels)), int(rng.integers(config.pixels)))
    brightness = int(rng.integers(-12, 13))
    if long_tail:
        labels, scene = draw_tailed_labels(rng, config)
    else:
        labels = draw_labels(rng, config, scene)
    background = scene_background(scene, offset, brightness, config.pixels)
    frames = np.repeat(background[None], num_frames, axis=0)
    spans = [(k, *span) for k in labels for span in draw_spans(rng, KINDS[config.kind], num_frames)]
    _draw_what_happens(rng, config, frames, spans)
    return frames, labels, spans


def _draw_composed(rng: np.random.Generator, config: WorldConfig, num_frames: int) -> tuple[Drawn, str]:
    """A video of an activity, and the activity's name."""
    offset = (int(rng.integers(config.pixels)), int(rng.integers(config.pixels)))
    brightness = int(rng.integers(-12, 13))
    drawn = draw_activity(rng, config, num_frames)
    background = scene_background(drawn.scene, offset, brightness, config.pixels)
    frames = np.repeat(background[None], num_frames, axis=0)
    _draw_what_happens(rng, config, frames, drawn.spans)
    return (frames, sorted({k for k, _, _ in drawn.spans}), drawn.spans), drawn.activity


def _draw_what_happens(
    rng: np.random.Generator, config: WorldConfig, frames: np.ndarray, spans: list[tuple[int, int, int]]
) -> None:
    _draw_distractors(rng, config, frames)
    for k, start, end in spans:
        if KINDS[config.kind].by_appearance:
            _draw_doing(rng, config, frames[start:end], LOOKS.index(config.classes[k]))
        else:
            _draw_running(rng, config, frames[start:end], k // len(MOTIONS), k % len(MOTIONS) == 0)


def _draw_running(
    rng: np.random.Generator, config: WorldConfig, frames: np.ndarray, sprite: int, horizontal: bool
) -> None:
    place = (_place(rng, config), _place(rng, config))
    speed = int(rng.integers(6, 13)) * (1 if rng.random() < 0.5 else -1)  # 1.5 to 3 pixels a frame
    draw_action(frames, sprite, horizontal, place, speed)


def _draw_doing(rng: np.random.Generator, config: WorldConfig, frames: np.ndarray, sprite: int) -> None:
    """Draw a thing that stands still, runs horizontally or runs vertically, with equal probability."""
    movement = int(rng.integers(len(MOTIONS) + 1))
    if movement < len(MOTIONS):
        _draw_running(rng, config, frames, sprite, movement == 0)
    else:
        draw_distractor(frames, sprite, (_place(rng, config), _place(rng, config)), (0, 0), 0)


def _draw_distractors(rng: np.random.Generator, config: WorldConfig, frames: np.ndarray) -> None:
    """Draw things of no class for 4 to 12 seconds each, on average `config.distractors` at a time."""
    mean_frames = 8 * config.fps
    draw = _draw_decoy if KINDS[config.kind].by_appearance else _draw_idle_sprite
    for _ in range(round(config.distractors * len(frames) / mean_frames)):
        length = int(rng.integers(4 * config.fps, 12 * config.fps + 1))
        start = int(rng.integers(-length + 1, len(frames)))
        draw(rng, config, frames[max(0, start) : max(0, start + length)])


def _draw_idle_sprite(rng: np.random.Generator, config: WorldConfig, frames: np.ndarray) -> None:
    """Draw a sprite of the classes that blinks or drifts, with equal probability."""
    sprite = int(rng.integers(config.num_sprites))
    place = (_place(rng, config), _place(rng, config))
    drift = (int(rng.integers(-1, 2)), int(rng.integers(-1, 2)))
    blinks = rng.random() < 0.5
    draw_distractor(frames, sprite, place, (0, 0) if blinks else drift, int(rng.integers(1, 4)) if blinks else 0)


def _draw_decoy(rng: np.random.Generator, config: WorldConfig, frames: np.ndarray) -> None:
    """Draw a class's shape in grey, or its colour in another shape, that blinks or moves like the classes."""
    looks = decoys(config.classes)[int(rng.integers(2))]
    sprite = looks[int(rng.integers(len(looks)))]
    if rng.random() < 0.5:
        place = (_place(rng, config), _place(rng, config))
        draw_distractor(frames, sprite, place, (0, 0), int(rng.integers(1, 4)))
    else:
        _draw_doing(rng, config, frames, sprite)


def _place(rng: np.random.Generator, config: WorldConfig) -> int:
    return int(rng.integers(config.pixels - SPRITE_PIXELS + 1))
