"""The multi-label loss of a global batch, of which a worker may hold only a part.

Nothing here knows about workers: `masses` are plain sums. Code that splits a batch adds them up before it calls
`weighted_bce`, so that the loss is that of the whole batch however it was split.
"""

from __future__ import annotations

import torch
from torch.nn import functional

TINY = 1e-30  # p^power summed over 80 million entries that all say no is larger


def masses(
    weight: torch.Tensor, positive: torch.Tensor, ok: torch.Tensor, pull: torch.Tensor | None = None
) -> torch.Tensor:
    """[number of positives, sum of their weights, number of usable clips, number of usable bags, sum of pull], float64.

    Args:
        weight: w m of positives, any number elsewhere. positive: bool. Both [B, N, K], or [B, N, L] over label places.
        ok: [B] bool.
        pull: [B, N, K], how strongly each negative pulls focused mass to itself, 0 at positives; None: no focusing.
    """
    counted, bags = positive & ok.view(-1, 1, 1), ok.sum()
    mass = (weight * counted).sum(dtype=torch.float64)
    drawn = torch.zeros_like(mass) if pull is None else (pull * ok.view(-1, 1, 1)).sum(dtype=torch.float64)
    return torch.stack([counted.sum(), mass, bags * positive.shape[1], bags, drawn])


def weigh_focused_negatives(pull: torch.Tensor, share: float, total: torch.Tensor) -> torch.Tensor:
    """The weight of each negative, [B, N, K]; any number at positives. Over the global batch their mean is 1.

    The weight is 1 - h + h n_neg pull / sum(pull), with h the share, and 1 where nothing pulls. Where clips look alike,
    every class may claim them, and focusing raises these positives. This raises their negatives as much, so that a
    wrong claim does not confirm itself.

    Args:
        pull: [B, N, K], p^power of negatives and 0 at positives; detached. total: `masses` summed over all parts.
    """
    negatives = total[2] * pull.shape[-1] - total[0]
    scale = torch.where(total[4] > 0, negatives / total[4].clamp(min=TINY), 0.0).to(pull.dtype)
    return torch.where(total[4] > 0, 1 - share, 1.0).to(pull.dtype) + share * scale * pull


def weighted_bce(
    logits: torch.Tensor,
    positive: torch.Tensor,
    weight: torch.Tensor,
    ok: torch.Tensor,
    total: torch.Tensor,
    normalise_mass: bool,
    negative: torch.Tensor | None = None,
) -> torch.Tensor:
    """This part's share of the mean of W * BCE over the global batch's clips and classes, a scalar.

    W = w m n_pos / sum(w m) for positives, and `negative` or 1 for negatives. A bag that did not decode counts nowhere.
    `total` is `masses` summed over all parts. Where every positive is masked, the positives have the weight 0.
    """
    scale = total[0] / total[1].clamp(min=1e-12) if normalise_mass else total.new_ones(())
    others = weight.new_ones(()) if negative is None else negative
    scaled = torch.where(positive, weight * scale.to(weight.dtype), others) * ok.view(-1, 1, 1)
    per_entry = functional.binary_cross_entropy_with_logits(logits, positive.to(logits.dtype), reduction="none")
    mine = (scaled.detach() * per_entry).sum()
    return mine / (total[2].clamp(min=1) * logits.shape[-1]).to(mine.dtype)


def noisy_or(logits: torch.Tensor, positive: torch.Tensor, ok: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """Noisy-OR over the clips of each bag (beyond the paper), mean over the global batch's bags and classes.

    -mean_{v,k}[ y log(1 - prod_t (1 - p_t)) + (1 - y) (1/N) sum_t log(1 - p_t) ], in log space.
    `positive` [B, K] bool: the video's labels, or in Full the labels that any of its clips shows.
    """
    log_none = functional.logsigmoid(-logits).sum(dim=1)  # log prod_t (1 - p_t), [B, K]
    some = torch.log(-torch.expm1(log_none.clamp(max=-1e-7)))
    per_entry = torch.where(positive, some, log_none / logits.shape[1])
    mine = -(per_entry * ok[:, None]).sum()
    return mine / (total[3].clamp(min=1) * logits.shape[-1]).to(mine.dtype)


def weak_negatives(
    logits: torch.Tensor, weight: torch.Tensor, ok: torch.Tensor, total: torch.Tensor, num_classes: int
) -> torch.Tensor:
    """The loss of a video's own labels as negatives where they are most likely absent (beyond the paper).

    It is the sum of weight * BCE(logit, 0), divided by the global batch's clips times classes as in `weighted_bce`;
    this part's share.

    Args:
        logits: [B, N, L], of each bag's own labels. weight: [B, N, L], 0 where there is no label.
    """
    mine = (weight.detach() * functional.softplus(logits) * ok[:, None, None]).sum()
    return mine / (total[2].clamp(min=1) * num_classes).to(mine.dtype)
