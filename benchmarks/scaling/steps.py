"""The steps of a run at scale. Each is called in a process of its own, and says what it took.

`over` is not passed but made inside, because a process that has used Ray holds its memory until it ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from adaptfocus.infra.running.cluster import connect
from adaptfocus.pipelines.index import open_index
from adaptfocus.pipelines.index.deal import Sizes
from adaptfocus.pipelines.over import in_this_process
from adaptfocus.pipelines.plan.published import BAGS_PER_CHUNK, Chunk, read_bags, read_plan, wait_for_chunk
from adaptfocus.pipelines.settings import make
from adaptfocus.trainers.epochs.publishing import Planning
from adaptfocus.trainers.on_ray.over import OnRay
from adaptfocus.trainers.runs.ledger import Audit, audit
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.reading.process_cost import peak_resident_mb
from benchmarks.scaling.corpus import templates, write_corpus
from benchmarks.scaling.ledgers import train
from benchmarks.scaling.tasks import Cost, Measured

R = TypeVar("R")
CLIPS_PER_BAG, BAGS_PER_BATCH, FRAMES, STRIDE = 4, 64, 16, 4
MERGING, DRAWING = ("merge_window",), ("draw_window", "count_bags", "count_usable_labels", "weigh")


class Step(NamedTuple):
    """What a step took."""

    seconds: float  # of wall clock
    core_seconds: float  # of CPU, in its own process
    peak_mb: float  # of its own process, imports and Ray included
    tasks: Sequence[Cost] = ()
    result: Any = None

    @property
    def diagnosis_seconds(self) -> float:
        """CPU of the tasks' diagnosis, which is part of merging."""
        return sum(each.diagnosis_seconds for each in self.tasks)

    def task_seconds(self, *functions: str) -> float:
        """CPU of the tasks of some functions; of all tasks if none is named."""
        return sum(each.cpu_seconds for each in self.tasks if not functions or each.function in functions)


def alone(function: Callable[..., R], *arguments: Any) -> R:
    """Call a function in a new process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_to_stderr) as process:
        return process.submit(function, *arguments).result()


def _to_stderr() -> None:
    """Ray writes to stdout that it has lost a process; figures are all that may be there."""
    os.dup2(2, 1)


@contextlib.contextmanager
def engine(tasks: int, kills: Path | None = None) -> Iterator[Measured]:
    """So many tasks of Ray at once; without Ray for 0."""
    if not tasks:
        yield Measured(in_this_process, kills)
        return
    with connect(None, cpus=tasks + 1):
        yield Measured(OnRay(tasks), kills)


def settings(runs: str | Path, name: str, index: str | Path, *overrides: str) -> TrainConfig:
    """A run with the clips that all figures are of."""
    values = {
        "name": name, "runs": str(runs), "index": str(index), "epochs": 3, "seed": 0,
        "clip": {"frames": FRAMES, "frame_stride": STRIDE, "size_pixels": 112},
        "plan": {"clips_per_bag": CLIPS_PER_BAG, "bags_per_batch": BAGS_PER_BATCH, "window_videos": 1},
        "focus": {"warmup_epochs": 1},
        "saliency": {"bins": 20},
    }  # fmt: skip
    return make(TrainConfig, values, overrides)


def deal(
    index: str, videos: int, files: Sequence[tuple[str, int]], cache: Path, tasks: int = 0, sizes: Sizes = Sizes(),
    kills: Path | None = None,
) -> Step:  # fmt: skip
    """Stage and index a corpus."""
    made_of = templates(cache, files)
    with engine(tasks, kills) as over:
        return measured(lambda: write_corpus(index, videos, made_of, over, sizes).videos, over)


def publish(config: TrainConfig, epoch: int, tasks: int = 0, kills: Path | None = None) -> Step:
    """From the last commit to the first rows of the plan of the next epoch, as rank 0 does it."""

    def first_rows() -> int:
        run = Run(config.url)
        plan = Planning(run, config, over).publish(epoch, run.newest()[1])
        assert plan is not None
        return _rows(wait_for_chunk(run.url, Chunk(epoch, 0, BAGS_PER_BATCH)))

    with engine(tasks, kills) as over:
        return measured(first_rows, over)


def trained(config: TrainConfig, epoch: int, bags: int | None = None) -> int:
    """Commit an epoch, or its first bags -> the number of bags of the epoch."""
    run = Run(config.url)
    plan = read_plan(run.epoch_url(epoch, "plan"))
    assert plan is not None
    return train(run, plan, run.newest()[1], bags).num_bags


def resumed(config: TrainConfig) -> Step:
    """What any rank does until it has its first rows, in the middle of the newest published epoch."""

    def rows() -> int:
        run = Run(config.url)
        _, last = run.newest()
        assert last is not None
        open_index(config.index)
        plan = read_plan(run.epoch_url(last.epoch, "plan"))
        assert plan is not None
        first = plan.num_bags // 2 // BAGS_PER_BATCH * BAGS_PER_BATCH
        return _rows(wait_for_chunk(run.url, Chunk(last.epoch, first, first + BAGS_PER_BATCH)))

    return measured(rows)


def looked_up(config: TrainConfig, chunks: int) -> Step:
    """The packets of some chunks, as the stream finds them."""
    plan = read_plan(Run(config.url).epoch_url(0, "plan"))
    assert plan is not None
    first = [plan.num_bags // chunks * n // BAGS_PER_CHUNK * BAGS_PER_CHUNK for n in range(chunks)]
    _rows(plan.slices(0, BAGS_PER_CHUNK))  # imports, and what a process keeps
    return measured(lambda: sum(_rows(plan.slices(slot, slot + BAGS_PER_CHUNK)) for slot in first))


def audited(config: TrainConfig) -> Step:
    """The audit of a run."""

    def found() -> Audit:
        return audit(Run(config.url))

    return measured(found)


def _rows(slices: Any) -> int:
    return sum(read_bags(url, *part).num_rows for url, *part in slices)


def measured(work: Callable[[], Any], over: Measured | None = None) -> Step:
    """Do something in this process, and say what it took."""
    began, cpu = time.monotonic(), time.process_time()
    result = work()
    took = time.monotonic() - began, time.process_time() - cpu
    return Step(*took, peak_resident_mb(), tuple(over.costs) if over else (), result)
