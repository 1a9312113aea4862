"""The rate at which clips come, after the first batch."""

from __future__ import annotations

import time
from collections.abc import Iterable

from adaptfocus.pipelines.stream.batches import DecodedBatch


def clips_in(batch: DecodedBatch) -> int:
    """The number of clips of a batch.

    Raises:
        RuntimeError: one of them was not decoded, so that it would count as a clip at no cost.
    """
    if not batch.ok.all():
        raise RuntimeError(f"a bag was not decoded: {batch.reason(int((~batch.ok).argmax()))}")
    return batch.frames.shape[0] * batch.frames.shape[1]


def paced(clips_of_batches: Iterable[int]) -> tuple[int, float]:
    """(clips, seconds) from the arrival of the first batch to that of the last, so without the cost of the start."""
    batches = iter(clips_of_batches)
    next(batches)
    began = ended = time.monotonic()
    clips = 0
    for number in batches:
        clips += number
        ended = time.monotonic()
    return clips, ended - began
