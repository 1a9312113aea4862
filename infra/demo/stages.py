"""How long each stage takes, and how much memory.

Input: named blocks of code. Does: samples the memory of this process and all below it. Output: a table.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.table import Table

SAMPLE_SECONDS = 1.0


@dataclass
class Stage:
    name: str
    seconds: float = 0.0
    peak_bytes: int = 0  # of all processes; a page that N of them share counts 1/N in each, so once in all


class Stages:
    """A record of stages: ``with stages("encode"): ...``."""

    def __init__(self) -> None:
        self.done: list[Stage] = []

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        stage, over = Stage(name), threading.Event()
        sampler = threading.Thread(target=_sample, args=(stage, over), daemon=True)
        sampler.start()
        began = time.monotonic()
        try:
            yield
        finally:
            stage.seconds = time.monotonic() - began
            over.set()
            sampler.join()
            self.done.append(stage)

    def rows(self) -> list[dict]:
        return [{"stage": s.name, "seconds": round(s.seconds, 2), "peak_bytes": s.peak_bytes} for s in self.done]

    def table(self) -> Table:
        table = Table("stage", box=None)
        table.add_column("seconds", justify="right")
        table.add_column("peak memory", justify="right")
        for s in self.done:
            table.add_row(s.name, f"{s.seconds:.1f}", f"{s.peak_bytes / 2**20:.0f} MiB")
        table.add_row("all", f"{sum(s.seconds for s in self.done):.1f}", "")
        return table


def _sample(stage: Stage, over: threading.Event) -> None:
    """Ray's processes are started in sessions of their own but stay this process's descendants."""
    me = psutil.Process()
    while True:
        total = 0
        for process in [me, *me.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += _memory_bytes(process)
        stage.peak_bytes = max(stage.peak_bytes, total)
        if over.wait(SAMPLE_SECONDS):
            return


def _memory_bytes(process: psutil.Process) -> int:
    """Proportional set size where the kernel tells it at once; resident memory elsewhere, with shared pages whole."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) * 1024
    return process.memory_info().rss
