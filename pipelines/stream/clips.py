"""The stages from a plan to batches of clips, in order. This file shows the data flow.

    plan rows --read_ahead--> bytes of spans --decode_clips--> frames, written into their place in the batch

The spans of the next bags are fetched while one bag is decoded. A bag that cannot be decoded becomes black frames with
a reason. Batches come in slot order.

Nothing here knows labels, saliency or training: the trainer joins its own columns of the plan by slot
(trainers/batches.py). Nothing here knows Ray: `stream` runs in this process, and `pipelines.stream.on_ray` runs the
same `assemble_batches` on a cluster.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.apart.memory import shared_array
from adaptfocus.pipelines.apart.pool import decode_clips_apart
from adaptfocus.pipelines.decode.bag import decode_clips
from adaptfocus.pipelines.decode.settings import DecodeConfig, Isolation
from adaptfocus.pipelines.errors import RETRY_REASONS, BadVideoError
from adaptfocus.pipelines.features.clips import FeatureSource, open_source
from adaptfocus.pipelines.index.partitions import ROW_BITS, source_of
from adaptfocus.pipelines.plan.published import BAGS_PER_CHUNK, find_packets, read_bags
from adaptfocus.pipelines.store.ahead import Fetched, read_ahead
from adaptfocus.pipelines.store.reads import ReadConfig
from adaptfocus.pipelines.stream.batches import ERROR_BYTES, KIND_BYTES, DecodedBatch, encode_error

# (URL of a part of a plan, first row, end row), or None while the next part is not published yet.
Slices = Iterable[tuple[str, int, int] | None]
T = TypeVar("T")
F = TypeVar("F")


@dataclass(frozen=True)
class ClipShape:
    """The shape of every bag of a run, and how its frames are made. The shape is fixed, so that batches are tensors."""

    clips: int
    frames: int
    size_pixels: int
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    read: ReadConfig = field(default_factory=ReadConfig)
    isolation: Isolation | None = None  # None: decode in this process
    features: FeatureSource | None = None  # read instead of frames
    index_urls: Sequence[str] = ()  # as in `read_bags`
    # Of the videos of each index, if they differ; instead of that in `decode`.
    crop_fractions: Sequence[float] = ()

    def decode_of(self, bag: Mapping[str, Any]) -> DecodeConfig:
        """How a bag is decoded."""
        if not self.crop_fractions:
            return self.decode
        own = self.crop_fractions[source_of(bag["video_row"] >> ROW_BITS)]
        return self.decode.model_copy(update={"crop_fraction": own})

    @property
    def frames_shape(self) -> tuple[int, ...]:
        """[N, T, C, H, W] of a bag."""
        if self.features:
            return (self.clips, self.frames, self.features.dim, 1, 1)
        return (self.clips, self.frames, *self.decode.frame_shape(self.size_pixels))


def stream(slices: Slices, shape: ClipShape, bags_per_batch: int) -> Iterator[DecodedBatch]:
    """Batches of `bags_per_batch` bags of some slices of plans, in this process."""
    return _batches(bags_of(slices, shape.index_urls), shape, bags_per_batch)


def _batches(bags: Iterable[dict | None], shape: ClipShape, bags_per_batch: int) -> Iterator[DecodedBatch]:
    if shape.features:
        # None only says that the next bag is not known yet
        return assemble_batches((bag for bag in bags if bag), shape, bags_per_batch, fill_features)
    return assemble_batches(_read(bags, shape), shape, bags_per_batch)


def bags_of(slices: Slices, index_urls: Sequence[str] = ()) -> Iterator[dict | None]:
    """The rows of some slices (DECODE_SCHEMA); None wherever the slices have it."""
    for part in slices:
        if part is None:
            yield None
            continue
        url, start, stop = part
        for at in range(start, stop, BAGS_PER_CHUNK):  # the packets of more videos would fill the memory
            yield from read_bags(url, at, min(at + BAGS_PER_CHUNK, stop), index_urls).to_pylist()


def read_and_decode(rows: pa.Table, shape: ClipShape) -> DecodedBatch:
    """Some bags as one batch; `rows` of a plan, or of DECODE_SCHEMA, whose packets are found already."""
    if "spans" not in rows.column_names:
        rows = find_packets(rows)
    return next(_batches(rows.to_pylist(), shape, rows.num_rows))


def _read(bags: Iterable[dict | None], shape: ClipShape) -> Iterator[Fetched]:
    """Bags with their bytes; without bytes if the decoder reads the member itself."""
    reads_member = shape.decode.backend != "packets"
    return read_ahead((bag | {"spans": []} if bag and reads_member else bag for bag in bags), config=shape.read)


def fill(batch: DecodedBatch, place: int, fetched: Fetched, shape: ClipShape) -> None:
    """Decode a bag into its place. A bad video raises nothing: its bag keeps its slot, black, with the reason."""
    bag, data, reading = fetched
    began, decode = time.monotonic(), shape.decode_of(bag)
    try:
        if shape.isolation:
            decode_clips_apart(bag, data, shape.size_pixels, decode, batch.frames[place], shape.isolation)
        else:
            decode_clips(bag, data, shape.size_pixels, decode, batch.frames[place])
    except BadVideoError as error:
        _mark_bad(batch, place, error)
    batch.slot[place] = bag["slot"]
    batch.read_bytes[place], batch.read_requests[place] = reading.size_bytes, reading.requests
    batch.wait_seconds[place], batch.read_retries[place] = reading.wait_seconds, reading.retries
    batch.decode_seconds[place] = time.monotonic() - began


def fill_features(batch: DecodedBatch, place: int, bag: dict, shape: ClipShape) -> None:
    """`fill` from features. A video without features is treated like one that does not decode."""
    assert shape.features
    table = open_source(shape.features)
    batch.slot[place] = bag["slot"]
    began = time.monotonic()
    try:
        table.write_clips(bag, batch.frames[place])
    except BadVideoError as error:
        _mark_bad(batch, place, error)
    batch.decode_seconds[place] = time.monotonic() - began


def _mark_bad(batch: DecodedBatch, place: int, error: BadVideoError) -> None:
    batch.frames[place] = 0
    batch.ok[place] = False
    batch.kind[place], batch.error[place] = encode_error(error)


def assemble_batches(
    fetched: Iterator[F],
    shape: ClipShape,
    bags_per_batch: int,
    fill_bag: Callable[[DecodedBatch, int, F, ClipShape], None] = fill,
) -> Iterator[DecodedBatch]:
    """Fetched bags -> batches. Frames are decoded into their place in the batch."""
    for first in fetched:
        batch = empty_batch(shape, bags_per_batch)
        number = 0
        for number, each in enumerate(chain([first], islice(fetched, bags_per_batch - 1))):
            fill_bag(batch, number, each, shape)
        whole = number + 1 == bags_per_batch
        yield batch if whole else batch.head(number + 1)


def empty_batch(shape: ClipShape, bags: int) -> DecodedBatch:
    """A batch of `bags` bags to be filled; its frames are not written yet."""
    return DecodedBatch(
        slot=np.zeros(bags, np.int64),
        ok=np.ones(bags, bool),
        kind=np.zeros((bags, KIND_BYTES), np.uint8),
        error=np.zeros((bags, ERROR_BYTES), np.uint8),
        frames=_empty_frames((bags, *shape.frames_shape), shape),
        read_bytes=np.zeros(bags, np.int64),
        read_requests=np.zeros(bags, np.int64),
        wait_seconds=np.zeros(bags, np.float64),
        decode_seconds=np.zeros(bags, np.float64),
        read_retries=np.zeros((bags, len(RETRY_REASONS)), np.int64),
    )


def _empty_frames(size: tuple[int, ...], shape: ClipShape) -> np.ndarray:
    if shape.features:
        return np.empty(size, np.float32)
    return shared_array(size) if shape.isolation else np.empty(size, np.uint8)
