"""Real runs on Ray with two workers, killed on the way. Many videos of the index share the bytes of a few real files.

    python -m benchmarks.scaling.real_runs --videos 20000 --epochs 2
    python -m benchmarks.scaling.real_runs --videos 1000000 --batches 100

With `--epochs`, the command and all its processes are killed once in the middle of the second epoch, and given again;
then the ledger is compared with the plans. With `--batches`, they are killed after half of so many batches, given again
and killed after the rest; the slots in the ledger are then exactly those of the plan's beginning.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import yaml

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.manifest import read_manifest
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.deal import Sizes
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.over import in_this_process
from adaptfocus.pipelines.plan.published import read_plan
from adaptfocus.pipelines.settings import make
from adaptfocus.pipelines.shards.packing import pack
from adaptfocus.pipelines.worlds.config import WorldConfig
from adaptfocus.pipelines.worlds.encode import write_world
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.measuring.figures import Figure, count, say, show
from benchmarks.scaling.corpus import Templates, write_corpus

FILES = 24
BAGS_PER_BATCH = 64
PARTITION_VIDEOS = 512  # so that 20,000 videos have several windows
ROOT = Path(__file__).resolve().parents[2]


def corpus(folder: Path, videos: int, partition_videos: int | None) -> str:
    """Index `videos` videos that share a few real files -> the URL of the index."""
    config = WorldConfig(
        num_train_videos=FILES, num_test_videos=0, min_seconds=10, max_seconds=14, num_sprites=3, seed=1
    )
    found, _ = read_manifest(str(write_world(config, folder / "raw")))
    pack(found, str(folder / "shards"), classes=config.classes, shard_size_bytes=1 << 30)
    build_index([str(folder / "shards")], str(folder / "files"), classes=config.classes, workers=1)
    rows = load_index(str(folder / "files")).table.drop_columns(["video_row"])
    (object_url,) = set(rows.column("packets_url").to_pylist())
    made_of = Templates(rows, object_url.rsplit("/", 1)[-1], store.read_bytes(object_url), is_read=True)
    index = str(folder / f"index-{videos}")
    sizes = Sizes() if partition_videos is None else replace(Sizes(), partition_rows=partition_videos)
    write_corpus(index, videos, made_of, in_this_process, sizes)
    return index


def settings(index: str, folder: Path, epochs: int, *overrides: str) -> TrainConfig:
    """The settings of a run whose time goes into everything but the model."""
    values = {
        "name": "run", "runs": str(folder / "runs"), "index": index, "epochs": epochs, "seed": 3,
        "clip": {"frames": 4, "fps": 4.0, "size_pixels": 16},
        "plan": {"clips_per_bag": 1, "bags_per_batch": BAGS_PER_BATCH, "window_videos": 1},
        "focus": {"warmup_epochs": 1},
        "checkpoint": {"every_batches": 10, "keep": 1},
        "placement": {"engine": "ray", "workers": 2, "decode_workers": 2},
    }  # fmt: skip
    return make(TrainConfig, values, overrides)


class Command:
    """`adaptfocus train` with a Ray of its own, as a user starts it."""

    def __init__(self, config: TrainConfig, folder: Path) -> None:
        self.config, self.run, self.log = config, Run(config.url), folder / "command.log"
        self.settings = folder / "settings.yaml"
        self.settings.write_text(yaml.safe_dump(config.model_dump(mode="json")))

    def start(self) -> None:
        arguments = [sys.executable, "-m", "adaptfocus", "train", "small", "--config", str(self.settings)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                arguments, cwd=ROOT, stdout=log, stderr=log, start_new_session=True, env=environment
            )

    def wait_for(self, bags: int) -> float:
        """Wait until so many bags of all epochs are committed -> the seconds that this took."""
        began = time.monotonic()
        while True:
            _, last = self.run.newest()
            if last is not None and (last.bags or 0) >= bags:
                return time.monotonic() - began
            if self.process.poll() is not None:
                raise RuntimeError(f"the command ended early ({self.process.returncode}); see {self.log}")
            time.sleep(0.2)

    def kill(self) -> None:
        """SIGKILL the command and all processes that it has started."""
        family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(family, timeout=30)
        self.process.wait()


def whole(command: Command, videos: int) -> list[Figure]:
    """Two epochs with a kill in the middle of the second."""
    began = time.monotonic()
    command.start()
    command.wait_for(videos + videos // 2)
    command.kill()
    say(f"killed after {time.monotonic() - began:.0f} s")
    command.start()
    code = command.process.wait()
    if code:
        raise RuntimeError(f"the command ended with {code}; see {command.log}")
    found = audit(command.run)
    return [
        count("webscale.run.epochs", found.epochs, "epochs", found.epochs),
        count("webscale.run.clips_planned", found.clips_planned, "clips", found.epochs),
        count("webscale.run.clips_lost", found.clips_lost, "clips", found.clips_planned),
        count("webscale.run.clips_twice", found.clips_twice, "clips", found.clips_planned),
        count("webscale.run.claims", found.claims, "groups", found.claims),
        count("webscale.run.seconds", time.monotonic() - began, "s", 1),
    ]


def beginning(command: Command, batches: int) -> list[Figure]:
    """The first batches of an epoch, with a kill in their middle."""
    took = []
    for half in (batches // 2, batches):
        command.start()
        took.append(command.wait_for(half * BAGS_PER_BATCH))
        command.kill()
    run = command.run
    _, last = run.newest()
    plan = read_plan(run.epoch_url(0, "plan"))
    assert last is not None
    assert plan is not None
    slots, times = np.unique(run.ledger(last)["slot"].to_numpy(), return_counts=True)
    lost = last.cursor - len(np.intersect1d(slots, np.arange(last.cursor)))
    return [
        count("webscale.run.bags_planned", plan.num_bags, "bags", 1),
        count("webscale.run.bags_trained", last.cursor, "bags", 1),
        count("webscale.run.bags_lost", lost, "bags", last.cursor),
        count("webscale.run.bags_twice", int((times > 1).sum()), "bags", last.cursor),
        count("webscale.run.first_half_seconds", took[0], "s", 1),
        count("webscale.run.second_half_seconds", took[1], "s", 1),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print. The exit code says whether every bag was trained exactly once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batches", type=int, help="only the first batches of the first epoch")
    parser.add_argument("--set", action="append", default=[], help="a setting, as KEY=VALUE")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="af-runs-") as folder:
        place = Path(folder)
        say(f"indexing {given.videos} videos")
        index = corpus(place, given.videos, None if given.batches else PARTITION_VIDEOS)
        command = Command(settings(index, place, given.epochs, *given.set), place)
        try:
            found = beginning(command, given.batches) if given.batches else whole(command, given.videos)
        except BaseException:
            say(command.log.read_text()[-4000:])
            raise
    show(found, given.json, "real runs")
    wrong = [each for each in found if each.name.endswith(("lost", "twice")) and each.value]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
