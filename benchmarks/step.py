"""How long a training step takes with each backbone, on the GPU of this machine, or on its CPU.

    python -m benchmarks.step [BACKBONE ...] [--set step.precision=bf16] [--quick] [--json]

Three sides take turns, step by step, on the same clips: ours (`trainers.loop.step`, recipe `ours_resampled` after the
warm-up, including the ledger's columns), a plain step of the same backbone (forward, multi-hot targets, mean BCE,
backward, the same AdamW), and the plain step of pytorchvideo's own model, where it is installed and has one. All work
at rate 0, so that weights do not change. Frames are noise; `benchmarks.stepping.step_waits` measures the wait for real
clips.

Each backbone runs in a separate process. On a CPU there is one thread, clips of large backbones are small
(`CPU_CLIPS`), and the overhead is in CPU time. On a GPU clips have the backbone's own size, and a time is that between
two waits for the GPU.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/step.py`

from adaptfocus.trainers.backbones import BACKBONES, build
from adaptfocus.trainers.batches import ClipBatch
from adaptfocus.trainers.loop.commits import SinceCommit
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.step import logits_of, make_optimiser, ready, step_function
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.focus_overhead import EPOCH, Shape, config_of, multi_hot, random_batch
from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure, say
from benchmarks.measuring.machine import held_bytes, matrix_flops_per_second, step_flops
from benchmarks.stepping.library_models import library_model
from benchmarks.stepping.step_waits import wait_share

CLASSES, LABELS, CLIPS = 157, (1, 13), 2  # as in Charades; clips of a bag
QUICK = ("small3d", "x3d_s", "i3d_r50", "mvit_b_16x4")
# Frames and pixels on a CPU, where clips of a backbone's own size take minutes. With these a step takes some seconds.
CPU_CLIPS = {
    "inception_i3d": (16, 64), "i3d_r50": (8, 64), "nonlocal_i3d_r50": (8, 64), "slowfast_r50": (16, 64),
    "x3d_s": (13, 64), "x3d_m": (16, 64), "x3d_l": (8, 64), "mvit_b_16x4": (8, 64), "mvit_b_32x3": (8, 64),
    "mvit_b_64x3": (8, 64), "mvit_b_24_32x3": (8, 64), "videomae_b": (16, 224), "timesformer_b": (2, 224),
    "vjepa2_l": (2, 256),
}  # fmt: skip
WAITS_OF = ("small3d", "x3d_s")  # backbones whose wait for clips is measured on a CPU


@dataclass(frozen=True)
class Job:
    """What one process measures."""

    backbone: str
    overrides: tuple[str, ...]
    steps: int
    waits: bool


def main(
    backbones: Annotated[list[str] | None, typer.Argument(help="Which; default: all that are installed.")] = None,
    overrides: Annotated[list[str], typer.Option("--set", help="A setting, such as step.precision=bf16.")] = [],  # noqa: B006
    quick: Annotated[bool, typer.Option(help=f"Only {', '.join(QUICK)}, and a quarter of the steps.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each figure.")] = False,
) -> None:
    """Measure training steps."""
    cuda = torch.cuda.is_available()
    names = backbones or [name for name in (QUICK if quick else BACKBONES) if BACKBONES[name].installed]
    found: list[Figure] = []
    for name in names:
        spec = BACKBONES[name].spec
        frames, size = (spec.frames, spec.size_pixels) if cuda else CPU_CLIPS.get(name, (spec.frames, spec.size_pixels))
        say(f"{name}: clips of {frames} frames, {size} pixels")
        shape = (f"clip.frames={frames}", f"clip.size_pixels={size}", f"backbone={name}")
        steps = (60 if cuda or name == "small3d" else 12) // (4 if quick else 1)
        job = Job(name, (*shape, *overrides), steps, waits=cuda or name in WAITS_OF)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            found += process.submit(measure, job).result()
    figures.show(found, as_json, "A training step" + (f" on {torch.cuda.get_device_name()}" if cuda else ""))


def measure(job: Job) -> list[Figure]:
    """All figures of one backbone."""
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bags = 10 if job.backbone == "small3d" else 4 if device.type == "cuda" else 1
    config = config_of(Shape(bags, CLIPS, 1, 1, CLASSES, LABELS, 1), "ours_resampled", *job.overrides)
    shape = Shape(bags, CLIPS, config.clip.frames, config.clip.size_pixels, CLASSES, LABELS, 1)
    batch = random_batch(shape, 0)
    rate = matrix_flops_per_second(device, config.step.precision)
    ours = our_side(config, device)
    ours(batch)
    peak_mb = _peak_mb(device)
    sides = {"ours": ours, "plain": plain_side(config, device, ours_model(config, device))}
    library = library_model(job.backbone, CLASSES, shape.frames, shape.size_pixels)
    if library is not None:
        sides["library"] = plain_side(config, device, ready(library.to(device), config.step, 1))
    wall, cpu = in_turns(sides, batch, job.steps, device)
    clips, name = bags * CLIPS, f"step.{job.backbone}"
    flops = step_flops(build(job.backbone, CLASSES), clips, shape.frames, shape.size_pixels)
    cost = wall if device.type == "cuda" else cpu
    found = [
        figures.median(f"{name}.ms", 1000 * wall["ours"], "ms"),
        figures.median(f"{name}.clips_per_s", clips / wall["ours"], "clips/s"),
        figures.median(f"{name}.mfu", 100 * flops / wall["ours"] / rate, "% of the matrix rate"),
        figures.median(f"{name}.focus_overhead", 100 * (cost["ours"] / cost["plain"] - 1), "%"),
        figures.count(f"{name}.peak_mb", peak_mb, "MB", 1),
        figures.count(f"{name}.activations_mb", _activations_mb(config), "MB a clip of its own size, float32", 1),
        figures.count(f"{name}.matrix_gflops_per_s", rate / 1e9, f"GFLOP/s {config.step.precision}", 1),
    ]
    if "library" in sides:
        found.append(figures.median(f"{name}.over_library", cost["ours"] / cost["library"], "ratio"))
    return found + ([wait_share(job.backbone, job.overrides)] if job.waits else [])


def ours_model(config: TrainConfig, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return ready(build(config.backbone, CLASSES).to(device), config.step, 1)


def our_side(config: TrainConfig, device: torch.device) -> Callable[[ClipBatch], None]:
    """A step of `trainers.loop.step`, as the loop calls it."""
    model = ours_model(config, device)
    step = step_function(config, LocalEngine(1, device), model, model, _still(config, model, device))
    return lambda batch: step(batch, EPOCH, EPOCH / config.epochs, SinceCommit())


def plain_side(config: TrainConfig, device: torch.device, model: nn.Module) -> Callable[[ClipBatch], None]:
    """A plain step: mean BCE on every label of a clip's video. Precision, layout and optimiser are ours."""
    model.input_spec = BACKBONES[config.backbone].spec  # type: ignore[assignment]
    optimiser = _still(config, model, device)

    def step(batch: ClipBatch) -> None:
        target = multi_hot(torch.from_numpy(batch.label_ids).to(device), CLASSES)
        logits = logits_of(config, model, batch, model, device)
        wanted = target.repeat_interleave(CLIPS, dim=0)
        loss = functional.binary_cross_entropy_with_logits(logits, wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def _still(config: TrainConfig, model: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    """AdamW at rate 0: it does its work, but the weights of no side change."""
    optimiser = make_optimiser(config, model, device)
    for group in optimiser.param_groups:
        group["lr"] = 0.0
    return optimiser


def in_turns(
    sides: dict[str, Callable[[ClipBatch], None]], batch: ClipBatch, steps: int, device: torch.device
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Wall and CPU seconds of the steps of each side, after one step that does not count."""
    names = list(sides)
    wait = partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
    wall, cpu = ({name: np.zeros(steps + 1) for name in names} for _ in range(2))
    for number in range(steps + 1):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            wait()
            began = time.perf_counter(), time.process_time()
            sides[name](batch)
            wait()
            wall[name][number] = time.perf_counter() - began[0]
            cpu[name][number] = time.process_time() - began[1]
    return {name: values[1:] for name, values in wall.items()}, {name: values[1:] for name, values in cpu.items()}


def _activations_mb(config: TrainConfig) -> float:
    """MB that a clip of the backbone's own size keeps for the backward pass."""
    model, spec = build(config.backbone, CLASSES), BACKBONES[config.backbone].spec
    return held_bytes(ready(model, config.step, 1), spec.frames, spec.size_pixels) / 1e6


def _peak_mb(device: torch.device) -> float:
    """Peak memory of the GPU, or of this process, which has only run the steps of one side so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    typer.run(main)
