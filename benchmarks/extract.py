"""What features of whole videos cost, divided by bare decoding.

    python -m benchmarks.extract [--quick] [--json]

A window is 32 frames, stride 3, 224 pixels from a short side of 256. There is one a second over videos of 60 s at 360p,
from local files, on one core. Four ways take turns, after a warm-up:

    floor       only libavcodec: each packet of the video once, no pixel converted
    clip floor  only libavcodec, for each window as a separate clip: from its keyframe to its last frame
    ours        `dense_windows` in this process: fetches, decodes, converts and assembles windows
    apart       the same in another process, as extraction does it; CPU of both processes

Then all of `adaptfocus extract --engine local` runs with the smallest backbone (8 frames of 20 pixels, one thread), so
that the data path dominates: windows per second of wall time, with two decoding threads. All other times are CPU times.
Ratios are of totals, and intervals are 90 % bootstrap intervals over the repetitions.
"""

from __future__ import annotations

import hashlib
import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np
import torch
import typer
from av.codec.context import ThreadType

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/extract.py`

from adaptfocus.pipelines import store
from adaptfocus.pipelines.apart import pool
from adaptfocus.pipelines.decode.settings import Isolation
from adaptfocus.pipelines.decode.window_jobs import DenseCounts, dense_job
from adaptfocus.pipelines.decode.windows import dense_windows
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.index.packets import with_packets
from adaptfocus.pipelines.plan.settings import ClipConfig
from adaptfocus.pipelines.stream.windows import VideoRange, WindowShape, batches_of_ranges, window_batches
from adaptfocus.pipelines.video.spans import packets_of
from adaptfocus.trainers.backbones import build
from adaptfocus.trainers.evaluation.extraction import Extraction, extract, make_here
from adaptfocus.trainers.evaluation.feature_model import Weights
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure, say
from benchmarks.reading.corpus import CLIP, DECODE, default_work_folder, indexed, write_shards
from benchmarks.reading.minimal import needed_run
from benchmarks.reading.process_cost import ProcessCost, on_one_core
from benchmarks.reading.videos import NAMES, video

HOP_SECONDS, VIDEO_SECONDS = 1.0, 60
SHAPE = WindowShape(CLIP, HOP_SECONDS, DECODE)
APART = WindowShape(CLIP, HOP_SECONDS, DECODE, isolation=Isolation())
Row = dict[str, Any]


def main(
    repeats: Annotated[int, typer.Option(help="Repetitions of each way.")] = 8,
    quick: Annotated[bool, typer.Option(help="Two repetitions.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each figure.")] = False,
    work: Annotated[Path | None, typer.Option(help="Where our videos are kept.")] = None,
) -> None:
    """Measure extraction."""
    files = {NAMES[kind]: video(kind, (work or default_work_folder()) / "videos", VIDEO_SECONDS) for kind in "ab"}
    found: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="adaptfocus-bench-") as folder:
        write_shards(files, f"{folder}/shards", 1 << 30)
        indexed(f"{folder}/shards", f"{folder}/index")
        index = load_index(f"{folder}/index")
        rows = {row["video_id"]: row for row in with_packets(index.table).to_pylist()}
        with on_one_core():
            for name, row in rows.items():
                found += over_floor(name, row, 2 if quick else repeats)
        found += whole(folder, index.fingerprint, rows, 2 if quick else repeats)
    pool.end_idle()
    figures.show(found, as_json, "Features of whole videos")


def over_floor(name: str, row: Row, repeats: int) -> list[Figure]:
    """CPU of windows divided by that of bare decoding."""
    ways: dict[str, Callable[[], object]] = {
        "floor": bare(row, [(0, row["packet_count"] - 1)]),
        "clip_floor": bare(row, clips_of(row)),
        "ours": lambda: used(dense_windows(row, decode=DECODE, counts=DenseCounts(), **SHAPE.job(row))),
        "apart": lambda: used(window_batches([(0, row)], APART)),
    }
    spent: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(repeats + 1):
        say(f"{name}: {number} of {repeats}" + ("" if number else " (warm-up)"))
        for way in [*ways][:: -1 if number % 2 else 1]:
            seconds = cpu_seconds(ways[way], both=way == "apart")
            if number:
                spent[way].append(seconds)
    windows = SHAPE.steps(row["duration_seconds"])
    per_window = [1000 * seconds / windows for seconds in spent["apart"]]
    return [
        figures.ratio(f"extract.cpu_over_floor.{name}", spent["apart"], spent["floor"]),
        figures.ratio(f"extract.cpu_over_floor_here.{name}", spent["ours"], spent["floor"]),
        figures.ratio(f"extract.cpu_over_clip_floor.{name}", spent["apart"], spent["clip_floor"]),
        figures.mean(f"extract.cpu_ms.{name}", per_window, "ms CPU a window"),
        figures.mean(f"extract.clip_floor_ms.{name}", [1000 * s / windows for s in spent["clip_floor"]], "ms CPU"),
    ]


def cpu_seconds(work: Callable[[], object], both: bool) -> float:
    """CPU seconds of this process, or of it and all processes that it started."""
    if both:
        with ProcessCost() as cost:
            work()
        return cost.cpu_seconds
    began = time.process_time()
    work()
    return time.process_time() - began


def used(made: Iterator[Any]) -> None:
    """Take everything from an iterator."""
    for _ in made:
        pass


def clips_of(row: Row) -> list[tuple[int, int]]:
    """(first, last) packet of each window as a separate clip."""
    job, packets = dense_job(row, decode=DECODE, **SHAPE.job(row)), packets_of(row)
    return [needed_run(packets, pts.tolist()) for _, pts in job.windows()]


def bare(row: Row, runs: list[tuple[int, int]]) -> Callable[[], int]:
    """Work that only decodes some runs of packets, each from its keyframe; it returns the number of frames."""
    packets = packets_of(row)
    data = store.read_ranges([row["shard_url"]], [row["member_offset_bytes"]], [row["member_size_bytes"]])[0]
    context: Any = av.CodecContext.create(row["codec"], "r")
    context.extradata = row["extradata"] or None
    context.thread_count, context.thread_type = 1, ThreadType.NONE

    def packet(number: int) -> av.Packet:
        start = int(packets.offset_bytes[number])
        made = av.Packet(data[start : start + int(packets.size_bytes[number])])
        made.pts, made.dts = int(packets.pts[number]), int(packets.dts[number])
        return made

    def work() -> int:
        frames = 0
        for first, last in runs:
            for number in range(first, last + 1):
                frames += len(context.decode(packet(number)))
            frames += len(context.decode(None))
            context.flush_buffers()
        return frames

    return work


def whole(folder: str, fingerprint: str, rows: dict[str, Row], repeats: int) -> list[Figure]:
    """Windows per second of a whole extraction, and of only decoding at the size of the figures above."""
    torch.set_num_threads(1)
    clip = ClipConfig(frames=8, frame_stride=CLIP.frame_stride, size_pixels=20)
    config = TrainConfig(name="none", runs=folder, index=f"{folder}/index", clip=clip, decode=DECODE)
    weights = small_weights(config, f"{folder}/weights.pt")
    job = Extraction(config, 1, weights, f"{folder}/index", "pooled", HOP_SECONDS)
    windows = sum(SHAPE.steps(row["duration_seconds"]) for row in rows.values())
    every = [VideoRange(f"{folder}/index", fingerprint, row, row + 1) for row in range(len(rows))]
    rates: dict[str, list[float]] = {"windows_per_s": [], "decoded_windows_per_s": []}
    for number in range(repeats + 1):
        say(f"whole extraction: {number} of {repeats}" + ("" if number else " (warm-up)"))
        began = time.perf_counter()
        extract(job, f"{folder}/features-{number}", make_here)
        middle = time.perf_counter()
        used(batches_of_ranges(every, APART, config.placement.decode_workers))
        if number:
            rates["windows_per_s"].append(windows / (middle - began))
            rates["decoded_windows_per_s"].append(windows / (time.perf_counter() - middle))
    return [figures.median(f"extract.{name}", np.array(values), "windows/s") for name, values in rates.items()]


def small_weights(config: TrainConfig, url: str) -> Weights:
    """A fresh small backbone as a file: training would not change its cost."""
    data = io.BytesIO()
    torch.save({"backbone": config.backbone, "state_dict": build(config.backbone, 1).state_dict()}, data)
    store.write_bytes(url, data.getvalue())
    return Weights(hashlib.sha256(data.getvalue()).hexdigest(), url=url)


if __name__ == "__main__":
    typer.run(main)
