"""What AdaptFocus adds to a training step: saliency, weights, mass normalisation and ledger rows.

    python -m benchmarks.focus_overhead [--quick] [--json]

The baseline is `plain_step` below, as anybody would write it: forward, multi-hot targets, mean BCE, backward, AdamW on
the same batch. It is compared with `trainers.loop.step.train_step` under `ours_resampled` (after and during the
warm-up) and `best`, including each step's share of the ledger's table, which is made once a commit. All run on a CPU
with one thread, and time is the CPU time of the process. The sides take turns step by step; figures are medians over
the steps, with a 90 % bootstrap interval.

AdamW works at rate 0, so all sides keep the weights they begin with. If the sides trained on noise separately, the
convolutions of one model would take 1 to 2 % longer than those of the other, which has nothing to do with AdaptFocus.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/focus_overhead.py`

from adaptfocus.pipelines.errors import RETRY_REASONS
from adaptfocus.pipelines.schemas import NEVER_VISITED, NO_LABEL
from adaptfocus.pipelines.settings import make
from adaptfocus.pipelines.stream.batches import ERROR_BYTES, KIND_BYTES
from adaptfocus.trainers.backbones import InputSpec, build, input_spec_of, normalise
from adaptfocus.trainers.batches import ClipBatch
from adaptfocus.trainers.loop.commits import SinceCommit
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.step import train_step
from adaptfocus.trainers.settings.recipes import recipe
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.measuring import figures

EPOCH = 15  # of the recipes' 30: the warm-up is over, and weak negatives have begun
# Recipe and epoch of each side; None is the plain step.
SIDES: dict[str, tuple[str, int] | None] = {
    "plain": None,
    "warmup": ("ours_resampled", 0),
    "ours": ("ours_resampled", EPOCH),
    "best": ("best", EPOCH),
}
BATCHES = 8  # different batches, used in turn


@dataclass(frozen=True)
class Shape:
    """The shape of a batch and of the labels of its videos."""

    bags: int
    clips: int
    frames: int
    size_pixels: int
    classes: int
    labels: tuple[int, int]  # fewest and most of a video; all numbers in between are equally likely
    commit_steps: int  # steps between two commits


WORLD = Shape(bags=10, clips=4, frames=8, size_pixels=20, classes=12, labels=(2, 5), commit_steps=24)
CHARADES = Shape(bags=16, clips=4, frames=1, size_pixels=4, classes=157, labels=(1, 13), commit_steps=100)


class MeanColour(nn.Module):
    """The smallest model. AdaptFocus adds the same to any, but with a large one this would drown in noise."""

    input_spec = InputSpec(frames=1, frame_stride=1, size_pixels=4, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> logits float [B, K]."""
        return self.head(x.mean(dim=(2, 3, 4)))


def main(
    quick: Annotated[bool, typer.Option(help="A fifth of the steps.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each figure.")] = False,
) -> None:
    """Measure what AdaptFocus costs in a training step."""
    torch.set_num_threads(1)
    commits = 5 if quick else 25
    small = timed(WORLD, lambda: build("small3d", WORLD.classes), commits)
    wide = timed(CHARADES, lambda: MeanColour(CHARADES.classes), commits)
    found = [
        figures.median("focus.step_overhead", 100 * (small["ours"] / small["plain"] - 1), "%"),
        figures.median("focus.step_overhead_in_warmup", 100 * (small["warmup"] / small["plain"] - 1), "%"),
        figures.median("focus.best_step_overhead", 100 * (small["best"] / small["plain"] - 1), "%"),
        figures.median("focus.plain_step_ms", 1000 * small["plain"], "ms CPU a step"),
        figures.median("focus.ms_157_classes", 1000 * (wide["ours"] - wide["plain"]), "ms CPU a step"),
        figures.median("focus.ms_157_classes_in_warmup", 1000 * (wide["warmup"] - wide["plain"]), "ms CPU a step"),
    ]
    figures.show(found, as_json, "What AdaptFocus adds to a training step")


def timed(shape: Shape, new_model: Callable[[], nn.Module], commits: int) -> dict[str, np.ndarray]:
    """CPU seconds of the steps of each side, [steps], on the same batches; each step carries its share of a commit.

    Sides: "plain"; "warmup", our step before positives are weighted; "ours"; "best", with noisy-OR, weak negatives and
    fading.
    """
    engine = LocalEngine(shape.bags, torch.device("cpu"))
    batches = [random_batch(shape, seed) for seed in range(BATCHES)]
    configs = {side: config_of(shape, given[0] if given else "noisy") for side, given in SIDES.items()}
    models = {side: _seeded(new_model) for side in SIDES}
    optimisers = {side: adamw(model, configs[side], rate=0.0) for side, model in models.items()}
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for commit in range(commits + 1):
        done = {side: SinceCommit() for side in SIDES}
        for step in range(shape.commit_steps):
            turn = step % len(SIDES)
            for side, given in [*SIDES.items()][turn:] + [*SIDES.items()][:turn]:
                model, batch, optimiser = models[side], batches[step % BATCHES], optimisers[side]
                began = time.process_time()
                if given is None:
                    plain_step(model, input_spec_of(model), optimiser, batch, shape.classes)
                else:
                    config, epoch = configs[side], given[1]
                    progress = epoch / config.epochs
                    train_step(config, engine, model, model, optimiser, batch, epoch, progress, done[side])
                seconds[side].append(time.process_time() - began)
        for side in SIDES.keys() - {"plain"}:
            began = time.process_time()
            done[side].scores.to_arrow()
            share = (time.process_time() - began) / shape.commit_steps
            seconds[side][-shape.commit_steps :] = [s + share for s in seconds[side][-shape.commit_steps :]]
        if commit == 0:
            seconds = {side: [] for side in SIDES}  # a warm-up of caches and allocators
    return {side: np.array(values) for side, values in seconds.items()}


def plain_step(
    model: nn.Module, spec: InputSpec, optimiser: torch.optim.Optimizer, batch: ClipBatch, classes: int
) -> torch.Tensor:
    """The baseline: each clip has all labels of its video. Returns the loss."""
    frames, target = torch.from_numpy(batch.frames), multi_hot(torch.from_numpy(batch.label_ids), classes)
    logits = model(normalise(frames.flatten(0, 1), spec))
    loss = functional.binary_cross_entropy_with_logits(logits, target.repeat_interleave(frames.shape[1], dim=0))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.detach()


def multi_hot(label_ids: torch.Tensor, classes: int) -> torch.Tensor:
    """int64 [B, L], padded with NO_LABEL -> float [B, classes], on the same device."""
    places = torch.where(label_ids == NO_LABEL, classes, label_ids)  # padding goes after the last class
    return torch.zeros(len(label_ids), classes + 1, device=label_ids.device).scatter_(1, places, 1.0)[:, :classes]


def config_of(shape: Shape, name: str, *overrides: str) -> TrainConfig:
    """The settings of a recipe with batches of this shape. Nothing is read or written."""
    plan = {"clips_per_bag": shape.clips, "bags_per_batch": shape.bags}
    return make(TrainConfig, recipe(name) | {"name": "x", "runs": "runs", "index": "index", "plan": plan}, overrides)


def adamw(model: nn.Module, config: TrainConfig, rate: float | None = None) -> torch.optim.Optimizer:
    o = config.optim
    rate = o.learning_rate if rate is None else rate
    return torch.optim.AdamW(model.parameters(), lr=rate, betas=(o.beta1, o.beta2), weight_decay=o.weight_decay)


def random_batch(shape: Shape, seed: int, bins: int = 20) -> ClipBatch:
    """A batch of noise, with labels, times and saliency as after some epochs: most bins have been visited."""
    random = np.random.default_rng(seed)
    b, n, places = shape.bags, shape.clips, shape.labels[1]
    label_ids = np.full((b, places), NO_LABEL, np.int64)
    for bag, count in enumerate(random.integers(shape.labels[0], places, size=b, endpoint=True)):
        label_ids[bag, :count] = np.sort(random.choice(shape.classes, count, replace=False))
    visited = (random.random((b, 1, bins)) < 0.7) & (label_ids != NO_LABEL)[
        ..., None
    ]  # by the same clips for all labels
    seen_at = (np.arange(bins) + random.random((b, 1, bins))) / bins
    size = (b, n, shape.frames, 3, shape.size_pixels, shape.size_pixels)
    return ClipBatch(
        slot=np.arange(b),
        video_row=np.arange(b),
        ok=np.ones(b, bool),
        kind=np.zeros((b, KIND_BYTES), np.uint8),
        error=np.zeros((b, ERROR_BYTES), np.uint8),
        frames=random.integers(0, 256, size, dtype=np.uint8),
        clip_id=np.arange(b * n).reshape(b, n),
        tau=random.random((b, n)),
        duration_seconds=random.uniform(60, 120, b),
        label_ids=label_ids,
        explores=np.ones((b, n), bool),
        clip_positive=np.repeat((label_ids != NO_LABEL)[:, None], n, axis=1),
        saliency_score=np.where(visited, random.random((b, places, bins)), 0).astype(np.float32),
        saliency_tau=np.where(visited, seen_at, 0).astype(np.float32),
        saliency_epoch=np.where(visited, random.integers(0, EPOCH, (b, 1, bins)), NEVER_VISITED).astype(np.int32),
        read_bytes=np.full(b, 20_000),
        read_requests=np.full(b, n),
        wait_seconds=np.zeros(b),
        read_retries=np.zeros((b, len(RETRY_REASONS)), np.int64),
        decode_seconds=np.full(b, 0.04),
    )


def _seeded(new_model: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return new_model().train()


if __name__ == "__main__":
    typer.run(main)
