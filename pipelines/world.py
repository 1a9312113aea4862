"""The benchmark worlds: long synthetic videos whose actions are known to the frame.

Input: a WorldConfig.
Does: draws labels, intervals, scenes and distractors from (seed, kind, split, index) alone, renders them, encodes
them as real H.264.
Output: WorldVideos; or a folder of mp4 files with a manifest and the names of the classes.

An action is a sprite that runs along an axis. What makes it hard is what makes real weak labels hard: an action
covers little of its video, actions overlap, half of a video's labels follow from its scene (so that the background
misleads), and the same sprites also blink or drift where nothing counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import numpy as np

from pipelines.errors import ConfigError
from pipelines.world_render import (
    NUM_SCENES,
    SPRITE_PIXELS,
    SPRITES,
    draw_action,
    draw_distractor,
    scene_background,
)

SPLITS = ("train", "test")
MOTIONS = ("horizontal", "vertical")
PREFERRED_SHARE_OF_CLASSES = 4  # a scene prefers one class in four
GOP_FRAMES = 16
CRF = 20


@dataclass(frozen=True)
class WorldKind:
    """What tells one world from another."""

    label_counts: tuple[int, ...]  # a video has one of these, each as likely
    min_coverage: float  # share of its video that an action covers
    max_coverage: float
    coverage_power: float  # coverage = min + (max - min) u^power, u uniform
    max_intervals: int  # an action's share is one interval, or up to this many


KINDS = {
    # 2-5 labels, mean 3.5; coverage 10-25 %, mean 16 %: like MultiThumos and Breakfast.
    "a": WorldKind((2, 3, 4, 5), 0.10, 0.25, 1.5, max_intervals=1),
    # mean 5.1 labels; coverage mean 34 %: long and frequent actions, like Charades.
    "b": WorldKind((3, 4, 4, 5, 5, 5, 6, 6, 6, 7), 0.20, 0.48, 1.0, max_intervals=2),
    # For a first look in a minute: fewer labels a video (mean 2.3), coverage mean 27 %, so that focusing gets under way
    # within six epochs; in A it takes the thirty of the benchmark. Never compare its figures with those of A or B.
    "demo": WorldKind((2, 2, 3), 0.18, 0.36, 1.0, max_intervals=1),
}


@dataclass(frozen=True)
class WorldConfig:
    """A world. The defaults are the benchmark's; the demo's is smaller.

    Raises:
        ConfigError: a value that gives no world.
    """

    kind: str = "a"
    num_train_videos: int = 240
    num_test_videos: int = 100
    min_seconds: float = 60.0
    max_seconds: float = 120.0
    fps: int = 4
    pixels: int = 20
    upscale: int = 4
    num_sprites: int = 6  # K = 2 x this
    distractors: float = 1.0  # seen at a time, on average
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"world kind {self.kind!r} is not known; choose one of {', '.join(KINDS)}")
        if not 1 <= self.num_sprites <= len(SPRITES):
            raise ConfigError(f"num_sprites is {self.num_sprites}; choose 1 to {len(SPRITES)}")
        if not 4.0 <= self.min_seconds <= self.max_seconds:
            raise ConfigError(
                f"min_seconds {self.min_seconds} and max_seconds {self.max_seconds}: "
                "a video lasts at least 4 seconds, and the maximum is not below the minimum"
            )
        if self.pixels < 2 * SPRITE_PIXELS or (self.pixels * self.upscale) % 2:
            raise ConfigError(
                f"pixels {self.pixels} x upscale {self.upscale}: at least {2 * SPRITE_PIXELS} pixels, "
                "and an even product, which H.264 with 4:2:0 chroma needs"
            )
        if self.fps < 1 or self.upscale < 1 or self.distractors < 0 or self.seed < 0:
            raise ConfigError(
                f"fps {self.fps}, upscale {self.upscale}, distractors {self.distractors}, seed {self.seed}: "
                "fps and upscale are at least 1, the others not negative"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """The K names, such as ``red_square_horizontal``; their order is the class ids'."""
        return tuple(f"{sprite}_{motion}" for sprite in SPRITES[: self.num_sprites] for motion in MOTIONS)

    def num_videos(self, split: str) -> int:
        return {"train": self.num_train_videos, "test": self.num_test_videos}[split]


# The demo's world: 5 s to encode on two cores, 2.3 MB. Six epochs of 4 clips a video tell Ours from Noisy in it, with
# each of 14 paired seeds and two batch sizes tried (trainers/recipes.py has the figures).
DEMO_WORLD = WorldConfig(
    kind="demo",
    num_train_videos=128,
    num_test_videos=40,
    min_seconds=30,
    max_seconds=40,
    num_sprites=4,
    distractors=0.3,
)


@dataclass(frozen=True)
class WorldVideo:
    """One video of a world, before encoding."""

    video_id: str
    labels: tuple[str, ...]
    intervals: tuple[tuple[str, float, float], ...]  # (label, start_seconds, end_seconds)
    frames: np.ndarray  # uint8 [T, pixels, pixels, 3], RGB


def make_video(config: WorldConfig, split: str, index: int) -> WorldVideo:
    """Video `index` of a split: a pure function of its arguments.

    The counts of videos do not matter to it: a world with more videos begins with the same ones.

    Raises:
        ConfigError: no such split.
    """
    if split not in SPLITS:
        raise ConfigError(f"split {split!r} is not known; choose one of {', '.join(SPLITS)}")
    rng = np.random.default_rng([config.seed, list(KINDS).index(config.kind), SPLITS.index(split), index])
    seconds = config.min_seconds + (config.max_seconds - config.min_seconds) * rng.random()
    num_frames = round(seconds * config.fps)
    scene = int(rng.integers(NUM_SCENES))
    offset = (int(rng.integers(config.pixels)), int(rng.integers(config.pixels)))
    background = scene_background(scene, offset, int(rng.integers(-12, 13)), config.pixels)
    frames = np.repeat(background[None], num_frames, axis=0)
    labels = _draw_labels(rng, config, scene)
    spans = [(k, *span) for k in labels for span in _draw_spans(rng, KINDS[config.kind], num_frames)]
    _draw_distractors(rng, config, frames)
    for k, start, end in spans:
        place = (_place(rng, config), _place(rng, config))
        speed = int(rng.integers(6, 13)) * (1 if rng.random() < 0.5 else -1)  # 1.5 to 3 pixels a frame
        draw_action(frames[start:end], k // len(MOTIONS), k % len(MOTIONS) == 0, place, speed)
    names = config.classes
    return WorldVideo(
        video_id=f"{config.kind}-{split}-{index:05d}",
        labels=tuple(names[k] for k in labels),
        intervals=tuple((names[k], start / config.fps, end / config.fps) for k, start, end in spans),
        frames=frames,
    )


def scene_preferences(config: WorldConfig) -> np.ndarray:
    """The classes that each scene prefers, the same in both splits: int [NUM_SCENES, preferred]."""
    rng = np.random.default_rng([config.seed, 1_000_003])
    num_classes = len(config.classes)
    preferred = max(2, num_classes // PREFERRED_SHARE_OF_CLASSES)
    # Dealt like cards, so that every class is preferred by as many scenes as any other, give or take one.
    deck = np.concatenate([rng.permutation(num_classes) for _ in range(NUM_SCENES)])
    hands: list[list[int]] = [[] for _ in range(NUM_SCENES)]
    for k in deck:
        hand = next((h for h in hands if len(h) < preferred and k not in h), None)
        if hand is not None:
            hand.append(int(k))
    return np.array(hands)


def write_world(
    config: WorldConfig,
    folder: str | Path,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Encode both splits into `folder` and return the path of its manifest.

    Writes ``videos/ID.mp4``, ``manifest.jsonl`` (one object a line: path, id, labels, intervals, split) and
    ``classes.txt`` (one name a line, in the order of the class ids).

    Args:
        config: the world.
        folder: made if it is not there.
        processes: how many encode at the same time; the files do not depend on it.
        progress: called with (videos done, videos in all).
    """
    folder = Path(folder)
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    jobs = [(split, index) for split in SPLITS for index in range(config.num_videos(split))]
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    if processes <= 1:
        for job in jobs:
            rows[job] = _write_video(config, folder, *job)
            _report(progress, len(rows), len(jobs))
    else:
        # Spawned, not forked: the caller may have threads (Ray, torch) that a fork would break.
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            running = {pool.submit(_write_video, config, folder, *job): job for job in jobs}
            for future in as_completed(running):
                rows[running[future]] = future.result()
                _report(progress, len(rows), len(jobs))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in config.classes))
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(rows[job]) + "\n" for job in jobs))
    return manifest


def encode_h264(path: Path, frames: np.ndarray, fps: int, upscale: int) -> None:
    """Write frames uint8 [T, H, W, 3] as an mp4: H.264, GOPs of 16 frames, each pixel `upscale` pixels wide.

    One thread, so that the bytes are the same everywhere with one version of x264.
    """
    large = frames.repeat(upscale, axis=1).repeat(upscale, axis=2)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = large.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, fps)
        gop = str(GOP_FRAMES)
        stream.options = {
            "crf": str(CRF), "preset": "veryfast", "g": gop, "keyint_min": gop, "sc_threshold": "0", "threads": "1",
        }  # fmt: skip
        for number, image in enumerate(large):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _draw_labels(rng: np.random.Generator, config: WorldConfig, scene: int) -> list[int]:
    """Class ids of one video, sorted: half of them from what its scene prefers, the others from all the rest."""
    num_classes = len(config.classes)
    count = min(int(rng.choice(KINDS[config.kind].label_counts)), num_classes)
    preferred = scene_preferences(config)[scene]
    # An odd one falls to either half as likely.
    from_scene = min((count + int(rng.integers(2))) // 2, len(preferred))
    chosen = rng.permutation(preferred)[:from_scene].tolist()
    others = [k for k in rng.permutation(num_classes).tolist() if k not in chosen]
    return sorted(chosen + others[: count - from_scene])


def _draw_spans(rng: np.random.Generator, kind: WorldKind, num_frames: int) -> list[tuple[int, int]]:
    """Where one action takes place: [start, end) in frames, apart from each other, in order."""
    coverage = kind.min_coverage + (kind.max_coverage - kind.min_coverage) * rng.random() ** kind.coverage_power
    pieces = int(rng.integers(1, kind.max_intervals + 1))
    length = max(1, round(coverage * num_frames / pieces))
    free = num_frames - pieces * length
    gaps = np.sort(rng.integers(0, free + 1, size=pieces))
    return [(int(gap) + i * length, int(gap) + (i + 1) * length) for i, gap in enumerate(gaps)]


def _draw_distractors(rng: np.random.Generator, config: WorldConfig, frames: np.ndarray) -> None:
    """Sprites that blink or drift for 4 to 12 seconds, `config.distractors` of them at a time on average."""
    mean_frames = 8 * config.fps
    for _ in range(round(config.distractors * len(frames) / mean_frames)):
        length = int(rng.integers(4 * config.fps, 12 * config.fps + 1))
        start = int(rng.integers(-length + 1, len(frames)))
        seen = frames[max(0, start) : max(0, start + length)]
        sprite = int(rng.integers(config.num_sprites))
        place = (_place(rng, config), _place(rng, config))
        drift = (int(rng.integers(-1, 2)), int(rng.integers(-1, 2)))
        blinks = rng.random() < 0.5
        draw_distractor(seen, sprite, place, (0, 0) if blinks else drift, int(rng.integers(1, 4)) if blinks else 0)


def _place(rng: np.random.Generator, config: WorldConfig) -> int:
    return int(rng.integers(config.pixels - SPRITE_PIXELS + 1))


def _write_video(config: WorldConfig, folder: Path, split: str, index: int) -> dict[str, Any]:
    video = make_video(config, split, index)
    path = f"videos/{video.video_id}.mp4"
    encode_h264(folder / path, video.frames, config.fps, config.upscale)
    intervals = [{"label": k, "start_seconds": start, "end_seconds": end} for k, start, end in video.intervals]
    return {
        "path": path, "id": video.video_id, "labels": list(video.labels), "intervals": intervals, "split": split,
    }  # fmt: skip


def _report(progress: Callable[[int, int], None] | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
