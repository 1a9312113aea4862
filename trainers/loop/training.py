"""The training loop. Read it from top to bottom.

Each epoch goes: plan -> batches -> forward, focus weights, loss, step -> commit of the scores with the checkpoint that
contains their gradient -> merge -> next plan. It runs on any engine: this process, or one rank of a Ray Train worker
group. A run that is killed at any moment resumes from its last commit, on any number of workers: the ledger is the
cursor.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import nn

from adaptfocus.pipelines.plan.published import PlanFacts, Stretch, read_plan
from adaptfocus.trainers.backbones import freeze, load_pretrained
from adaptfocus.trainers.batches import ClipBatch, LabelShape
from adaptfocus.trainers.epochs.publishing import Planning
from adaptfocus.trainers.inputs.model_input import adapt_backbone
from adaptfocus.trainers.loop.commits import Commits, SinceCommit
from adaptfocus.trainers.loop.heartbeat import Heartbeat, bags_of_run
from adaptfocus.trainers.loop.schedule import learning_rate
from adaptfocus.trainers.loop.sharding import load_optimiser
from adaptfocus.trainers.loop.step import Step, make_optimiser, ready, step_function
from adaptfocus.trainers.ranks import Engine
from adaptfocus.trainers.runs import starts
from adaptfocus.trainers.runs.growth import begun_facts, label_places, last_decided, num_outputs
from adaptfocus.trainers.runs.log import Commit, Lineage, Run
from adaptfocus.trainers.runs.on_features import model_of
from adaptfocus.trainers.runs.open import clip_shape
from adaptfocus.trainers.settings.run import TrainConfig


@dataclass
class Position:
    """Where the run stands: the epoch, its committed bags (`cursor`), the last commit, the bags of earlier epochs."""

    epoch: int
    cursor: int
    commit: Commit | None
    bags_before: int = 0
    carried_in: int = 0  # bags that the previous epoch carried over


# Ray gives views of shared memory, and nothing here writes to them. A copy would cost 1.5 ms for a clip of 4.8 MB.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)


def train(config: TrainConfig, engine: Engine) -> None:
    """Train to the end of the last epoch, from the position of the run.

    Raises:
        AdaptFocusError: an error that the user can fix; the same on every rank. DivergedError: a number is not finite.
        TakenOverError: another process has claimed the run.
        DrainedError: the group was asked to stop, and all that it has trained is committed.
    """
    run = Run(config.url)
    begun, planning = begun_facts(run, config), Planning(run, config, engine.over)
    model = make_model(config, num_outputs(config, begun), engine.device)
    lineage, position, state = start(run, engine)
    if state is None and config.start_from:
        starts.load(config, model)
    trained, optimiser = wrap_and_restore(config, engine, model, state)
    step = step_function(config, engine, trained, model, optimiser)
    labels = LabelShape(label_places(config, begun), config.saliency.bins)
    last = last_decided(run)
    videos = last.videos if last else begun.videos
    batches = engine.batches(_stretch(run, config, videos, position), clip_shape(config), labels)
    commits = Commits(config, engine, lineage, position.commit, model, optimiser)
    with Heartbeat(run.url, config, enabled=engine.rank == 0) as heartbeat, contextlib.closing(commits):
        while position.epoch < config.epochs:
            heartbeat.waits_for("planning the epoch", position.epoch, position.cursor)
            plan = engine.on_rank_zero(partial(planning.publish, position.epoch, position.commit))
            assert plan is not None
            commits.after_merge()
            position = train_epoch(config, engine, commits, plan, position, batches, step, model, optimiser, heartbeat)
        engine.on_rank_zero(partial(planning.publish, config.epochs, position.commit))
        commits.after_merge()


def _stretch(run: Run, config: TrainConfig, videos: int, position: Position) -> Stretch:
    per_batch, bags = config.plan.bags_per_batch, config.plan.bags_per_epoch
    most, may_grow = bags or videos + per_batch, config.follow_index and not bags
    return Stretch(run.url, position.epoch, position.cursor, config.epochs, per_batch, most, may_grow)


def make_model(config: TrainConfig, num_classes: int, device: torch.device) -> nn.Module:
    """The same model on every rank: drawn from the seed, then loaded from pre-trained weights if there are any."""
    torch.manual_seed(config.seed)
    model = model_of(config, num_classes)
    if url := config.weights_url:
        load_pretrained(model, url)
    model = adapt_backbone(model, config.input).to(device)
    return freeze(model) if config.freeze_backbone else model


def start(run: Run, engine: Engine) -> tuple[Lineage, Position, dict[str, Any] | None]:
    """Claim the run -> the lineage, the position of every rank, and the state of the last undamaged checkpoint."""
    states: list[dict[str, Any]] = []  # the state that rank 0 has loaded already

    def claim() -> tuple[Lineage, Commit | None]:
        lineage, newest = run.claim(engine.workers)
        if newest is None:
            return lineage, None
        whole, state = run.newest_whole(newest)
        states.append(state)
        return lineage, whole

    lineage, commit = engine.on_rank_zero(claim)
    if commit is None:
        return lineage, Position(0, 0, None), None
    state = states[0] if states else run.load_state(commit)
    epoch, cursor = commit.next_position
    return lineage, Position(epoch, cursor, commit, *_before(run, epoch, commit)), state


def _before(run: Run, epoch: int, commit: Commit) -> tuple[int, int]:
    """Bags of all earlier epochs, and the bags that the last of them carried over. Only displays use them."""
    last = read_plan(run.epoch_url(epoch - 1, "plan")) if epoch else None
    carried = len(last.carried) if last else 0
    if commit.bags is not None:
        return (commit.bags if commit.ends_epoch else commit.bags - commit.cursor), carried
    # The log was begun by a version whose commits did not count bags.
    return sum(plan.num_bags for e in range(epoch) if (plan := read_plan(run.epoch_url(e, "plan")))), carried


def wrap_and_restore(
    config: TrainConfig, engine: Engine, model: nn.Module, state: dict[str, Any] | None
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The model in the form that the group trains, and its optimiser, both restored from a state if there is one.

    Weights are loaded while they are whole. The optimiser is made after that, from the weights that each rank holds.
    """
    if state:
        model.load_state_dict(state["model"])
    trained = engine.wrap(ready(model, config.step, engine.workers))
    optimiser = make_optimiser(config, model, engine.device)
    if state:
        load_optimiser(optimiser, state["optimiser"])
    return trained, optimiser


def train_epoch(
    config: TrainConfig,
    engine: Engine,
    commits: Commits,
    plan: PlanFacts,
    position: Position,
    batches: Iterator[ClipBatch],
    step: Step,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    heartbeat: Heartbeat,
) -> Position:
    """Train all batches of one epoch's plan from the cursor -> the position at the beginning of the next epoch."""
    per_batch = config.plan.bags_per_batch
    cursor, done = position.cursor, SinceCommit()
    in_all = bags_of_run(plan, position.carried_in, position.bags_before, config.epochs, per_batch)
    model.train()
    if plan.num_classes is not None:  # the head's other outputs are room for classes to come
        step = partial(step, classes=plan.num_classes)
    heartbeat.waits_for("waiting for the first batch", plan.epoch, cursor, plan.num_bags)
    for batch, waited_seconds in _timed(islice(batches, (plan.num_bags - cursor) // per_batch)):
        done.input_wait_seconds += waited_seconds
        check_slots(batch, cursor, per_batch, engine.workers, engine.rank)
        progress = (plan.epoch + cursor / plan.num_bags) / config.epochs
        done.rates.append(set_learning_rate(optimiser, config, progress))
        step(batch, plan.epoch, progress, done)
        cursor += per_batch
        loss = done.watch.newest()
        loss = None if loss is None else loss * engine.workers  # of this rank's share
        heartbeat.at(plan, cursor, position.bags_before, in_all, waited_seconds, loss)
        done = commits.after_step(plan, cursor, done)
    if cursor != plan.num_bags:
        raise RuntimeError(f"epoch {plan.epoch + 1} ended at bag {cursor} of {plan.num_bags}: the stream lost bags")
    commit = commits.wait()
    return Position(plan.epoch + 1, 0, commit, position.bags_before + plan.num_bags, len(plan.carried))


def _timed(batches: Iterator[ClipBatch]) -> Iterator[tuple[ClipBatch, float]]:
    """Each batch, and the seconds spent waiting for it."""
    began = time.monotonic()
    for batch in batches:
        yield batch, time.monotonic() - began
        began = time.monotonic()


def check_slots(batch: ClipBatch, cursor: int, per_batch: int, workers: int, rank: int) -> None:
    """Check that this rank's bags lie in the global batch that begins at `cursor`.

    Raises:
        RuntimeError: they do not.
    """
    low, high = int(batch.slot.min()), int(batch.slot.max())
    if batch.num_bags != per_batch // workers or low < cursor or high >= cursor + per_batch:
        raise RuntimeError(
            f"rank {rank} of {workers} got {batch.num_bags} bags of slots {low} to {high} for the global batch "
            f"[{cursor}, {cursor + per_batch}): the stream is out of order"
        )


def set_learning_rate(optimiser: torch.optim.Optimizer, config: TrainConfig, progress: float) -> float:
    rate = learning_rate(progress, config.optim)
    for group in optimiser.param_groups:
        group["lr"] = rate
    return rate
