"""Worlds as files: encode frames as H.264, and write videos and their annotations."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import numpy as np

from adaptfocus.pipelines.worlds.config import SPLITS, WorldConfig
from adaptfocus.pipelines.worlds.tasks import ShownActivity, write_tasks
from adaptfocus.pipelines.worlds.video import make_video

GOP_FRAMES = 16
CRF = 20


def write_world(
    config: WorldConfig,
    folder: str | Path,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Encode both splits into `folder` -> the path of its manifest.

    Writes ``videos/ID.mp4``, ``manifest.jsonl`` (one object a line: path, id, labels, intervals, split) and
    ``classes.txt`` (one name a line, in the order of the class ids). A world of activities also gets ``annotations/``
    for downstream tasks.

    Args:
        config: the world.
        folder: created if it does not exist.
        processes: number of processes that encode; the files do not depend on it.
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

    One thread encodes, so that the bytes do not depend on the number of cores. The bytes still differ sometimes: x264
    (164, with SIMD) encodes one in 25 of the demo's videos differently from run to run, by at most 0.03 of 255 in the
    mean, unless its macroblock tree is switched off. The drawn frames are the same.
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


def _write_video(
    config: WorldConfig, folder: Path, split: str, index: int
) -> tuple[dict[str, Any], ShownActivity | None]:
    """Encode a video -> its row of the manifest, and its activity in a world of activities."""
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
