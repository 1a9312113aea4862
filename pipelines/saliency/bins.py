"""Bins of one video: visited, and read as spikes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from adaptfocus.pipelines.schemas import NEVER_VISITED


@dataclass(frozen=True)
class Bins:
    """Saliency of any number of (video, action) pairs: three tensors [..., n]."""

    score: torch.Tensor  # float32, the action's probability in the bin; 0 before the first visit
    tau: torch.Tensor  # float32, where in the video that was seen; 0 before the first visit
    epoch: torch.Tensor  # int32, last visit; NEVER_VISITED before the first

    @classmethod
    def unvisited(cls, *shape: int) -> Bins:
        """Bins that nobody has looked at yet; `shape` ends with the number of bins."""
        return cls(torch.zeros(shape), torch.zeros(shape), torch.full(shape, NEVER_VISITED, dtype=torch.int32))


def visit(
    bins: Bins, tau: torch.Tensor, probability: torch.Tensor, epoch: int, update_rate: float, running_max: bool = False
) -> Bins:
    """Bins after the N clips of each bag have been scored, in their order.

    Args:
        bins: [B, L, n].
        tau: [B, N], clip centres as fractions of the video.
        probability: [B, N, L], of each label at each clip; detached.

    For bin b = floor(n tau), first visit: s_b = p, tau_b = tau; later: s_b += r (p - s_b), tau_b += r (tau - tau_b);
    always e_b = epoch. With `running_max` a later visit counts only where p exceeds s_b, and then as a first one.
    """
    n, labels = bins.score.shape[-1], bins.score.shape[1]
    which = (tau * n).long().clamp_(max=n - 1)  # [B, N]; tau = 1 belongs to the last bin
    places = which.unsqueeze(1).expand(-1, labels, -1)  # [B, L, N]
    again = (which.unsqueeze(2) == which.unsqueeze(1)).tril_(-1).any(-1)  # [B, N]: after another clip of the bag
    visited = again.unsqueeze(1) | (bins.epoch.gather(-1, places) != NEVER_VISITED)
    rate = torch.where(visited, update_rate, 1.0)  # an unvisited bin holds zeros, so that 1 makes it p and tau
    # Score and tau at once: on tensors as small as these a step costs its calls, not its arithmetic.
    state = torch.stack([bins.score, bins.tau])  # [2, B, L, n]
    seen = torch.stack([probability.transpose(1, 2), tau.unsqueeze(1).to(probability.dtype).expand_as(places)])
    for b, value, r in zip(_each(places.expand_as(seen)), _each(seen), _each(rate), strict=True):
        old = state.gather(-1, b)
        if running_max:  # an unvisited bin holds 0, which every p exceeds, or equals
            value, r = torch.where(value[0] >= old[0], value, old), 1.0
        state.scatter_(-1, b, (value - old).mul_(r).add_(old))
    return Bins(state[0], state[1], bins.epoch.scatter(-1, places, epoch))


def _each(values: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """[..., N] as N tensors [..., 1]."""
    return values.unsqueeze(-2).unbind(-1)


def spikes(bins: Bins, epoch: int, staleness: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Spike-actionness a and salient time lambda of each pair, both [...]; a = -1 where no bin was ever visited.

    a = max over bins of `fade`; lambda is tau of that bin (the earliest, if several tie).
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
