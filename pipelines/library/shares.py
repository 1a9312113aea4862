"""Which clips each rank's steps have: a pure function of their number, so that a position means the same on any ranks.

Step s of all ranks together is clips [first + s R B, first + (s + 1) R B) of the epoch's order, B for each of R ranks.
The clips at the end that fill no step are split over the ranks as evenly as they go.
"""

from __future__ import annotations

from dataclasses import dataclass

from adaptfocus.pipelines.errors import ConfigError


@dataclass(frozen=True)
class Share:
    """The steps of one rank from a position on."""

    total: int  # clips of the epoch
    first: int  # clips that were delivered before
    batch_size: int  # clips of a step of one rank
    rank: int = 0
    world_size: int = 1
    drop_last: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1 or not 0 <= self.rank < self.world_size or not 0 <= self.first <= self.total:
            raise ConfigError(
                f"rank {self.rank} of {self.world_size}, batches of {self.batch_size}, from clip {self.first} of "
                f"{self.total}: a rank counts from 0, a batch has at least 1 clip, and the clip is in the epoch"
            )

    @property
    def of_all_ranks(self) -> int:
        return self.batch_size * self.world_size

    @property
    def whole_steps(self) -> int:
        return (self.total - self.first) // self.of_all_ranks

    @property
    def rest(self) -> int:
        """The clips at the end that fill no step of all ranks."""
        return (self.total - self.first) % self.of_all_ranks

    @property
    def steps(self) -> int:
        """The same for every rank: ranks that average gradients wait for each other."""
        return self.whole_steps + (self.left_out < self.rest)

    @property
    def left_out(self) -> int:
        """The clips at the end that no rank gets: all of the rest with `drop_last`, else fewer than there are ranks."""
        return self.rest if self.drop_last or self.rest < self.world_size else 0

    def places(self, step: int) -> range:
        """The clips of a step of this rank."""
        begin = self.first + step * self.of_all_ranks
        if step < self.whole_steps:
            return range(begin + self.rank * self.batch_size, begin + (self.rank + 1) * self.batch_size)
        size, more = divmod(self.rest, self.world_size)
        start = begin + self.rank * size + min(self.rank, more)
        return range(start, start + size + (self.rank < more))

    def after(self, step: int) -> int:
        """The position after a step: the clips delivered by all ranks, with those that were before."""
        return min(self.first + (step + 1) * self.of_all_ranks, self.total)
