"""AdaptFocus: which positives of a clip to believe, and how much.

From the probabilities of the training pass and the saliency of the bags (the clips of one video in a batch) it computes
a weight for each positive of each clip, and the weight as a negative of a positive that clip focusing masks. The three
parts are action saliency estimation (ASE), action focusing (AF) and clip focusing (CF).

After Zhou, Li, Lin, Liang, "Towards Weakly Supervised End-to-end Learning for Long-video Action Recognition"
(arXiv 2311.17118). These formulas are our reconstruction. They were chosen by ablation and written without the paper's
formulas, and may differ from them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from adaptfocus.pipelines.saliency.bins import Bins, spikes, visit
from adaptfocus.pipelines.saliency.settings import SaliencyConfig
from adaptfocus.trainers.settings.parts import FocusConfig

TINY = 1e-30  # so that 0 / 0 is 0


class Weights(NamedTuple):
    """The weights of the bags' own labels at each clip, both [B, N, L]."""

    action: torch.Tensor  # w of AF, float
    clip: torch.Tensor  # m of CF, bool

    @property
    def positive(self) -> torch.Tensor:
        """w m, before mass normalisation: a masked positive is ignored."""
        return self.action * self.clip

    @property
    def background(self) -> torch.Tensor:
        """(1 - m) (1 - w / 2): how surely a masked label is absent. Ours, not the paper's; see `weak_negatives`."""
        return (1 - self.action / 2).masked_fill_(self.clip, 0.0)


def focus_weights(
    probability: torch.Tensor,
    tau: torch.Tensor,
    duration_seconds: torch.Tensor,
    bins: Bins,
    epoch: int,
    focus: FocusConfig,
    saliency: SaliencyConfig,
) -> Weights:
    """The weights of each label at each clip.

    Args:
        probability: [B, N, L], p of the bag's own labels in the training pass, 0 without a label; detached here.
        tau: [B, N], clip centres as fractions of the video.
        duration_seconds: [B].
        bins: [B, L, n], the bags' saliency when the epoch was planned. These clips visit it first, unless
            `saliency.read` is "before". A pair of video and label that was never visited weighs 1 everywhere.

    The spike of a label is its highest saliency a in the video, at the time lambda.
    AF: w = 2 sigmoid((p - 0.7 a) / T), above 1 over the threshold 0.7 a and below 1 under it. With rivalry r it is
    multiplied by (p / max over the video's labels of p)^r. Most moments show one action, so that a moment that several
    labels of a video claim is left to the label that the model prefers.
    CF: m = 1 if |tau - lambda| <= delta, else 0.
    """
    probability = probability.detach().float()
    if saliency.read == "after":
        bins = visit(bins, tau, probability, epoch, saliency.update_rate, saliency.form == "running_max")
    a, salient = spikes(bins, epoch, saliency.staleness)
    weight = torch.ones_like(probability)
    near = torch.ones_like(probability, dtype=torch.bool)
    if focus.action_focusing:
        weight = _weigh(probability, focus.threshold * a.unsqueeze(1), focus)
    if focus.rivalry:
        weight = weight * (probability / probability.amax(-1, keepdim=True).clamp(min=TINY)).pow_(focus.rivalry)
    if focus.clip_focusing:
        delta = focus.delta
        if focus.delta_seconds is not None:
            delta = (focus.delta_seconds / duration_seconds).view(-1, 1, 1)
        near = (tau.unsqueeze(2) - salient.unsqueeze(1)).abs_() <= delta
    if saliency.read == "before":
        never = a.unsqueeze(1) < 0
        weight, near = weight.masked_fill(never, 1.0), near | never
    return Weights(weight, near)


def _weigh(p: torch.Tensor, threshold: torch.Tensor, focus: FocusConfig) -> torch.Tensor:
    """w of AF in one of several forms: 1 at the threshold t, smaller below it, larger above it.

    sigmoid: 2 sigmoid((p - t) / T). ratio: p / t, at most 2. exponential: exp((p - t) / T), at most e.
    superloss: exp(-W(max(-2 / e, b) / 2)), b = log(t / p) / T, W Lambert's function; at most e (Castells, Weinzaepfel,
    Revaud, "SuperLoss", NeurIPS 2020, without its running threshold).
    """
    if focus.weight_form == "ratio":
        return (p / threshold.clamp(min=TINY)).clamp_(max=2)
    if focus.weight_form == "exponential":
        return (p - threshold).div_(focus.temperature).clamp_(max=1).exp_()
    if focus.weight_form == "superloss":
        b = (threshold.clamp(min=TINY).log() - p.clamp(min=TINY).log()) / focus.temperature
        return _lambert(b.clamp(min=-2 / math.e) / 2).neg_().exp_()
    return (p - threshold).div_(focus.temperature).sigmoid_().mul_(2)


def _lambert(x: torch.Tensor) -> torch.Tensor:
    """The upper branch of Lambert's W for x >= -1/e, by Halley's method in float64: eight steps reach 1e-6."""
    x = x.double()
    root = (2 * (math.e * x + 1)).clamp_(min=0).sqrt_()
    start = torch.where(x < 1, -1 + root - root**2 / 3, (1 + x.clamp(min=0)).log())
    w = start
    for _ in range(8):
        e = w.exp()
        off = w * e - x
        w = w - off / (e * (w + 1) - (w + 2) * off / (2 * w + 2))
    return torch.where(root < 1e-3, start, w).float()  # at -1/e the steps are 0 / 0, and the start is good to 1e-9
