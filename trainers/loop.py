"""The training loop. Read it downwards.

Input: a TrainConfig and an engine (this process, or one rank of a Ray Train worker group).
Does: for each epoch, plan -> batches -> forward, focus weights, loss, step -> commit scores with the checkpoint that
contains their gradient -> merge -> next plan.
Output: a run folder. Killed at any moment, it goes on from its last commit, on any number of workers: the ledger is
the cursor.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import torch
from torch import nn

from pipelines.clip_plan import Planner
from pipelines.clip_stream import ClipShape
from pipelines.plan_store import PlanFacts, Stretch
from pipelines.records import NO_LABEL, ClipBatch
from pipelines.saliency_table import Bins
from pipelines.shard_index import load_index
from trainers.backbones import build, load_pretrained, parameter_groups
from trainers.checkpoint import Commit, Lineage, Run
from trainers.config import TrainConfig
from trainers.engine import Engine
from trainers.epochs import publish_plan
from trainers.focus import focus_weights
from trainers.heartbeat import Heartbeat
from trainers.inputs import adapted, after_step, shown
from trainers.loss import masses, noisy_or, weak_negatives, weighted_bce
from trainers.schedule import learning_rate
from trainers.scores import READING, Scores

# The columns of ClipBatch that a step needs on its device.
ON_DEVICE = ("frames", "ok", "clip_id", "tau", "duration_seconds", "label_ids", "clip_positive",
             "saliency_score", "saliency_tau", "saliency_epoch")  # fmt: skip


@dataclass
class Position:
    """Where the run stands: `epoch`, bags of it that are committed, and the last commit."""

    epoch: int
    cursor: int
    commit: Commit | None


@dataclass
class SinceCommit:
    """What has been trained since the last commit, on this rank."""

    scores: Scores = field(default_factory=Scores)
    losses: list[torch.Tensor] = field(default_factory=list)  # this rank's share of each step's, on its device
    input_wait_seconds: float = 0.0  # that this rank stood still for the next batch
    began: float = field(default_factory=time.monotonic)


# Ray hands out views of shared memory, which nothing here writes to: a copy would cost 1.5 ms a clip of 4.8 MB.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)


def train(config: TrainConfig, engine: Engine) -> None:
    """Train to the end of the last epoch, from wherever the run stands.

    Raises:
        AdaptFocusError: something the user can mend; on every rank alike.
        TakenOverError: another process has claimed the run.
    """
    run = Run(config.url)
    # Rank 0 alone plans, and packets are most of an index.
    index = load_index(config.index, columns=None if engine.rank == 0 else ["labels"])
    planner = Planner.of(index.table, index.classes)
    model, optimiser = make_model(config, len(index.classes), engine)
    lineage, position = start(run, engine, model, optimiser)
    trained = engine.wrap(model)
    shape = clip_shape(config, planner.max_labels)
    batches = engine.batches(_stretch(run, config, planner, position), shape)
    with Heartbeat(run.url, config, enabled=engine.rank == 0) as heartbeat:
        while position.epoch < config.epochs:
            plan = engine.on_rank_zero(partial(publish_plan, run, config, planner, position.epoch, position.commit))
            assert plan is not None
            position = train_epoch(
                config, engine, lineage, plan, position, batches, trained, model, optimiser, heartbeat
            )
        engine.on_rank_zero(partial(publish_plan, run, config, planner, config.epochs, position.commit))


def _stretch(run: Run, config: TrainConfig, planner: Planner, position: Position) -> Stretch:
    per_batch = config.plan.bags_per_batch
    most = planner.table.num_rows + per_batch
    return Stretch(run.url, position.epoch, position.cursor, config.epochs, per_batch, most)


def make_model(config: TrainConfig, num_classes: int, engine: Engine) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The same model on every rank: the seed decides, then the pre-trained start if there is one."""
    torch.manual_seed(config.seed)
    model = build(config.backbone, num_classes)
    if config.weights:
        load_pretrained(model, config.weights)
    adapted(model, config.input).to(engine.device)
    o = config.optim
    optimiser = torch.optim.AdamW(parameter_groups(model, o.weight_decay), lr=o.learning_rate, betas=(o.beta1, o.beta2))
    return model, optimiser


def start(run: Run, engine: Engine, model: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[Lineage, Position]:
    """Claim the run and load its last checkpoint; every rank then stands at the same position."""
    lineage, commit = engine.on_rank_zero(lambda: run.claim(engine.workers))
    if commit is None:
        return lineage, Position(0, 0, None)
    state = run.load_state(commit)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    if commit.cursor == commit.num_bags:
        return lineage, Position(commit.epoch + 1, 0, commit)
    return lineage, Position(commit.epoch, commit.cursor, commit)


def train_epoch(
    config: TrainConfig,
    engine: Engine,
    lineage: Lineage,
    plan: PlanFacts,
    position: Position,
    batches: Iterator[ClipBatch],
    trained: nn.Module,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    heartbeat: Heartbeat,
) -> Position:
    """All batches of one epoch's plan from the cursor on -> the position at the beginning of the next epoch."""
    per_batch = config.plan.bags_per_batch
    cursor, done = position.cursor, SinceCommit()
    model.train()
    for batch, waited_seconds in _timed(islice(batches, (plan.num_bags - cursor) // per_batch)):
        done.input_wait_seconds += waited_seconds
        check_slots(batch, cursor, per_batch, engine.workers, engine.rank)
        progress = (plan.epoch + cursor / plan.num_bags) / config.epochs
        set_learning_rate(optimiser, config, progress)
        train_step(config, engine, trained, model, optimiser, batch, plan.epoch, progress, done)
        cursor += per_batch
        heartbeat.at(plan.epoch, cursor, plan.num_bags)
        if cursor == plan.num_bags or len(done.losses) >= config.checkpoint.every_batches:
            position = commit(config, engine, lineage, plan, position, cursor, model, optimiser, done)
            done = SinceCommit()
    if cursor != plan.num_bags:
        raise RuntimeError(f"epoch {plan.epoch} ended at bag {cursor} of {plan.num_bags}: the stream lost bags")
    return Position(plan.epoch + 1, 0, position.commit)


def _timed(batches: Iterator[ClipBatch]) -> Iterator[tuple[ClipBatch, float]]:
    """Each batch, and the seconds for which it was waited."""
    began = time.monotonic()
    for batch in batches:
        yield batch, time.monotonic() - began
        began = time.monotonic()


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
) -> None:
    """One optimiser step on this rank's part of a global batch; its scores are noted for the ledger."""
    data = {name: torch.from_numpy(getattr(batch, name)).to(engine.device) for name in ON_DEVICE}
    bags, clips = batch.clip_id.shape
    x = shown(data["frames"].flatten(0, 1), model, config.input, data["clip_id"].flatten())
    logits = trained(x).float().unflatten(0, (bags, clips))
    ids = data["label_ids"].unsqueeze(1).expand(-1, clips, -1)  # [B, N, L]
    places = ids.clamp(min=0)  # what NO_LABEL points at is never used
    p = torch.sigmoid(logits.detach()).gather(-1, places)  # of the bags' own labels
    focused = None
    if config.focus.active(epoch):
        bins = Bins(data["saliency_score"], data["saliency_tau"], data["saliency_epoch"])
        focused = focus_weights(p, data["tau"], data["duration_seconds"], bins, epoch, config.focus, config.saliency)
    w = focused.positive if focused else torch.ones_like(p)
    real = ids != NO_LABEL
    chosen = data["clip_positive"] & real
    positive, weight = _over_classes(ids, chosen, w, logits.shape[-1])
    total = engine.add_up(masses(w, chosen, data["ok"]))
    loss = weighted_bce(logits, positive, weight, data["ok"], total, config.focus.normalise_mass)
    if focused and (beta := config.focus.background_at(epoch, progress)):
        off = focused.background * real
        own = logits.gather(-1, places)
        loss = loss + beta * weak_negatives(own, off, data["ok"], total, logits.shape[-1])
    if mu := config.focus.noisy_or_weight:
        loss = loss + mu * noisy_or(logits, positive.any(dim=1), data["ok"], total)
    optimiser.zero_grad(set_to_none=True)
    (loss * engine.workers).backward()  # gradients are averaged over ranks; the loss is a share of a sum
    if config.optim.clip_gradient_norm:
        nn.utils.clip_grad_norm_(trained.parameters(), config.optim.clip_gradient_norm)
    optimiser.step()
    after_step(model, config.input)
    done.losses.append(loss.detach())
    done.scores.add(batch, p)


def commit(
    config: TrainConfig,
    engine: Engine,
    lineage: Lineage,
    plan: PlanFacts,
    position: Position,
    cursor: int,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    done: SinceCommit,
) -> Position:
    """Every rank writes its ledger, then rank 0 the state, then the log entry that makes all of it count."""
    folder = lineage.folder(plan.epoch, cursor)
    files = engine.gather(lineage.write_ledger(folder, engine.rank, done.scores.to_arrow()))
    own_loss = torch.stack(done.losses).double().sum().item()
    own = [own_loss, float(done.scores.clips_decoded()), done.input_wait_seconds, *done.scores.reading()]
    loss, clips, waited, *reading = engine.add_up(torch.tensor(own, dtype=torch.float64)).tolist()
    metrics = {
        "loss": loss / len(done.losses),
        "batches": len(done.losses),
        "clips": clips,
        "seconds": time.monotonic() - done.began,
        "input_wait_seconds": waited / engine.workers,
        "learning_rate": optimiser.param_groups[0]["lr"],
        **dict(zip(READING, reading, strict=True)),
    }
    same_epoch = position.commit is not None and position.commit.epoch == plan.epoch
    earlier = position.commit.ledger if position.commit and same_epoch else ()

    def on_rank_zero() -> Commit:
        lineage.write_state(folder, {"model": model.state_dict(), "optimiser": optimiser.state_dict()})
        entry = lineage.commit(folder, plan.epoch, cursor, plan.num_bags, (*earlier, *files), metrics)
        lineage.drop_old_states(config.checkpoint.keep)
        return entry

    entry = engine.on_rank_zero(on_rank_zero)
    lineage.number = entry.number
    return Position(plan.epoch, cursor, entry)


def clip_shape(config: TrainConfig, max_labels: int) -> ClipShape:
    return ClipShape(
        config.plan.clips_per_bag,
        config.clip.frames,
        config.clip.size_pixels,
        max_labels,
        config.saliency.bins,
        config.decode,
    )


def check_slots(batch: ClipBatch, cursor: int, per_batch: int, workers: int, rank: int) -> None:
    """This rank's bags must lie in the global batch that begins at `cursor`: order is a function, not luck."""
    low, high = int(batch.slot.min()), int(batch.slot.max())
    if batch.num_bags != per_batch // workers or low < cursor or high >= cursor + per_batch:
        raise RuntimeError(
            f"rank {rank} of {workers} got {batch.num_bags} bags of slots {low} to {high} for the global batch "
            f"[{cursor}, {cursor + per_batch}): the stream is out of order"
        )


def set_learning_rate(optimiser: torch.optim.Optimizer, config: TrainConfig, progress: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(progress, config.optim)


def _over_classes(
    ids: torch.Tensor, chosen: torch.Tensor, weight: torch.Tensor, num_classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Values of label places [B, N, L] as (positive bool, weight float) over classes [B, N, K].

    What is not chosen goes to a class behind the last, which is cut off.
    """
    places = torch.where(chosen, ids, num_classes)
    shape = (*ids.shape[:-1], num_classes + 1)
    positive = torch.zeros(shape, dtype=torch.bool, device=ids.device).scatter_(-1, places, True)
    spread = torch.ones(shape, device=ids.device).scatter_(-1, places, weight)
    return positive[..., :-1], spread[..., :-1]


__all__: Sequence[str] = ("commit", "make_model", "train", "train_epoch", "train_step")
