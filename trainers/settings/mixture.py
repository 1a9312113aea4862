"""Settings of a run on several indexes: how much of an epoch each one gives, and how its videos differ."""

from __future__ import annotations

from collections.abc import Mapping

import pydantic

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.rows import parse_label
from adaptfocus.pipelines.settings import Settings
from adaptfocus.pipelines.store.urls import absolute

MAX_SOURCES = 64  # their number stands in 7 bits of a `video_row`

LEAST_WEIGHT, LARGEST_WEIGHT = 1e-6, 1e6  # sums and shares of such numbers neither overflow nor vanish

Weights = tuple[float, ...]


def _checked(weights: Weights) -> Weights:
    if not weights or min(weights) < 0:
        raise ValueError("it must be a list of at least one weight, by epoch, and each at least 0")
    if wrong := [each for each in weights if each and not LEAST_WEIGHT <= each <= LARGEST_WEIGHT]:
        raise ValueError(
            f"{wrong[0]:g} is out of range: a weight is 0, or from {LEAST_WEIGHT:g} to {LARGEST_WEIGHT:g}. Only the "
            "proportions of the weights matter"
        )
    return weights


class SourceConfig(Settings):
    """One more index of a run. What is not given here is as for the run's own `index`."""

    index: str  # URL
    # The share of an epoch's bags is in proportion to it. One number an epoch; the last one stays.
    weight: Weights = (1.0,)
    fps: float | None = pydantic.Field(default=None, gt=0)  # instead of clip.fps
    crop_fraction: float | None = pydantic.Field(default=None, gt=0, le=1)  # instead of decode.crop_fraction
    labels: Mapping[str, str] = pydantic.Field(
        default_factory=dict
    )  # its name of a label -> the run's name; other names stay

    _weights = pydantic.field_validator("weight")(_checked)

    @pydantic.field_validator("index")
    @classmethod
    def _is_a_place(cls, url: str) -> str:
        if not url:
            raise ValueError("it is empty; give a path or a URL")
        return absolute(store.check_url(url))

    @pydantic.field_validator("labels")
    @classmethod
    def _are_names(cls, labels: Mapping[str, str]) -> Mapping[str, str]:
        """Names in the form in which an index has them, so that two ways to write an accent are one class."""
        found: dict[str, str] = {}
        for theirs, ours in labels.items():
            name, other = parse_label(theirs), parse_label(ours)
            if not name or not other:
                raise ValueError(f"it maps {theirs!r} to {ours!r}, and a label cannot be empty; give both names")
            if found.setdefault(name, other) != other:
                raise ValueError(f"it maps {name!r} to both {found[name]!r} and {other!r}; keep one of them")
        return found


class MixtureConfig(Settings):
    """The indexes of a run beside its own `index`. Each of them has a sequence of passes of its own."""

    weight: Weights = (1.0,)  # of the run's own `index`; one number an epoch, and the last one stays
    more: tuple[SourceConfig, ...] = pydantic.Field(default=(), max_length=MAX_SOURCES - 1)

    _weights = pydantic.field_validator("weight")(_checked)

    def weights(self, epoch: int) -> tuple[float, ...]:
        """The weight of each index in an epoch, the run's own first."""
        every = (self.weight, *(each.weight for each in self.more))
        return tuple(each[min(epoch, len(each) - 1)] for each in every)

    def check_weights(self) -> None:
        """Raises ValueError if an epoch has no index to draw from."""
        longest = max(len(self.weight), *(len(each.weight) for each in self.more), 1)
        for epoch in range(longest):
            if not sum(self.weights(epoch)):
                raise ValueError(f"mixture: in epoch {epoch + 1} every weight is 0, so there is nothing to draw from")
