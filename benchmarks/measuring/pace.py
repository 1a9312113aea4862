"""How fast clips come, once they come."""

from __future__ import annotations

import time
from collections.abc import Iterable

from adaptfocus.pipelines.stream.batches import DecodedBatch, decode_error


def clips_in(batch: DecodedBatch) -> int:
    """The clips of a batch. Raises RuntimeError if one of them was not decoded: it would have cost nothing."""
    if not batch.ok.all():
        raise RuntimeError(f"a bag was not decoded: {decode_error(batch.error[~batch.ok][0])}")
    return batch.frames.shape[0] * batch.frames.shape[1]


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
