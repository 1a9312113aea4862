"""For how long a commit stops training: only to copy the weights, or to copy and write them.

    python -m benchmarks.commit_stall [--megabytes 64] [--repeats 5] [--quick] [--json]

A model of that size and its AdamW state (twice as much again) are committed to a local S3 server, as the loop does it.
Then each commit is also waited for until it is in the log, which the loop did before it committed in the background.

Figures: [commit.stall_seconds], [commit.stall_seconds_if_waited_for].
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

import torch
from torch import nn

from adaptfocus.pipelines.plan.published import PlanFacts, Window
from adaptfocus.trainers.loop.commits import Commits, SinceCommit
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.runs.log import Run
from benchmarks.chaos import settings
from benchmarks.focus_overhead import Shape, random_batch
from benchmarks.measuring.figures import Figure, median, show
from tests.s3_server import ExclusiveS3

SHAPE = Shape(bags=8, clips=4, frames=4, size_pixels=20, classes=12, labels=(1, 5), commit_steps=1)
WIDTH = 1024


def trained_model(megabytes: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model with so many MB of float32 weights, after one step of AdamW."""
    layers = max(1, megabytes * 2**20 // (4 * WIDTH * WIDTH))
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(layers)))
    optimiser = torch.optim.AdamW(model.parameters())
    for each in model.parameters():
        each.grad = torch.ones_like(each)
    optimiser.step()
    return model, optimiser


def one_step() -> SinceCommit:
    """What one step leaves for the ledger."""
    done, batch = SinceCommit(), random_batch(SHAPE, seed=0)
    own = torch.rand(SHAPE.bags, SHAPE.clips, batch.label_ids.shape[1])
    done.scores.add(batch, own, torch.rand(SHAPE.bags, SHAPE.classes))
    done.losses.append(torch.tensor(0.5))
    return done


def measure(url: str, megabytes: int, repeats: int) -> list[Figure]:
    config = settings("index", url, "stall", 1, "checkpoint.keep=1")
    model, optimiser = trained_model(megabytes)
    engine, run = LocalEngine(config.plan.bags_per_batch, torch.device("cpu")), Run(config.url)
    commits = Commits(config, engine, run.claim(1)[0], None, model, optimiser)
    stalls, whole = [], []
    for number in range(repeats + 1):
        began = time.monotonic()
        commits.begin(PlanFacts("", number, 8, (Window((), 0, 8),), (), 5), 4, one_step())
        stalls.append(time.monotonic() - began)
        commits.wait()
        whole.append(time.monotonic() - began)
    return [
        median("commit.stall_seconds", stalls[1:], "s"),  # the first one warms up
        median("commit.stall_seconds_if_waited_for", whole[1:], "s"),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=64, help="MB of weights; the state has three times as many")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="32 MB of weights")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    megabytes = 32 if chosen.quick else chosen.megabytes
    with ExclusiveS3() as s3:
        os.environ.update(s3.environment)
        found = measure(s3.url("runs"), megabytes, chosen.repeats)
    show(found, chosen.json, f"Commits of {3 * megabytes} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
