"""Runs of the regimes' benchmark, many in parallel, each in a separate process.

Each run is trained through the real pipeline, and its checkpoints are scored on the test videos of its world. The
evaluations in its folder hold the scores. A job that has all its scores is done and is not run again. A job that was
stopped resumes from its last commit.

    OUT/runs/a-0/ours/                            the run; OUT/cached-runs/ where frames came from the cache
    OUT/runs/a-0/ours/evaluations/after-09/       scores after 9 epochs: a point of the curve
    OUT/runs/a-0/ours/evaluations/test/           after the last epoch; written last
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from adaptfocus.infra.report.gather import read_scores
from adaptfocus.infra.running.progress import console, read_heartbeat
from adaptfocus.infra.running.run import run_training
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import AdaptFocusError, ConfigError
from adaptfocus.pipelines.settings import differences
from adaptfocus.trainers.evaluation.scoring import evaluate_checkpoints, predict_here, scores_url
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.open import load_config
from adaptfocus.trainers.runs.preparation import is_finished, prepare
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.measuring.figures import say
from benchmarks.studies.frame_cache import CachedEngine, frame_cache, make_cache

Makings = Mapping[str, tuple[Callable[..., None], tuple]]

POLL_SECONDS = 1.0
FINAL = "test"  # the name of the evaluation after the last epoch


@dataclass(frozen=True)
class RunJob:
    """A run to train and to score."""

    world: str
    seed: int
    variant: str
    config: TrainConfig
    test_index: str
    views: int
    curve: tuple[int, ...]  # numbers of epochs after which it is scored; the last is the number of all epochs
    cache_folder: str | None = None  # of frames that were decoded once, instead of the real pipeline
    true_index: str | None = None  # of the training videos, where the run's own has imprecise intervals

    @property
    def corpus(self) -> str:
        """The name of the data that the run is trained on."""
        return f"{self.world}, seed {self.seed}"

    @property
    def title(self) -> str:
        return f"{self.corpus}, {self.variant}"

    def evaluation(self, epochs_done: int) -> str:
        """The name of the evaluation after so many epochs."""
        return FINAL if epochs_done == self.config.epochs else f"after-{epochs_done:02d}"

    def is_done(self) -> bool:
        """Whether it is scored after every epoch of its curve."""
        return all(store.exists(scores_url(self.config.url, self.evaluation(done))) for done in self.curve)

    def check_same(self) -> None:
        """Check that the job's folder holds no run with other settings.

        Raises:
            ConfigError: it does.
        """
        if not store.exists(store.join(self.config.url, "config.json")):
            return
        changed = differences(load_config(self.config.url).what_is_trained(), self.config.what_is_trained())
        if changed:
            listed = ", ".join(f"{key}: {old!r} -> {new!r}" for key, (old, new) in changed.items())
            raise ConfigError(
                f"{self.config.url} was run with other settings ({listed}); choose another --out, or the same settings"
            )
        for done in self.curve:
            views = read_scores(self.config.url, self.evaluation(done)).get("views", self.views)
            if views != self.views:
                raise ConfigError(
                    f"{self.config.url} was scored with {views} views a video, not {self.views}; choose another --out, "
                    "or the same settings"
                )


def run(job: RunJob) -> float:
    """Train and score; return the seconds that it took."""
    began, config = time.monotonic(), job.config
    if config.placement.engine == "ray":
        run_training(config, None)
    else:
        train_here(config, job.cache_folder)
    trained = Run(config.url)
    commits = {job.evaluation(done): trained.end_of_epoch(done - 1) for done in job.curve}
    evaluate_checkpoints(trained, config, job.test_index, job.views, commits, predict_here)
    return time.monotonic() - began


def train_here(config: TrainConfig, cache_folder: str | None = None) -> None:
    """Train a run in this process, if it is not finished, through the real pipeline or from frames in a cache."""
    prepare(config)
    if is_finished(config):
        return
    if cache_folder:
        train(config, CachedEngine(frame_cache(config, cache_folder), config.plan.bags_per_batch))
    else:
        train(config, LocalEngine(config.plan.bags_per_batch))


@contextlib.contextmanager
def workers(processes: int, log_folder: Path) -> Iterator[ProcessPoolExecutor]:
    """Processes of one thread each, with output in logs. After an error, tasks that have not begun are cancelled."""
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited, and read when the libraries are loaded there
    log_folder.mkdir(parents=True, exist_ok=True)
    # Spawned, not forked, because torch and Arrow have threads that a fork would break.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_begin, initargs=(str(log_folder),))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def run_all(jobs: Sequence[RunJob], pool: ProcessPoolExecutor) -> dict[str, str]:
    """Run jobs in parallel, with a progress bar for each -> title and message of those that failed."""
    failed: dict[str, str] = {}
    with _bars() as bars:
        total = bars.add_task("runs", total=len(jobs))
        left = {pool.submit(run, job): job for job in jobs}
        shown: dict[str, TaskID] = {}
        while left:
            done, _ = wait(left, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                job = left.pop(future)
                said = _outcome(future)
                if isinstance(said, str):
                    failed[job.title] = said
                console.print(f"{job.title}: {said if isinstance(said, str) else f'{said:.0f} s'}", highlight=False)
                if job.title in shown:
                    bars.remove_task(shown.pop(job.title))
                bars.advance(total)
            for job in left.values():
                _show(job, bars, shown)
    return failed


def finish(jobs: Sequence[RunJob], makings: Makings, out: Path, processes: int) -> None:
    """Make what is missing, then run what is not finished.

    Args:
        makings: calls by title that make the videos, indexes and starts that the jobs need.
        out: folder for the logs of the processes.

    Raises:
        ConfigError: a job's folder holds a run with other settings. AdaptFocusError: runs failed; the others are
            finished.
    """
    for job in jobs:
        job.check_same()
    left = [job for job in jobs if not job.is_done()]
    if len(left) < len(jobs):
        say(f"{len(jobs) - len(left)} of {len(jobs)} runs are finished in {out}: they are not run again")
    caches = {job.cache_folder: job for job in left if job.cache_folder}
    with workers(processes, out / "logs") as pool:
        make_all(makings, pool)
        make_all({f"frames of {job.corpus}": (make_cache, (job.config, url)) for url, job in caches.items()}, pool)
        failed = run_all(left, pool) if left else {}
    if failed:
        listed = "; ".join(f"{title}: {why}" for title, why in failed.items())
        raise AdaptFocusError(f"{len(failed)} of {len(jobs)} runs failed; run the command again to resume. {listed}")


def make_all(tasks: Makings, pool: ProcessPoolExecutor) -> None:
    """Call functions in parallel; the first error ends all."""
    if not tasks:
        return
    with _bars() as bars:
        total = bars.add_task("videos, starts, frames", total=len(tasks))
        futures = {pool.submit(function, *arguments): title for title, (function, arguments) in tasks.items()}
        while futures:
            done, _ = wait(futures, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
                console.print(f"made {futures.pop(future)}", highlight=False)
                bars.advance(total)


def _outcome(future: Future[float]) -> float | str:
    """Seconds, or why the run failed, so that the other runs can finish."""
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, AdaptFocusError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _show(job: RunJob, bars: Progress, shown: dict[str, TaskID]) -> None:
    """Show a bar for a job from its first sign of life."""
    beat = read_heartbeat(job.config.url)
    if not beat:
        return
    if job.title not in shown:
        shown[job.title] = bars.add_task(f"  {job.title}, epochs", total=job.config.epochs)
    trained = beat["epoch"] + (0 < beat["num_bags"] == beat["cursor"])
    bars.update(shown[job.title], completed=trained)


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console,
    )  # fmt: skip


def _begin(log_folder: str) -> None:
    """Set up a process: one thread, and a separate log for all output, including that of libraries in C."""
    torch.set_num_threads(1)
    log = os.open(Path(log_folder) / f"process-{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    for stream in (1, 2):
        os.dup2(log, stream)
