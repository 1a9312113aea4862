"""One optimiser step (forward, objective, backward, update), and the switches that say how it is computed.

Loss and scores are noted for the next commit. Nothing waits for a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from adaptfocus.trainers.backbones import Backbone, parameter_groups
from adaptfocus.trainers.batches import ClipBatch
from adaptfocus.trainers.device.transfer import Staging, on_device
from adaptfocus.trainers.inputs.model_input import after_step, apply_draws, to_model_input
from adaptfocus.trainers.inputs.time_order import reorder_clips
from adaptfocus.trainers.loop.accumulate import backward_in_parts
from adaptfocus.trainers.loop.commits import SinceCommit
from adaptfocus.trainers.method import closed_form, objective
from adaptfocus.trainers.method.null_ranks import stands_out
from adaptfocus.trainers.ranks import Engine
from adaptfocus.trainers.settings.parts import StepConfig
from adaptfocus.trainers.settings.run import TrainConfig

# Arguments: a batch, its epoch, the share of the training that is done, and the record for loss and scores; `classes`
# by name, if not all of the head's outputs are in use.
Step = Callable[..., None]

FUSED_ON = ("cuda", "cpu")


def ready(model: nn.Module, step: StepConfig, workers: int) -> nn.Module:
    """The same model, set up to compute as the switches say. The names and values of its weights stay the same."""
    blocks = model.layers() if isinstance(model, Backbone) else []
    sharded = step.sharding == "fsdp2" and workers > 1
    if step.channels_last and not sharded:  # FSDP2 takes only contiguous weights; the input is still converted
        _channels_innermost(model)
    if step.checkpoint_activations:
        for block in blocks or [model]:
            # All draws are keyed from outside, so no generator's state is kept: reading one from a GPU waits for it.
            block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
    if step.compile:
        for module in (blocks if sharded else []) or [model]:  # FSDP2 does its own work between the blocks
            module.compile()  # in place: a wrapper would add `_orig_mod.` to the names of a state
    return model


@torch.no_grad()
def _channels_innermost(model: nn.Module) -> None:
    """Lay out the kernels of 3D and of 2D convolutions; `Module.to` takes one format for both, and fails."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for weight in model.parameters():
        if weight.ndim in formats:
            weight.data = weight.data.contiguous(memory_format=formats[weight.ndim])


def make_optimiser(config: TrainConfig, model: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    """AdamW or SGD, in one kernel for all weights if there is one: 0.06 ms instead of 0.27 for small3d on a CPU."""
    o, groups = config.optim, parameter_groups(model, config.optim.weight_decay)
    fused = config.step.fused_optimiser and device.type in FUSED_ON
    if o.name == "sgd":
        return torch.optim.SGD(groups, lr=o.learning_rate, momentum=o.beta1, nesterov=o.beta1 > 0, fused=fused)
    return torch.optim.AdamW(groups, lr=o.learning_rate, betas=(o.beta1, o.beta2), fused=fused)


def step_function(
    config: TrainConfig, engine: Engine, trained: nn.Module, model: nn.Module, optimiser: torch.optim.Optimizer
) -> Step:
    """`train_step` of one run. Before it, clips are put in order, and a GPU gets the batch during the previous step."""
    step = partial(train_step, config, engine, trained, model, optimiser)
    before: list[Callable[[ClipBatch], ClipBatch]] = []
    if config.task == "order":
        before.append(partial(reorder_clips, seed=config.seed))
    if engine.device.type != "cpu":
        before.append(Staging(engine.device))

    def made_ready(batch: ClipBatch, epoch: int, progress: float, done: SinceCommit, **more: int) -> None:
        for change in before:
            batch = change(batch)
        step(batch, epoch, progress, done, **more)

    return made_ready if before else step


def train_step(
    config: TrainConfig,
    engine: Engine,
    trained: nn.Module,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: ClipBatch,
    epoch: int,
    progress: float,
    done: SinceCommit,
    classes: int | None = None,
) -> None:
    """One optimiser step on this rank's part of a global batch. Its scores are noted for the ledger.

    Args:
        trained: the module that is called. model: the backbone inside it.
        progress: share of the training that is done.
        classes: the outputs of the head that are in use, the first ones; None: all. The others take no part in the
            loss and get no gradient: nobody has said anything yet about the classes that they will have.
    """
    optimiser.zero_grad(set_to_none=True)
    if config.step.accumulate > 1:
        score = partial(logits_of, config, model=model, device=engine.device, classes=classes)
        p, logits, loss = backward_in_parts(config, engine, score, trained, batch, epoch, progress)
        done.losses.append(loss)
        done.scores.add(batch, p, stands_out(logits, batch))
    else:
        logits = logits_of(config, trained, batch, model, engine.device, classes)
        if engine.device.type == "cpu":
            with np.errstate(all="ignore"):  # the check of the loss reports the problem, and stops the run
                p, loss, gradient = closed_form.objective(config, engine, logits, batch, epoch, progress)
            done.losses.append(loss)
            # Here, while the code for small arrays is in the caches.
            done.scores.add(batch, p, stands_out(logits, batch))
            logits.backward(gradient)
        else:
            p, loss = objective.objective(config, engine, logits, batch, epoch, progress)
            done.losses.append(loss.detach())
            done.scores.add(batch, p, stands_out(logits, batch))
            (loss * engine.workers).backward()  # gradients are averaged over ranks; the loss is a share of a sum
    if config.optim.clip_gradient_norm:
        nn.utils.clip_grad_norm_(trained.parameters(), config.optim.clip_gradient_norm)
    optimiser.step()
    if config.input.motion != "rgb":  # entering no_grad costs 20 us in a step
        after_step(model, config.input)


def logits_of(
    config: TrainConfig, trained: nn.Module, batch: ClipBatch, model: nn.Module, device: torch.device,
    classes: int | None = None,
) -> torch.Tensor:  # fmt: skip
    """The logits of a batch's clips by `trained`, float32 [B N, K], whatever precision it computes in.

    Args:
        classes: K, if the head has more outputs: only the first are given.
    """
    frames, clip_id = on_device(batch, "frames", device).flatten(0, 1), None
    if config.draws_by_clip:
        clip_id = on_device(batch, "clip_id", device).flatten()
        frames = apply_draws(frames, model, config, clip_id)
    x = to_model_input(frames, model, config.input, clip_id)
    if config.step.channels_last:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    if config.step.precision == "bf16":
        with torch.autocast(device.type, torch.bfloat16):
            logits = trained(x).float()
    else:
        logits = trained(x).float()
    return logits if classes is None else logits[:, :classes]
