"""Moments -> frames, without a plan and without labels.

    moments --a thread looks up rows and packets--> bags --read_ahead--> bytes --decode--> frames, in their batch

A bag is the moments of one video that follow each other in a batch: their packets are looked up once, and spans that
they share are fetched and decoded once. A clip that cannot be decoded becomes black frames with a reason. What is wrong
with the store, the index or the settings is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.apart.memory import shared_array
from adaptfocus.pipelines.apart.pool import decode_clips_apart
from adaptfocus.pipelines.decode.bag import decode_clips
from adaptfocus.pipelines.decode.settings import DecodeConfig, Isolation
from adaptfocus.pipelines.errors import as_bad_video
from adaptfocus.pipelines.index.packets import PLACE_COLUMNS, read_packets
from adaptfocus.pipelines.index.partitions import ROW_BITS, source_of
from adaptfocus.pipelines.library.index import Index
from adaptfocus.pipelines.library.moments import Moments
from adaptfocus.pipelines.plan.resolve import bare_bag
from adaptfocus.pipelines.plan.settings import ClipConfig
from adaptfocus.pipelines.store.ahead import Fetched, read_ahead
from adaptfocus.pipelines.store.reads import ReadConfig
from adaptfocus.pipelines.stream.threads import ahead
from adaptfocus.pipelines.video.spans import find_clips, packets_of, shown_pts

# In an index of several: number of an index -> the clips of its videos and how they are decoded, where they differ from
# those of the others. All have frames of one shape.
OfSource = Mapping[int, tuple[ClipConfig, DecodeConfig]]

CLIPS_AT_ONCE = 64  # whose rows and packets are looked up together, ahead of reading


@dataclass(frozen=True)
class Look:
    """How clips are read and decoded."""

    index: Index
    clip: ClipConfig
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    read: ReadConfig = field(default_factory=ReadConfig)
    isolation: Isolation | None = None  # None: decode in this process
    of_source: OfSource = field(default_factory=dict)

    def clip_of(self, row: Mapping[str, Any]) -> ClipConfig:
        """The shape of the clips of a video."""
        return self._of(row)[0]

    def decode_of(self, row: Mapping[str, Any]) -> DecodeConfig:
        """How a video is decoded."""
        return self._of(row)[1]

    def _of(self, row: Mapping[str, Any]) -> tuple[ClipConfig, DecodeConfig]:
        return self.of_source.get(source_of(row["video_row"] >> ROW_BITS), (self.clip, self.decode))

    @property
    def frames_shape(self) -> tuple[int, ...]:
        """[T, C, H, W] of a clip."""
        return (self.clip.frames, *self.decode.frame_shape(self.clip.size_pixels))

    def empty(self, clips: int) -> np.ndarray:
        """Room for the frames of some clips, which a decoding process can write to if there is one."""
        shape = (clips, *self.frames_shape)
        return shared_array(shape) if self.isolation else np.empty(shape, np.uint8)


@dataclass
class Clipped:
    """B clips as they were read: some arrays and lists, all of length B."""

    places: list[int]  # in the order of the moments
    seconds: np.ndarray  # float64
    frames: np.ndarray  # uint8 [B, T, C, H, W]
    rows: list[dict[str, Any]] = field(default_factory=list)  # of the index
    errors: list[str] = field(default_factory=list)  # "kind: message", or "" if it was decoded


def read_clips(
    look: Look, moments: Moments, batches: Iterable[Sequence[int]], empty: Callable[[int], np.ndarray] | None = None
) -> Iterator[Clipped]:
    """The clips at some places of the moments, one batch after the other, read ahead over all of them.

    Args:
        batches: the places of each batch; at least one.
        empty: gives the room for a batch's frames; `look.empty` by default.

    Raises:
        InputError: the index has no such video, or is damaged. StorageError: the store cannot be read.
        ConfigError: the settings of decoding are not possible.
    """
    bags = (bag for chunk in ahead(_looked_up(look, moments, batches)) for bag in chunk)
    made: Clipped | None = None
    for fetched in read_ahead(bags, config=look.read):
        bag = fetched.bag
        if made is None:
            size = len(bag["batch"])
            made = Clipped([*bag["batch"]], np.empty(size), (empty or look.empty)(size))
        at, end = len(made.rows), len(made.rows) + len(bag["clips"])
        made.seconds[at:end] = bag["seconds"]
        made.errors += _decode(look, fetched, made.frames[at:end])
        made.rows += [bag["row"]] * (end - at)
        if end == len(made.places):
            yield made
            made = None


def _looked_up(look: Look, moments: Moments, batches: Iterable[Sequence[int]]) -> Iterator[list[dict[str, Any]]]:
    """Bags of about CLIPS_AT_ONCE clips at a time."""
    groups: list[_Group] = []
    count = 0
    for batch in batches:
        own = [(place, *moments[place]) for place in batch]
        for video, clips in groupby(own, key=lambda each: each[1]):
            drawn = [(place, float(seconds)) for place, _, seconds in clips]
            groups.append(_Group(batch, look.index.row(video), drawn))
        count += len(own)
        if count >= CLIPS_AT_ONCE:
            yield _bags(look, groups)
            groups, count = [], 0
    if groups:
        yield _bags(look, groups)


@dataclass(frozen=True)
class _Group:
    """Clips of one video that follow each other in a batch."""

    batch: Sequence[int]
    row: dict[str, Any]
    drawn: list[tuple[int, float]]  # (place, seconds) of each


def _bags(look: Look, groups: Sequence[_Group]) -> list[dict[str, Any]]:
    names = (*PLACE_COLUMNS, "packet_count")
    packets = read_packets(pa.table({name: [each.row[name] for each in groups] for name in names}))
    return [_bag(look, group, blob) for group, blob in zip(groups, packets, strict=True)]


def _bag(look: Look, group: _Group, blob: bytes) -> dict[str, Any]:
    row, packets = group.row, packets_of({"packets": blob})
    clip = look.clip_of(row)
    steps = (np.arange(clip.frames) - (clip.frames - 1) / 2) * clip.stride_seconds(row["frame_rate_hz"])
    seconds = [each for _, each in group.drawn]
    found = find_clips(row, packets, shown_pts(row, packets), [each + steps for each in seconds])
    bag = bare_bag(row, *found)
    for clip, (place, _) in zip(bag["clips"], group.drawn, strict=True):
        clip["clip_id"] = place  # decides where a picture is cut, with decode.crop_place=drawn
    if look.decode.backend != "packets":
        bag["spans"] = []
    return bag | {"row": row, "batch": group.batch, "seconds": seconds, "group": group, "blob": blob}


def _decode(look: Look, fetched: Fetched, out: np.ndarray) -> list[str]:
    """Decode a bag's clips -> the error of each."""
    bag = fetched.bag
    decode = look.decode_of(bag["row"])
    try:
        if look.isolation:
            decode_clips_apart(bag, fetched.data, look.clip.size_pixels, decode, out, look.isolation)
        else:
            decode_clips(bag, fetched.data, look.clip.size_pixels, decode, out)
        return [""] * len(out)
    except Exception as error:
        bad = as_bad_video(error)
    if len(out) == 1:
        out[:] = 0
        return [f"{bad.kind}: {bad}"]
    # One clip is bad, and the others may not be: what a clip shows does not depend on which clips it comes with.
    alone = [_bag(look, replace(bag["group"], drawn=[each]), bag["blob"]) for each in bag["group"].drawn]
    again = read_ahead(alone, config=look.read)
    return [_decode(look, each, out[at : at + 1])[0] for at, each in enumerate(again)]
