"""Learning rates as pure functions of progress, the fraction of the run that is done."""

from __future__ import annotations

import math

from adaptfocus.trainers.settings.parts import OptimConfig


def learning_rate(progress: float, config: OptimConfig) -> float:
    """The rate at `progress` in [0, 1].

    one_cycle: cosine from 1/25 of the peak up to the peak over the first quarter, then cosine to 0.
    up7: 8 % linear warm-up to half the peak, held until 30 % while the first spikes form (a high rate early prevents
    their discovery), up to the peak by 40 %, held to 65 %, then cosine to 0.
    cosine: 15 % linear warm-up from 1/100 of the peak, then cosine back to 1/100. PySlowFast uses it for MViT, with a
    warm-up of 30 of 200 epochs.
    steps: 7 % linear warm-up from 1/375 of the peak; a tenth of the peak after 72 %, a hundredth after 86 %. PySlowFast
    uses it for Charades, at epochs 4, 41 and 49 of 57.
    """
    peak = config.learning_rate
    if config.schedule == "constant":
        return peak
    if config.schedule == "one_cycle":
        if progress < 0.25:
            return peak * _between(1 / 25, 1.0, progress / 0.25)
        return peak * _between(1.0, 0.0, (progress - 0.25) / 0.75)
    if config.schedule == "cosine":
        if progress < 0.15:
            return peak * (0.01 + 0.99 * progress / 0.15)
        return peak * _between(1.0, 0.01, (progress - 0.15) / 0.85)
    if config.schedule == "steps":
        if progress < 4 / 57:
            return peak * (1 / 375 + (1 - 1 / 375) * progress / (4 / 57))
        return peak * (1.0 if progress < 41 / 57 else 0.1 if progress < 49 / 57 else 0.01)
    if progress < 0.08:
        return peak * 0.5 * max(progress / 0.08, 0.02)
    if progress < 0.30:
        return peak * 0.5
    if progress < 0.40:
        return peak * (0.5 + 0.5 * (progress - 0.30) / 0.10)
    return peak if progress < 0.65 else peak * _between(1.0, 0.0, (progress - 0.65) / 0.35)


def _between(start: float, end: float, fraction: float) -> float:
    """Cosine from `start` to `end`."""
    fraction = min(max(fraction, 0.0), 1.0)
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2
