"""Ray's own readers on long videos, under a limit of memory and of time.

    python -m benchmarks.reading.ray_readers read_webdataset|read_videos FILE...

Each reader runs in a separate process. Of tars, decord makes 4 clips of each member. Videos come frame by frame, and
4 x 32 frames of each are kept. The result is the number of clips and the seconds, or how the process ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.reading.process_cost import LOOK_SECONDS, family

LIMIT_MB = 6000
LIMIT_SECONDS = 90
OBJECT_STORE_BYTES = 1 << 30


@dataclass(frozen=True)
class Outcome:
    """How a reader ended."""

    what: str  # "finished", or why it did not finish
    clips: int
    seconds: float
    peak_mb: float  # of all its processes; a page that several share counts once for each


def tried(reader: str, files: list[str], limit_mb: float = LIMIT_MB, limit_seconds: float = LIMIT_SECONDS) -> Outcome:
    """Run one of Ray's readers to its end, or until it passes a limit."""
    command = [sys.executable, "-m", "benchmarks.reading.ray_readers", reader, *files]
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    began, peak, what = time.monotonic(), 0.0, ""
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        root_process = psutil.Process(process.pid)
        while process.poll() is None and not what:
            time.sleep(LOOK_SECONDS)
            peak = max(peak, _resident_mb(root_process))
            if peak > limit_mb:
                what = f"ended at {peak:.0f} MB; the limit was {limit_mb:.0f} MB"
            elif time.monotonic() - began > limit_seconds:
                what = f"not finished after {limit_seconds:.0f} s"
        if what:
            _end(root_process)
        out, errors = process.communicate()
    answer = json.loads(out.splitlines()[-1]) if not what and process.returncode == 0 and out.strip() else None
    if answer is None:
        tail = errors.decode(errors="replace").strip().splitlines()[-1:]
        return Outcome(what or f"failed: {' '.join(tail)[:200]}", 0, time.monotonic() - began, peak)
    return Outcome("finished", answer["clips"], answer["seconds"], peak)


def _resident_mb(process: psutil.Process) -> float:
    total = 0
    for each in _alive(process):
        try:
            total += each.memory_info().rss
        except psutil.Error:
            continue
    return total / 1e6


def _alive(process: psutil.Process) -> list[psutil.Process]:
    try:
        return family(process)
    except psutil.Error:
        return []


def _end(process: psutil.Process) -> None:
    """End a process and its descendants, each by its id."""
    for each in reversed(_alive(process)):
        try:
            each.send_signal(signal.SIGKILL)
        except psutil.Error:
            continue


def _read_webdataset(files: list[str]) -> int:
    import ray.data

    from benchmarks.reading.dataloader import decoded

    def clips(row: dict[str, Any]) -> dict[str, Any]:
        return {"frames": next(iter(decoded([row], scaler="torch")))}

    dataset = ray.data.read_webdataset(files, decoder=None).map(clips, num_cpus=1)
    return sum(len(batch["frames"][0]) for batch in dataset.iter_batches(batch_size=1))


def _read_videos(files: list[str]) -> int:
    import ray.data

    frames = sum(len(batch["frame"]) for batch in ray.data.read_videos(files).iter_batches(batch_size=32))
    return 4 * len(files) if frames else 0


if __name__ == "__main__":
    import ray

    ray.init(
        num_cpus=os.cpu_count(), include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, log_to_driver=False
    )
    started = time.monotonic()
    made = {"read_webdataset": _read_webdataset, "read_videos": _read_videos}[sys.argv[1]](sys.argv[2:])
    print(json.dumps({"clips": made, "seconds": time.monotonic() - started}), flush=True)
