"""The whole idea in some minutes, on this machine, from nothing.

Input: a folder and a seed.
Does: makes a world of H.264 videos whose truth is known, packs it into tars on a local S3 server, indexes them,
trains Noisy and Ours on two Ray workers with the same seed and budget, kills the training of Ours in the middle of an
epoch and resumes it on one worker, evaluates both, counts the ledger, writes the report.
Output: a table on the terminal, a page to look at, and the store as files, for other commands to look at.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.table import Table

from adaptfocus.infra.demo.kept import keep, next_steps
from adaptfocus.infra.demo.local_s3 import LocalS3
from adaptfocus.infra.demo.stages import Stages
from adaptfocus.infra.report.gather import gather, read_scores
from adaptfocus.infra.report.page import write_report
from adaptfocus.infra.running.cluster import connect
from adaptfocus.infra.running.progress import console, follow_run, progress_bar, spinner
from adaptfocus.infra.running.run import run_evaluation
from adaptfocus.infra.running.tables import show
from adaptfocus.infra.running.worlds import pack_and_index
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import AdaptFocusError
from adaptfocus.pipelines.store.strict_json import json_text
from adaptfocus.pipelines.worlds.config import DEMO_WORLD
from adaptfocus.pipelines.worlds.encode import write_world
from adaptfocus.trainers.runs.ledger import Audit, audit
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.settings.recipes import recipe

VIEWS = 12
SHARD_BYTES = 1 << 19  # several tars, so that there is something to shard
WORKERS, WORKERS_AFTER_KILL = 2, 1
KILL_TIMEOUT_SECONDS = 300
POLL_SECONDS = 0.25  # an epoch of the demo takes some seconds and has four commits
REGIMES = ("noisy", "ours")
LOGS = ("pretrain.log", *(f"train-{regime}.log" for regime in REGIMES))
VARIES = (
    "Another run of this seed gives slightly other figures: the kill comes at another step, one worker adds up in\n"
    "another order than two, and training makes much of a last digit. docs/start.md says by how much."
)
MADE = ("store", "world", "s3", "report.html", "demo.json", *LOGS)


def run_demo(folder: Path, seed: int) -> None:
    """Run everything; leaves `report.html`, logs and figures of each stage in `folder`.

    Raises:
        AdaptFocusError: a stage failed; the message names its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in MADE:  # by a demo before this one
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).unlink(missing_ok=True)
    stages = Stages()
    console.print("[bold]AdaptFocus[/]: clips of long videos in object storage, learned from tags")
    with LocalS3(folder / "s3") as s3:
        os.environ.update(s3.environment)
        _prepare_data(s3, folder, seed, stages)
        # What a killed command had asked for stays reserved for some minutes.
        with contextlib.ExitStack() as ray:
            with spinner("starting Ray on this machine"):
                ray.enter_context(connect(None, cpus=2 * WORKERS + 6))
            for regime in REGIMES:
                _train(s3, folder, regime, seed, stages)
        report = folder / "report.html"
        _judge(s3, report, stages)
        counts = audit(Run(s3.url("runs", "ours")))
        rows = {regime: read_scores(s3.url("runs", regime), "test") | _last_summary(s3, regime) for regime in REGIMES}
        with spinner(f"keeping the store as files in {folder / 'store'}"):
            keep(s3.url(), folder / "store", folder / "world" / "classes.txt")
    shutil.rmtree(folder / "s3")
    _show(rows, counts, stages, report)
    _say_next(folder)
    figures = {"scores": rows, "ledger": asdict(counts), "stages": stages.rows()}
    (folder / "demo.json").write_text(json_text(figures, indent=1))
    if counts.clips_lost or counts.clips_twice:
        raise AdaptFocusError(f"{counts.clips_lost} clips lost, {counts.clips_twice} trained twice; see {report}")


def _prepare_data(s3: LocalS3, folder: Path, seed: int, stages: Stages) -> None:
    """Videos, shards, indexes; the backbone's start is made beside them, in a process of its own."""
    log = folder / "pretrain.log"
    # One thread: another number of threads adds up in another order, and gives other weights.
    pretraining = _start(
        ["-m", "adaptfocus.trainers.pretraining.training", "--out", s3.url("weights.pt"), "--seed", "0"], log, threads=1
    )
    with stages("a world of videos (H.264)"), progress_bar("encoding videos") as progress:
        manifest = write_world(replace(DEMO_WORLD, seed=seed), folder / "world", os.cpu_count() or 1, progress)
    with stages("pack into tars on S3, index"):
        pack_and_index(manifest, s3.url(), SHARD_BYTES, workers=1, overwrite=True)
    with (
        stages("pre-training, begun beside all that"),
        progress_bar("pre-training on other labels") as progress,
    ):
        _wait(pretraining, log, progress)


def _judge(s3: LocalS3, report: Path, stages: Stages) -> None:
    urls = [s3.url("runs", regime) for regime in REGIMES]
    for regime, url in zip(REGIMES, urls, strict=True):
        with stages(f"evaluate {regime}"), spinner(f"evaluating {regime}: {VIEWS} views of each test video"):
            run_evaluation(url, s3.url("index/test"), VIEWS, "test", "local", None)
    with stages("report"), spinner("writing the report"):
        write_report(gather(urls, "test", samples=3, command="adaptfocus demo"), str(report))


def _train(s3: LocalS3, folder: Path, regime: str, seed: int, stages: Stages) -> None:
    """Train one regime in a process of its own; Ours is killed once and resumed on another number of workers."""
    url = s3.url("runs", regime)
    overrides = [
        f"name={regime}", f"runs={s3.url('runs')}", f"index={s3.url('index/train')}", f"weights={s3.url('weights.pt')}",
        f"seed={seed}", f"focus.regime={regime}",
    ]  # fmt: skip
    log = folder / f"train-{regime}.log"
    if regime != "ours":
        with stages(f"train {regime}, {WORKERS} workers"), follow_run(url, f"training {regime}") as stage:
            stage(f"starting {WORKERS} workers")
            _wait(_start(_training(overrides, WORKERS), log), log)
        return
    with stages(f"train {regime}, {WORKERS} workers, until killed"), follow_run(url, f"training {regime}") as stage:
        stage(f"starting {WORKERS} workers")
        process = _start(_training(overrides, WORKERS), log)
        where = _kill_in_mid_epoch(process, Run(url), log)
    console.print(f"  [red]killed[/] (SIGKILL) after bag {where[1]} of epoch {where[0] + 1}; resuming on "
                  f"{WORKERS_AFTER_KILL} worker")  # fmt: skip
    with stages(f"resume {regime}, {WORKERS_AFTER_KILL} worker"), follow_run(url, f"resuming {regime}") as stage:
        stage(f"starting {WORKERS_AFTER_KILL} worker")
        _wait(_start(_training(overrides, WORKERS_AFTER_KILL), log), log)


def _training(overrides: Sequence[str], workers: int) -> list[str]:
    """The command a user would type, on the demo's own cluster."""
    return ["-m", "adaptfocus", "train", "demo", *overrides, f"placement.workers={workers}", "--address", _address()]


def _start(arguments: Sequence[str], log: Path, threads: int | None = None) -> subprocess.Popen:
    """A process of its own, in a session of its own, which says what it says in a log."""
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    with log.open("a") as out:
        return subprocess.Popen(
            [sys.executable, *arguments], stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env=environment
        )


def _kill_in_mid_epoch(process: subprocess.Popen, run: Run, log: Path) -> tuple[int, int]:
    """SIGKILL the training right after a commit inside an epoch of the second half -> (epoch, cursor)."""
    half = recipe("demo")["epochs"] // 2
    deadline = time.monotonic() + KILL_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AdaptFocusError(f"training ended before it could be killed; see {log}")
        _, commit = run.newest()
        if commit and commit.epoch >= half and commit.cursor < commit.num_bags:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return commit.epoch, commit.cursor
        time.sleep(POLL_SECONDS)
    os.killpg(process.pid, signal.SIGKILL)
    raise AdaptFocusError(f"training made no commit inside an epoch in {KILL_TIMEOUT_SECONDS} s; see {log}")


def _wait(process: subprocess.Popen, log: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Until the process ends; `progress` is told the last "step N of M" of its log."""
    while progress and process.poll() is None:
        if steps := re.findall(r"step (\d+) of (\d+)", log.read_text(errors="replace")):
            progress(int(steps[-1][0]), int(steps[-1][1]))
        time.sleep(POLL_SECONDS)
    if process.wait() != 0:
        tail = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-3:]
        raise AdaptFocusError(f"a stage failed (exit code {process.returncode}); see {log}: {' / '.join(tail)}")


def _address() -> str:
    import ray

    return ray.get_runtime_context().gcs_address


def _last_summary(s3: LocalS3, regime: str) -> dict:
    epoch = recipe("demo")["epochs"] - 1
    return json.loads(store.read_bytes(Run(s3.url("runs", regime)).epoch_url(epoch, "summary.json")))


def _show(rows: dict[str, dict], counts: Audit, stages: Stages, report: Path) -> None:
    table = Table(
        title="The same videos, clips, seeds and steps; only the use of the labels differs", title_justify="left"
    )
    for title in ("regime", "mAP, max over views", "mAP, mean", "per-time mAP", "salient time is right"):
        table.add_column(title, justify="left" if title == "regime" else "right")
    for regime, row in rows.items():
        figures = [row.get(key) for key in ("map_max", "map_mean", "per_time_map", "hit_rate")]
        table.add_row(regime, *("-" if f is None else f"{100 * f:.1f}" for f in figures))
    show(console, table)
    console.print(
        f"ledger of ours, killed once: {counts.clips_planned} clips planned, {counts.clips_trained} trained, "
        f"{counts.clips_lost} lost, {counts.clips_twice} trained twice"
    )
    show(console, stages.table())
    console.print(VARIES, highlight=False)
    console.print(f"report: [bold]{report.resolve()}[/]", soft_wrap=True)


def _say_next(folder: Path) -> None:
    """What to do with what is kept."""
    console.print(f"The store is kept in {folder / 'store'}. Look at it:", highlight=False, soft_wrap=True)
    for line in next_steps(folder / "store"):
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    console.print("Your own videos: docs/tutorial.md", highlight=False)
