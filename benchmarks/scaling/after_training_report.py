"""What commands about a large run take: report, plan, gc, lists, and joining the partitions of an index that has grown.

    python -m benchmarks.scaling.after_training_report [--videos 1000000] [--parts report,sample,...] [--quick] [--json]

The corpus and its run are those of `benchmarks.webscale`: real packet tables under many ids, and a ledger of hashes.
Its tars do not exist, so a report has no pictures. Each command is typed as a user types it. Memory is that of its
largest process, core time that of all its processes.

`report`   a report of an epoch that is trained and merged
`sample`   `plan --sample 8`
`plan`     `plan`, which counts every bag: 1 ms of CPU each
`lists`    `runs`, `watch --once` and `quarantine list`
`gc`       `gc --dry-run`
`compact`  an index of 16 times as many partitions as an ordinary one is joined
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for `python benchmarks/scaling/...py`

from adaptfocus.pipelines import store
from adaptfocus.pipelines.index import open_index
from adaptfocus.pipelines.index.deal import Sizes
from adaptfocus.pipelines.store.strict_json import json_text
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure, count, say
from benchmarks.reading.corpus import default_work_folder
from benchmarks.scaling.corpus import SHORT
from benchmarks.scaling.steps import (
    BAGS_PER_BATCH,
    CLIPS_PER_BAG,
    FRAMES,
    STRIDE,
    alone,
    deal,
    publish,
    settings,
    trained,
)

PARTS = ("report", "sample", "plan", "lists", "gc", "compact")
QUICK_PARTS = ("report", "sample", "lists", "gc", "compact")
SMALL_PARTITIONS = Sizes(partition_rows=512)
# A small process that runs a command: a child's peak of memory is at least that of its parent when it was started.
_MEASURED = """
import resource, subprocess, sys, json
code = subprocess.run([sys.executable, "-m", "adaptfocus", *sys.argv[1:]], stdout=sys.stderr).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""


class Cost(NamedTuple):
    """What a command took."""

    seconds: float  # of wall clock
    core_seconds: float  # of CPU, in all of its processes
    peak_mb: float  # of the largest of them


def main(
    videos: Annotated[int, typer.Option(help="Videos of the corpus.")] = 1_000_000,
    parts: Annotated[str | None, typer.Option(help="Which measurements, with commas between. Default: all.")] = None,
    quick: Annotated[bool, typer.Option(help="100,000 videos; without the part plan.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each figure.")] = False,
    work: Annotated[Path | None, typer.Option(help="Where our videos are kept.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="Where the corpus is kept. Default: it is removed.")] = None,
) -> None:
    """Measure commands that are given once a run is trained."""
    root = str(Path(__file__).resolve().parents[2])
    os.environ |= {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    os.environ["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    size, cache = 100_000 if quick else videos, work or default_work_folder()
    measure: dict[str, Callable[[TrainConfig], list[Figure]]] = {
        "report": report, "sample": sample, "plan": plan, "lists": lists, "gc": gc,
        "compact": lambda config: compact(config, cache, size // 10),
    }  # fmt: skip
    found: list[Figure] = []
    with _folder(corpus) as folder:
        config = made(folder, cache, size)
        for part in parts.split(",") if parts else QUICK_PARTS if quick else PARTS:
            say(part)
            found += measure[part](config)
    figures.show(found, as_json, "After training: commands")


def made(folder: Path, cache: Path, videos: int) -> TrainConfig:
    """A corpus and a run on it: an epoch is trained and merged, the next one is planned."""
    config = settings(folder, "run", folder / "index")
    run = Run(config.url)
    if not store.exists(run.at("config.json")):
        alone(deal, config.index, videos, SHORT, cache)
        alone(publish, config, 0)
        alone(trained, config, 0)
        alone(publish, config, 1)
        facts = open_index(config.index)
        about = {"index": config.index, "fingerprint": facts.fingerprint, "classes": facts.classes}
        store.write_bytes(run.at("index.json"), json.dumps(about).encode())
        store.write_bytes(run.at("config.json"), json_text(config.model_dump(mode="json")).encode())
    return config


def report(config: TrainConfig) -> list[Figure]:
    """A report of one epoch."""
    videos = open_index(config.index).videos
    cost = command("report", config.url, "--out", f"{config.runs}/report.html")
    return [count("report.mb", cost.peak_mb, "MB", videos), count("report.core_s", cost.core_seconds, "s", videos)]


def sample(config: TrainConfig) -> list[Figure]:
    """An estimate from 8 windows."""
    cost, videos = command("plan", *_as_words(config), "--sample", "8"), open_index(config.index).videos
    return [
        count("plan.sample_mb", cost.peak_mb, "MB", videos), count("plan.sample_core_s", cost.core_seconds, "s", videos)
    ]  # fmt: skip


def plan(config: TrainConfig) -> list[Figure]:
    """Every bag is counted."""
    cost, videos = command("plan", *_as_words(config)), open_index(config.index).videos
    each = 1000 * cost.core_seconds / videos
    return [count("plan.mb", cost.peak_mb, "MB", videos), count("plan.core_ms_a_video", each, "ms", videos)]


def lists(config: TrainConfig) -> list[Figure]:
    """What is known of a run."""
    videos = open_index(config.index).videos
    found = {
        "runs": command("runs", config.url),
        "watch": command("watch", config.url, "--once"),
        "quarantine": command("quarantine", "list", config.url, "--limit", "5"),
    }
    return [count(f"{name}.mb", cost.peak_mb, "MB", videos) for name, cost in found.items()]


def gc(config: TrainConfig) -> list[Figure]:
    """What of a run is not needed."""
    cost, videos = command("gc", config.url, "--dry-run"), open_index(config.index).videos
    return [count("gc.mb", cost.peak_mb, "MB", videos), count("gc.core_s", cost.core_seconds, "s", videos)]


def compact(config: TrainConfig, cache: Path, videos: int) -> list[Figure]:
    """Small partitions are joined, and what only the snapshot before names is removed."""
    with tempfile.TemporaryDirectory(prefix="adaptfocus-bench-", dir=config.runs) as folder:
        alone(deal, f"{folder}/index", videos, SHORT, cache, 0, SMALL_PARTITIONS)
        cost = command("index", f"{folder}/index", "--compact", "--keep-snapshots", "1", "--older-than", "0")
    each = 1e6 * cost.core_seconds / videos
    return [count("compact.mb", cost.peak_mb, "MB", videos), count("compact.core_us_a_video", each, "us", videos)]


def command(*words: str) -> Cost:
    """Give a command to a process of its own."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", _MEASURED, *words], stdout=subprocess.PIPE, check=True, text=True)
    code, core_seconds, peak_mb = json.loads(done.stdout)
    if code:
        raise SystemExit(f"adaptfocus {' '.join(words)}: exit code {code}")
    cost = Cost(time.monotonic() - began, core_seconds, peak_mb)
    say(f"  {words[0]}: {cost.seconds:.1f} s, {cost.core_seconds:.1f} s of CPU, {cost.peak_mb:.0f} MB")
    return cost


def _as_words(config: TrainConfig) -> list[str]:
    """Settings that a user would type, of clips as those of the run."""
    values = {
        "name": "new", "runs": f"{config.runs}/none", "index": config.index, "epochs": 3,
        "clip.frames": FRAMES, "clip.frame_stride": STRIDE, "plan.clips_per_bag": CLIPS_PER_BAG,
        "plan.bags_per_batch": BAGS_PER_BATCH, "plan.window_videos": 1,
    }  # fmt: skip
    return ["small", *(f"{name}={value}" for name, value in values.items())]


@contextlib.contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="adaptfocus-bench-") as folder:
        yield Path(folder)


if __name__ == "__main__":
    typer.run(main)
