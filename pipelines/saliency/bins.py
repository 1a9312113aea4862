"""Bins over a video's time: update them by visits, and find their spikes.

A spike is the highest bin of an action, after older bins have faded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from adaptfocus.pipelines.schemas import NEVER_VISITED


@dataclass(frozen=True)
class Bins:
    """Saliency of (video, action) pairs: three tensors [..., n], with n bins over the video's time."""

    score: torch.Tensor  # float32, the action's probability in the bin; 0 before the first visit
    tau: torch.Tensor  # float32, time of that visit as a fraction of the video; 0 before the first
    epoch: torch.Tensor  # int32, epoch of the last visit; NEVER_VISITED before the first

    @classmethod
    def unvisited(cls, *shape: int) -> Bins:
        """Bins without visits; `shape` ends with the number of bins."""
        return cls(torch.zeros(shape), torch.zeros(shape), torch.full(shape, NEVER_VISITED, dtype=torch.int32))


def visit(
    bins: Bins, tau: torch.Tensor, probability: torch.Tensor, epoch: int, update_rate: float, running_max: bool = False
) -> Bins:
    """The bins after visits by the N scored clips of each bag (the clips of one video), in their order.

    Args:
        bins: [B, L, n].
        tau: [B, N], clip centres as fractions of the video.
        probability: [B, N, L], of each label at each clip; detached.

    For bin b = floor(n tau), first visit: s_b = p, tau_b = tau; later: s_b += r (p - s_b), tau_b += r (tau - tau_b);
    always e_b = epoch. With `running_max`, a later visit counts only if p exceeds s_b, and then like a first visit.
    """
    n, labels = bins.score.shape[-1], bins.score.shape[1]
    which = (tau * n).long().clamp_(max=n - 1)  # [B, N]; tau = 1 belongs to the last bin
    places = which.unsqueeze(1).expand(-1, labels, -1)  # [B, L, N]
    again = (which.unsqueeze(2) == which.unsqueeze(1)).tril_(-1).any(-1)  # [B, N]: the bin repeats
    visited = again.unsqueeze(1) | (bins.epoch.gather(-1, places) != NEVER_VISITED)
    rate = torch.where(visited, update_rate, 1.0)  # an unvisited bin holds zeros, so a rate of 1 sets it to p and tau
    # Score and tau together: on such small tensors, calls cost more than arithmetic.
    state = torch.stack([bins.score, bins.tau])  # [2, B, L, n]
    seen = torch.stack([probability.transpose(1, 2), tau.unsqueeze(1).to(probability.dtype).expand_as(places)])
    for b, value, r in zip(_each(places.expand_as(seen)), _each(seen), _each(rate), strict=True):
        old = state.gather(-1, b)
        if running_max:  # an unvisited bin holds 0, and every p is at least 0
            value, r = torch.where(value[0] >= old[0], value, old), 1.0
        state.scatter_(-1, b, (value - old).mul_(r).add_(old))
    return Bins(state[0], state[1], bins.epoch.scatter(-1, places, epoch))


def _each(values: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """[..., N] as N tensors [..., 1]."""
    return values.unsqueeze(-2).unbind(-1)


def spikes(bins: Bins, epoch: int, staleness: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Spike-actionness a and salient time lambda of each pair, both [...]; a = -1 if no bin was ever visited.

    a = max over bins of `fade`; lambda is the tau of that bin (of the earliest in a tie).
    """
    a, where = spike_bins(bins, epoch, staleness)
    return a.squeeze(-1), bins.tau.gather(-1, where).squeeze(-1)


def spike_bins(bins: Bins, epoch: int, staleness: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The a of `spikes` and the number of its bin, int64, both [..., 1]."""
    return fade(bins, epoch, staleness).max(dim=-1, keepdim=True)


def fade(bins: Bins, epoch: int, staleness: float) -> torch.Tensor:
    """What each bin counts for, s_b * staleness^(epoch - e_b), [..., n]; -1 where it was never visited."""
    age = (epoch - bins.epoch).clamp_(min=0).to(bins.score.dtype)
    faded = age.mul_(math.log(staleness)).exp_().mul_(bins.score)
    return faded.masked_fill_(bins.epoch == NEVER_VISITED, -1.0)
