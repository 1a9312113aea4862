"""The benchmark worlds: long synthetic videos whose actions are known to the frame.

Input: a WorldConfig.
Does: draws labels, intervals, scenes and distractors from (seed, kind, split, index) alone, renders them, encodes
them as real H.264.
Output: WorldVideos; or a folder of mp4 files with a manifest and the names of the classes.

An action is a sprite that runs along an axis, or in world c a thing of some shape and colour, whatever it does. In
world d a video is an activity: actions in an order, one at a time, with sentences about them. What
makes it hard is what makes real weak labels hard: an action covers little of its video, actions overlap, half of a
video's labels follow from its scene (so that the background misleads), and what looks nearly the same blinks or drifts
where nothing counts.
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

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.world_activities import draw_activity
from adaptfocus.pipelines.world_clips import draw_clip
from adaptfocus.pipelines.world_config import KINDS, MOTIONS, SPLITS, TRIMMED, WorldConfig
from adaptfocus.pipelines.world_filmed import draw_filmed
from adaptfocus.pipelines.world_labels import draw_labels, draw_spans, draw_tailed_labels
from adaptfocus.pipelines.world_render import (
    LOOKS,
    NUM_SCENES,
    SPRITE_PIXELS,
    decoys,
    draw_action,
    draw_distractor,
    scene_background,
)
from adaptfocus.pipelines.world_sentences import sentences_about
from adaptfocus.pipelines.world_tasks import ShownActivity, write_tasks

GOP_FRAMES = 16
CRF = 20


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

    The counts of videos do not matter to it: a world with more videos begins with the same ones.

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
    """A thing that stands still, runs horizontally or runs vertically, each as likely."""
    movement = int(rng.integers(len(MOTIONS) + 1))
    if movement < len(MOTIONS):
        _draw_running(rng, config, frames, sprite, movement == 0)
    else:
        draw_distractor(frames, sprite, (_place(rng, config), _place(rng, config)), (0, 0), 0)


def write_world(
    config: WorldConfig,
    folder: str | Path,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Encode both splits into `folder` and return the path of its manifest.

    Writes ``videos/ID.mp4``, ``manifest.jsonl`` (one object a line: path, id, labels, intervals, split) and
    ``classes.txt`` (one name a line, in the order of the class ids); of a world of activities also ``annotations/``
    for downstream tasks.

    Args:
        config: the world.
        folder: made if it is not there.
        processes: how many encode at the same time; the files do not depend on it.
        progress: called with (videos done, videos in all).
    """
    folder = Path(folder)
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    jobs = [(split, index) for split in SPLITS for index in range(config.num_videos(split))]
    rows: dict[tuple[str, int], tuple[dict[str, Any], ShownActivity | None]] = {}
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
    manifest.write_text("".join(json.dumps(rows[job][0]) + "\n" for job in jobs))
    activities = [shown for job in jobs if (shown := rows[job][1])]
    if activities:
        write_tasks(str(folder), activities)
    return manifest


def encode_h264(path: Path, frames: np.ndarray, fps: int, upscale: int) -> None:
    """Write frames uint8 [T, H, W, 3] as an mp4: H.264, GOPs of 16 frames, each pixel `upscale` pixels wide.

    One thread, so that the bytes do not depend on the number of cores. They are still not always the same: x264 (164,
    with SIMD) codes one video of the demo's in 25 differently from run to run, by 0.03 of 255 in the mean at most,
    unless its macroblock tree is switched off. The frames drawn are the same.
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


def _draw_distractors(rng: np.random.Generator, config: WorldConfig, frames: np.ndarray) -> None:
    """Things that are no class, for 4 to 12 seconds each, `config.distractors` of them at a time on average."""
    mean_frames = 8 * config.fps
    draw = _draw_decoy if KINDS[config.kind].by_appearance else _draw_idle_sprite
    for _ in range(round(config.distractors * len(frames) / mean_frames)):
        length = int(rng.integers(4 * config.fps, 12 * config.fps + 1))
        start = int(rng.integers(-length + 1, len(frames)))
        draw(rng, config, frames[max(0, start) : max(0, start + length)])


def _draw_idle_sprite(rng: np.random.Generator, config: WorldConfig, frames: np.ndarray) -> None:
    """A sprite of the classes that blinks or drifts, each as likely."""
    sprite = int(rng.integers(config.num_sprites))
    place = (_place(rng, config), _place(rng, config))
    drift = (int(rng.integers(-1, 2)), int(rng.integers(-1, 2)))
    blinks = rng.random() < 0.5
    draw_distractor(frames, sprite, place, (0, 0) if blinks else drift, int(rng.integers(1, 4)) if blinks else 0)


def _draw_decoy(rng: np.random.Generator, config: WorldConfig, frames: np.ndarray) -> None:
    """A class's shape in grey, or a class's colour in another shape, that blinks, or does what the classes do."""
    looks = decoys(config.classes)[int(rng.integers(2))]
    sprite = looks[int(rng.integers(len(looks)))]
    if rng.random() < 0.5:
        place = (_place(rng, config), _place(rng, config))
        draw_distractor(frames, sprite, place, (0, 0), int(rng.integers(1, 4)))
    else:
        _draw_doing(rng, config, frames, sprite)


def _place(rng: np.random.Generator, config: WorldConfig) -> int:
    return int(rng.integers(config.pixels - SPRITE_PIXELS + 1))


def _write_video(
    config: WorldConfig, folder: Path, split: str, index: int
) -> tuple[dict[str, Any], ShownActivity | None]:
    """Encode a video -> its row of the manifest; what it shows, in a world of activities."""
    video = make_video(config, split, index)
    path = f"videos/{video.video_id}.mp4"
    encode_h264(folder / path, video.frames, config.fps, config.upscale)
    intervals = [{"label": k, "start_seconds": start, "end_seconds": end} for k, start, end in video.intervals]
    row = {"path": path, "id": video.video_id, "labels": list(video.labels), "intervals": intervals, "split": split}
    if video.activity is None:
        return row, None
    seconds = len(video.frames) / config.fps
    return row, ShownActivity(video.video_id, split, seconds, video.activity, video.intervals, video.sentences)


def _report(progress: Callable[[int, int], None] | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
