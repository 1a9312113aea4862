"""Feeds in thousands of broken videos, tars and lists. The job must not crash, hang or use unbounded memory. Each input
must get a reason, and no frame may differ from what a sequential decode shows.

    python -m benchmarks.fuzz [--quick] [--json] [--inputs N] [--first N] [--seed S] [--processes P] [--keep FOLDER]
    python -m benchmarks.fuzz --only SEED:NUMBER [--before N] --keep FOLDER

Each input goes through the code of indexing and training (fuzzing/run.py), in the process of a job that has another
process to decode. If the process of a job dies, or has not finished an input long after its deadline, this is counted,
and a new process continues after that input. The inputs are functions of the seed and their numbers.

`--only` feeds one input of a run again, to new processes, and `--keep` writes it to files. Where a decoder has carried
something over from inputs before it, `--before N` feeds those first.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/fuzz.py`

from adaptfocus.pipelines.apart.pool import end_idle
from benchmarks.fuzzing.base import Base, bases, footage_folder
from benchmarks.fuzzing.inputs import Input, made
from benchmarks.fuzzing.run import CONTAINED, outcome
from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure, say
from benchmarks.reading.process_cost import peak_resident_mb

# Enough for two attempts within their deadlines, on a busy machine.
HANG_SECONDS = 300.0
MAX_FILE_BYTES = 1 << 20
TRIED_ALONE = 5  # inputs with wrong frames that are run again alone: has a decoder carried something over?


@dataclass
class Found:
    """The outcomes of some inputs."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)  # (kind of input, outcome)
    crashes: list[int] = field(default_factory=list)
    hangs: list[int] = field(default_factory=list)
    unclassified: dict[int, str] = field(default_factory=dict)
    silent: dict[int, str] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    contained: dict[int, str] = field(default_factory=dict)
    frames: Counter[str] = field(default_factory=Counter)  # by the result of the comparison
    peak_mb: float = 0.0  # of a job's process
    decoder_peak_mb: float = 0.0
    slowest_seconds: float = 0.0

    @property
    def inputs(self) -> int:
        return sum(self.outcomes.values()) + len(self.crashes) + len(self.hangs)

    @property
    def findings(self) -> dict[int, str]:
        """Outcomes that someone must look at, by the number of the input."""
        ended = dict.fromkeys(self.crashes, "crashed") | dict.fromkeys(self.hangs, "hung")
        return self.contained | self.unclassified | self.silent | self.lost | ended


def main(
    inputs: Annotated[int, typer.Option(help="How many.", min=1)] = 10_000,
    first: Annotated[int, typer.Option(help="Number of the first input.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Seed of all inputs.", min=0)] = 0,
    processes: Annotated[int, typer.Option(help="Jobs that run in parallel.", min=1)] = 1,
    only: Annotated[str | None, typer.Option(metavar="SEED:NUMBER", help="Feed only this input of a run.")] = None,
    before: Annotated[int, typer.Option(help="With --only: first feed so many inputs before it.", min=0)] = 0,
    keep: Annotated[
        Path | None, typer.Option(help="Folder for inputs that are findings, and for the input of --only.")
    ] = None,
    quick: Annotated[bool, typer.Option(help="600 inputs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each figure.")] = False,
) -> None:
    """Feed broken inputs."""
    every = bases(footage_folder(), MAX_FILE_BYTES)
    numbers = range(first, first + (min(inputs, 600) if quick else inputs))
    if only:
        seed, number = map(int, only.split(":"))
        numbers = range(max(0, number - before), number + 1)
    began = time.monotonic()
    found = fuzzed(every, numbers, seed, processes)
    say(f"{found.inputs} inputs of {len(every)} files in {time.monotonic() - began:.0f} s")
    say("  frames: " + ", ".join(f"{number} {what}" for what, number in sorted(found.frames.items())))
    for (kind, what), number in sorted(found.outcomes.items()):
        say(f"  {kind:11} {number:6} {what}")
    alone = () if only else sorted(found.silent)[:TRIED_ALONE]
    for number, what in sorted(found.findings.items()):
        one = made(number, seed, every)
        say(f"  input {seed}:{number} ({one.kind} of {one.what or one.base.name}): {what}")
        if number in alone and number not in fuzzed(every, range(number, number + 1), seed).findings:
            say("    not alone: it needs inputs before it; try --before")
        if keep:
            _save(one, keep)
    if only and keep:
        _save(made(numbers[-1], seed, every), keep)
    figures.show(figures_of(found), as_json, "Broken inputs")


def _save(one: Input, folder: Path) -> None:
    for name, data in one.saved_as.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


def figures_of(found: Found) -> list[Figure]:
    n = found.inputs
    return [
        figures.count("fuzz.inputs", n, "inputs", n),
        figures.count("fuzz.crashes", len(found.crashes), "inputs", n),
        figures.count("fuzz.hangs", len(found.hangs), "inputs", n),
        figures.count("fuzz.unclassified", len(found.unclassified), "inputs", n),
        figures.count("fuzz.silent", len(found.silent), "inputs", n),
        figures.count("fuzz.lost", len(found.lost), "inputs", n),
        figures.count("fuzz.frames_equal", found.frames["equal"], "frames", sum(found.frames.values())),
        figures.count("fuzz.frames_not_compared", _not_compared(found), "frames", sum(found.frames.values())),
        figures.count("fuzz.contained", len(found.contained), "inputs", n),
        figures.count("fuzz.peak_mb", found.peak_mb, "MB", n),
        figures.count("fuzz.decoder_peak_mb", found.decoder_peak_mb, "MB", n),
        figures.count("fuzz.slowest_seconds", found.slowest_seconds, "s", n),
    ]


def _not_compared(found: Found) -> int:
    return sum(found.frames.values()) - found.frames["equal"] - found.frames["silent"]


def fuzzed(every: list[Base], numbers: range, seed: int, processes: int = 1) -> Found:
    """Feed the inputs of these numbers to jobs in separate processes."""
    found = Found()
    # The numbers are dealt out in turns, so that each job has its share of every kind of input.
    shares = [list(numbers[part::processes]) for part in range(processes)]
    jobs = [_Job(every, share, seed) for share in shares if share]
    while any(job.left for job in jobs):
        for job in jobs:
            if job.left:
                job.look(found)
        say_progress(found, len(numbers))
    for job in jobs:
        job.end()
    return found


def say_progress(found: Found, of: int) -> None:
    if found.inputs and found.inputs % 500 == 0:
        numbers = (len(found.crashes), len(found.unclassified), len(found.silent), len(found.lost))
        say(f"{found.inputs} of {of}: " + "{} crashes, {} unclassified, {} silent, {} lost".format(*numbers))


class _Job:
    """The process of one job; if an input ends it, a new one starts after that input."""

    def __init__(self, every: list[Base], left: list[int], seed: int) -> None:
        self.every, self.left, self.seed = every, left, seed
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, self.every, self.left, self.seed)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self._heard = time.monotonic()

    def look(self, found: Found) -> None:
        """Take an answer, if one has come."""
        if not self._pipe.poll(0.2):
            if time.monotonic() - self._heard > HANG_SECONDS:
                self._skip(found.hangs)
            return
        try:
            answer: dict[str, Any] = self._pipe.recv()
        except EOFError:
            self._skip(found.crashes)
            return
        self._heard = time.monotonic()
        number = self.left.pop(0)
        found.outcomes[answer["kind"], answer["outcome"].split(":")[0]] += 1
        found.frames.update(answer["frames"])
        for kind, numbers in (("unclassified", found.unclassified), ("silent", found.silent), ("lost", found.lost)):
            if answer["outcome"].startswith(kind):
                numbers[number] = answer["outcome"]
        if CONTAINED & set(answer["outcome"].split()):
            found.contained[number] = answer["outcome"]
        if number in found.findings:  # at once, because a long run may be stopped before its end
            say(f"  input {self.seed}:{number} ({answer['kind']}): {answer['outcome']}")
        found.peak_mb = max(found.peak_mb, answer["peak_mb"])
        found.decoder_peak_mb = max(found.decoder_peak_mb, answer["decoder_peak_mb"])
        found.slowest_seconds = max(found.slowest_seconds, answer["seconds"])

    def _skip(self, into: list[int]) -> None:
        into.append(self.left.pop(0))
        self.end()
        if self.left:
            self._start()

    def end(self) -> None:
        self._process.kill()
        self._process.join()


def _serve(pipe: Any, every: list[Base], numbers: list[int], seed: int) -> None:
    for number in numbers:
        began = time.monotonic()
        one = made(number, seed, every)
        what = outcome(one)
        if what.text.startswith("silent"):
            end_idle()  # what it carries over would be reported again for each input that follows
        pipe.send({
            "kind": one.kind, "outcome": what.text, "frames": what.frames, "peak_mb": peak_resident_mb(),
            "decoder_peak_mb": _decoders_peak_mb(), "seconds": time.monotonic() - began,
        })  # fmt: skip


def _decoders_peak_mb() -> float:
    from adaptfocus.pipelines.apart import pool

    return max((peak_resident_mb(process.pid) for process in pool._idle), default=0.0)


if __name__ == "__main__":
    typer.run(main)
