"""The objective of a step on a CPU: the loss and its gradient over the logits, in a few calls of numpy.

It computes the same as `trainers.method.objective`, on arrays instead of tensors, and without autograd. On arrays of
some hundred numbers the calls of a step cost more than its arithmetic, and a call of numpy costs a third of a call of
torch. tests/trainers/method/test_closed_form.py compares both.

Let P be the weight of an entry as a positive, Q its weight as a negative, z its logit, and p = sigmoid(z):

    L = sum P softplus(-z) + Q softplus(z) = sum (P + Q) softplus(z) - P z,        dL/dz = (P + Q) p - P

For a label that the video has, noisy-OR uses q = prod_t (1 - p_t): d -log(1 - q) / dz_t = -q / (1 - q) p_t. For a class
that it does not have, noisy-OR has the form of BCE, so such an entry is a negative of weight 1 + mu.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional

from adaptfocus.pipelines.saliency.bins import Bins
from adaptfocus.pipelines.saliency.settings import SaliencyConfig
from adaptfocus.pipelines.schemas import NEVER_VISITED, NO_LABEL
from adaptfocus.trainers.batches import ClipBatch
from adaptfocus.trainers.method.focus import TINY, focus_weights
from adaptfocus.trainers.ranks import Engine
from adaptfocus.trainers.settings.parts import FocusConfig
from adaptfocus.trainers.settings.run import TrainConfig

_ONE, _MOST = np.float32(1), np.float32(80)  # exp(80) is finite
# saliency.form, saliency.read and focus.weight_form that are computed here; the others, for comparisons, use tensors.
USUAL = ("bins", "after", "sigmoid")
_sum = np.add.reduce  # what ndarray.sum calls, by way of Python


def objective(
    config: TrainConfig, engine: Engine, logits: torch.Tensor, batch: ClipBatch, epoch: int, progress: float
) -> tuple[np.ndarray, float, torch.Tensor]:
    """The loss of a step and its gradient.

    Args:
        logits: float32 [B N, K] on the CPU.

    Returns:
        p [B, N, L] of the bags' own labels, 0 where there is no label; this rank's share of the loss; the gradient of
        that share [B N, K], times the number of ranks over which it will be averaged.
    """
    tensor, ok, mu = logits.detach(), batch.ok, config.focus.noisy_or_weight
    p_all, softplus_all, z = torch.sigmoid(tensor).numpy(), functional.softplus(tensor).numpy(), tensor.numpy()
    real = (batch.label_ids != NO_LABEL)[:, None]  # [B, 1, L]
    bags, clips = batch.tau.shape
    # Where the labels' entries lie among all entries. Padding, -1, reads a neighbour, which is never used.
    ids, classes = batch.label_ids[:, None], z.shape[1]
    at = _starts(bags, clips, classes) + ids
    p, softplus, own = p_all.take(at, mode="clip") * real, softplus_all.take(at, mode="clip"), z.take(at, mode="clip")
    usable, counted = _ONE, batch.clip_positive  # the latter is False where there is no label
    if not np.logical_and.reduce(ok):
        usable = ok.astype(np.float32)[:, None, None]
        counted = counted & ok[:, None, None]

    plain = real * usable  # all entries except these are negatives of weight 1 + mu
    columns = _starts(bags, clips, 1 + classes) + 1 + ids  # padding goes to the first column, which is cut off
    h = config.focus.negatives_at(epoch)
    drawn = _drawn(p_all, columns, usable, config.focus.negative_power) if h else None
    positive, negative, total = _weights(config, engine, p, batch, epoch, progress, plain, counted, drawn)
    all_clips = total[2]
    loss, pull = 0.0, np.float32(0)
    if mu:
        shown = np.logical_or.reduce(counted, axis=1)  # [B, L]
        negative = negative + mu * (plain * ~shown[:, None])
        loss, pull = _noisy_or(softplus, shown, mu * clips)
    both, share = positive + negative, 1 / (max(all_clips, 1) * classes)
    labels = (both - (1 + mu) * plain) * softplus - positive * own
    others = softplus_all if usable is _ONE else softplus_all.reshape(bags, clips, -1) * usable
    loss += float(_sum(labels, None)) + (1 + mu) * float(_sum(others, None))
    scale = np.float32(share * engine.workers)
    gradient = np.empty((bags, clips, 1 + classes), np.float32)
    np.multiply(p_all.reshape(bags, clips, -1), (1 + mu) * scale * usable, out=gradient[:, :, 1:])
    if drawn is not None and total[3] > 0:
        # With focusing, an entry that is not a label of its bag weighs 1 - h + h n_neg pull / sum(pull).
        more = np.float32(h * (all_clips * classes - total[0]) / total[3]) * drawn - np.float32(h) * usable
        more.reshape(-1)[columns] = 0
        more = more[:, :, 1:]
        loss += float(_sum(more * softplus_all.reshape(bags, clips, -1), None))
        gradient[:, :, 1:] += more * p_all.reshape(bags, clips, -1) * scale
    gradient.reshape(-1)[columns] = ((both - pull) * p - positive) * scale
    return p, loss * share, torch.from_numpy(gradient.reshape(-1, 1 + classes)[:, 1:])


def _weights(
    config: TrainConfig,
    engine: Engine,
    p: np.ndarray,
    batch: ClipBatch,
    epoch: int,
    progress: float,
    plain: np.ndarray,
    counted: np.ndarray,
    drawn: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray | np.float32, Sequence[float]]:
    """P and Q of the labels' entries without noisy-OR, both [B, N, L], and the masses of the global batch.

    plain: 1 where a usable bag has a label, [B, 1, L]. counted: bool [B, N, L], which of them are positives. drawn: the
    result of `_drawn`, if negatives are focused.
    """
    focus = config.focus
    weight, near = _ONE, None
    if focus.active(epoch):
        weight, near = _focus_weights(p, batch, epoch, focus, config.saliency)
    positive = weight * (counted if near is None else counted & near)
    total = count, mass, *_ = _masses(engine, counted, positive, batch.ok, drawn)
    if focus.normalise_mass:
        positive *= np.float32(count / max(mass, 1e-12))
    negative = np.float32(0)
    if focus.regime == "full":  # the video's labels that a clip does not show
        negative = plain * ~batch.clip_positive
    elif near is not None and (beta := focus.background_at(epoch, progress)):
        negative = (beta - beta / 2 * weight) * (plain * ~near)
    return positive, negative, total


def _drawn(p_all: np.ndarray, columns: np.ndarray, usable: np.ndarray | np.float32, power: float) -> np.ndarray:
    """p^power of each class that is not a label of its bag, and 0 of its labels: [B, N, 1 + K]; column 0 is padding."""
    bags, clips = columns.shape[0], columns.shape[1]
    found = np.zeros((bags, clips, 1 + p_all.shape[1]), np.float32)
    np.multiply(np.power(p_all, np.float32(power)).reshape(bags, clips, -1), usable, out=found[:, :, 1:])
    found.reshape(-1)[columns] = 0
    return found


def _masses(
    engine: Engine, counted: np.ndarray, positive: np.ndarray, ok: np.ndarray, drawn: np.ndarray | None
) -> Sequence[float]:
    """`loss.masses` of the global batch: positives, their weights, usable clips, and the pull of negatives."""
    own = (
        float(np.count_nonzero(counted)),
        float(_sum(positive, None)),
        float(np.count_nonzero(ok) * counted.shape[1]),
        0.0 if drawn is None else float(_sum(drawn, None, np.float64)),
    )
    return own if engine.workers == 1 else engine.add_up(torch.tensor(own, dtype=torch.float64)).tolist()


@lru_cache(maxsize=8)
def _starts(rows: int, columns: int, step: int) -> np.ndarray:
    """Where each run of `step` numbers begins: 0, step, 2 step, ..., as [rows, columns, 1]."""
    return np.arange(0, rows * columns * step, step).reshape(rows, columns, 1)


def _noisy_or(softplus: np.ndarray, shown: np.ndarray, weight: float) -> tuple[float, np.ndarray]:
    """-log(1 - prod_t (1 - p_t)) of the labels shown, weighted and summed, and weight q / (1 - q), [B, 1, L].

    softplus: [B, N, L], -log(1 - p). The bound is that of `method.loss.noisy_or`; there is no gradient beyond it.
    """
    none = softplus.sum(axis=1)  # -log q
    bound = np.maximum(none, np.float32(1e-7))
    loss = -weight * float((np.log(-np.expm1(-bound)) * shown).sum())
    pull = weight / np.expm1(np.minimum(bound, _MOST)) * (shown & (none >= bound))
    return loss, pull[:, None]


def _focus_weights(
    p: np.ndarray, batch: ClipBatch, epoch: int, focus: FocusConfig, saliency: SaliencyConfig
) -> tuple[np.ndarray | np.float32, np.ndarray | None]:
    """w of AF and m of CF, [B, N, L], like `focus.focus_weights`; 1 and None where they are switched off."""
    if (saliency.form, saliency.read, focus.weight_form) != USUAL:
        bins = Bins(*map(torch.from_numpy, (batch.saliency_score, batch.saliency_tau, batch.saliency_epoch)))
        tau, seconds = torch.from_numpy(batch.tau), torch.from_numpy(batch.duration_seconds)
        found = focus_weights(torch.from_numpy(p), tau, seconds, bins, epoch, focus, saliency)
        return found.action.numpy(), found.clip.numpy() if focus.clip_focusing else None
    a, salient = _spikes(p, batch, epoch, saliency)
    weight, near = _ONE, None
    if focus.action_focusing:
        under = (np.float32(focus.threshold) * a[:, None] - p) * np.float32(1 / focus.temperature)
        # 2 sigmoid(-under). tanh would be one call instead of three, but it rounds small weights to 0. Where all
        # weights are small, mass normalisation makes them large, so they matter.
        weight = 2 / (np.exp(np.minimum(under, _MOST)) + _ONE)
    if focus.rivalry:
        weight = weight * (p / np.maximum(p.max(axis=2, keepdims=True), np.float32(TINY))) ** np.float32(focus.rivalry)
    if focus.clip_focusing:
        delta = focus.delta
        if focus.delta_seconds is not None:
            delta = (focus.delta_seconds / batch.duration_seconds)[:, None, None]
        near = np.abs(batch.tau[:, :, None] - salient[:, None]) <= delta
    return weight, near


def _spikes(p: np.ndarray, batch: ClipBatch, epoch: int, config: SaliencyConfig) -> tuple[np.ndarray, np.ndarray]:
    """a and lambda after the bags' clips have visited their bins, both [B, L]: `saliency.bins.visit` and `spikes`.

    Let k clips visit a bin that holds s, in their order, and let d = 1 - r. Then the bin holds
    d^k s + sum_i r d^(k - i) p_i. A bin that was never visited starts with the first of them.
    """
    bags, clips, labels = p.shape
    bins, seen_in = batch.saliency_score.shape[-1], batch.saliency_epoch
    which = np.minimum(batch.tau * bins, bins - 1).astype(np.int64)  # [B, N]; tau = 1 belongs to the last bin
    starts = _starts(bags, labels, bins)[:, None, :, 0]
    places = starts + which[:, :, None]  # [B, N, L]
    same = which[:, :, None] == which[:, None]  # [B, N, N]
    left = _powers(1 - config.update_rate, clips + 1)
    recent = config.update_rate * left.take(_sum(same & _later(clips), 2))  # r d^(visits of the bin after this)
    mixed = (same * recent[:, None])[
        ..., None
    ]  # [B, N, N, 1], because the next step is cheaper as a product of matrices
    kept = left.take(_sum(same, 2))[:, :, None]
    first = same.argmax(axis=2) + _starts(1, bags, clips)[0]  # [B, N], among all clips
    was_visited = seen_in.take(places) != NEVER_VISITED

    score = batch.saliency_score * _powers(config.staleness, epoch + 2).take(epoch - seen_in, mode="clip")
    np.putmask(score, seen_in == NEVER_VISITED, -1)
    held = np.where(was_visited, batch.saliency_score.take(places), p.reshape(-1, labels).take(first, axis=0))
    score.reshape(-1)[places] = kept * held + _sum(mixed * p[:, None], 2)
    tau = batch.saliency_tau.copy()
    held = np.where(was_visited, batch.saliency_tau.take(places), batch.tau.take(first)[:, :, None])
    tau.reshape(-1)[places] = kept * held + _sum(mixed * batch.tau[:, None, :, None], 2)
    best = score.argmax(axis=2) + starts[:, 0]
    return score.take(best), tau.take(best)


@lru_cache(maxsize=8)
def _later(clips: int) -> np.ndarray:
    """Whether the clip of the column comes after that of the row: bool [N, N]."""
    return np.triu(np.ones((clips, clips), bool), 1)


@lru_cache(maxsize=8)
def _powers(base: float, count: int) -> np.ndarray:
    """The first `count` powers base^0, base^1, ..., float32."""
    return np.power(base, np.arange(count)).astype(np.float32)
