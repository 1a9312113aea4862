"""How fast clips come, once they come."""

from __future__ import annotations

import time
from collections.abc import Iterable


def paced(clips_of_batches: Iterable[int]) -> tuple[int, float]:
    """(clips, seconds) from the first batch's arrival to the last's: what a start costs once is left out."""
    batches = iter(clips_of_batches)
    next(batches)
    began = ended = time.monotonic()
    clips = 0
    for number in batches:
        clips += number
        ended = time.monotonic()
    return clips, ended - began
