"""The share of its time in which training waits for clips, in a run on encoded videos as a user would start it.

A 10-minute H.264 video is packed several times and indexed, and an epoch of it is trained in this process (local
engine). The figure comes from the run's own log.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from adaptfocus.pipelines.settings import make
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.preparation import prepare
from adaptfocus.trainers.settings.recipes import recipe
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure, say
from benchmarks.reading.corpus import default_work_folder, indexed, write_shards
from benchmarks.reading.videos import video

VIDEOS, BAGS_PER_BATCH, CLIPS_PER_BAG = 14, 2, 2
WARM_UP = 2  # batches that do not count: the first waits for its clips while libraries load


def wait_share(backbone: str, overrides: tuple[str, ...]) -> Figure:
    """Seconds that the loop waited for the next batch, divided by all its seconds, in %. Each batch is a commit."""
    with tempfile.TemporaryDirectory(prefix="adaptfocus-bench-") as name:
        folder = Path(name)
        say(f"{backbone}: training on {VIDEOS} videos")
        file = video("b", default_work_folder() / "videos")
        write_shards({f"v{n:02d}": file for n in range(VIDEOS)}, str(folder / "shards"), 1 << 40)
        indexed(str(folder / "shards"), str(folder / "index"))
        values = recipe("small") | {
            "name": "run",
            "runs": str(folder / "runs"),
            "index": str(folder / "index"),
            "epochs": 1,
        }
        plan = {"bags_per_batch": BAGS_PER_BATCH, "clips_per_bag": CLIPS_PER_BAG}
        values |= {"plan": plan, "checkpoint": {"every_batches": 1}, "placement": {"engine": "local"}}
        config = make(TrainConfig, values, ["clip.fps=30", "from_scratch=true", *overrides])
        prepare(config)
        train(config, LocalEngine(BAGS_PER_BATCH))
        entries = [e.metrics for e in Run(config.url).entries() if e.kind == "checkpoint"][WARM_UP:]
    shares = [100 * e["input_wait_seconds"] / e["seconds"] for e in entries]
    return figures.mean(f"step.{backbone}.wait_share", shares, "%")
