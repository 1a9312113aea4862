"""Runs a candidate in a separate process on one core: others are not charged for threads that it leaves running.

Each clip is timed in CPU seconds of the whole process. The process waits until threads that the candidate has left
running are idle, and charges the candidate for them too. On request it also returns small grey pictures.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.reading.candidates import CANDIDATES, Request, VideoFile

# decord can hang forever while it holds the interpreter's lock. The slowest clip measured took 4 s.
LIMIT_SECONDS = 120.0
_STILL_SECONDS = 0.002
_SETTLE_SECONDS = 2.0
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class CandidateError(Exception):
    """A candidate does not run here; the message says why."""


@dataclass(frozen=True)
class Answer:
    """What a clip cost, and what it looked like."""

    cpu_seconds: float
    thumbnails: np.ndarray | None  # [T, H, W] float32, grey


class Isolated:
    """The process of one candidate."""

    def __init__(self, name: str, core: int) -> None:
        self.name = name
        for variable in _THREADS:
            os.environ[variable] = "1"  # inherited, and read when the libraries are loaded there
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, core), daemon=True)
        self._process.start()
        theirs.close()

    def end(self) -> None:
        self._process.kill()
        self._process.join()

    def open(self, video: VideoFile) -> None:
        """Make the candidate for a video. Raises CandidateError."""
        self._ask(video)

    def clip(self, request: Request, with_pictures: bool = False) -> Answer:
        """Decode a clip. Raises CandidateError."""
        return self._ask((request, with_pictures))

    def _ask(self, question: object) -> Answer:
        try:
            self._pipe.send(question)
            if not self._pipe.poll(LIMIT_SECONDS):
                self._process.kill()
                raise CandidateError(f"no answer in {LIMIT_SECONDS:.0f} s; its process was ended")
            answer = self._pipe.recv()
        except (EOFError, OSError):
            raise CandidateError(f"its process ended (exit code {self._process.exitcode})") from None
        if isinstance(answer, str):
            raise CandidateError(answer)
        return answer


@contextlib.contextmanager
def isolated(names: Sequence[str], core: int) -> Iterator[dict[str, Isolated]]:
    """A process for each of some candidates."""
    workers = {name: Isolated(name, core) for name in names}
    try:
        yield workers
    finally:
        for worker in workers.values():
            worker.end()


def _serve(pipe, name: str, core: int) -> None:
    os.sched_setaffinity(0, {core})
    if name.startswith("torchcodec"):  # importing torch takes seconds, so only for those that need it
        with contextlib.suppress(ImportError):
            import torch

            torch.set_num_threads(1)
    candidate = None
    while True:
        try:
            question = pipe.recv()
        except EOFError:
            return
        try:
            if isinstance(question, VideoFile):
                candidate = None  # the last file is closed before the next is opened
                candidate = CANDIDATES[name](question)
                pipe.send(Answer(0.0, None))
            else:
                pipe.send(_timed(candidate, *question))
        except Exception as error:  # whatever it is, the others are still measured
            kind = "not installed" if isinstance(error, ModuleNotFoundError) else type(error).__name__
            pipe.send(f"{kind}: {' '.join(str(error).split())[:300]}")


def _timed(candidate, request: Request, with_pictures: bool) -> Answer:
    work = candidate(request)
    began = time.process_time()
    frames = work()
    spent = time.process_time() - began
    spent += _left_running()
    return Answer(spent, thumbnails(frames) if with_pictures and frames is not None else None)


def _left_running() -> float:
    """CPU seconds until this process is idle, but for at most _SETTLE_SECONDS."""
    began, deadline = time.process_time(), time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < deadline:
        before = time.process_time()
        time.sleep(0.01)
        if time.process_time() - before < _STILL_SECONDS:
            return before - began
    return time.process_time() - began


def thumbnails(frames_TCHW: np.ndarray) -> np.ndarray:
    """uint8 RGB or planes of YUV (see frames.py) -> grey [T, H / 4, W / 4] float32 of the full range."""
    frames = frames_TCHW.astype(np.float32)
    if frames.shape[1] == 3:
        grey = 0.299 * frames[:, 0] + 0.587 * frames[:, 1] + 0.114 * frames[:, 2]
    else:
        grey = (frames[:, 0, : frames.shape[2] * 2 // 3] - 16) * (255 / 219)
    count, height, width = grey.shape
    return grey.reshape(count, height // 4, 4, width // 4, 4).mean((2, 4))
