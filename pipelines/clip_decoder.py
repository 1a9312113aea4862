"""The frames of a bag's clips, written where the batch holds them. What a decoding process of its own runs too.

Input: a bag of a plan and the bytes of its spans, or a file of the member where a demuxer has to read it.
Does: decodes what the clips need, each frame once (packet_decoder, member_decoders); cuts out, scales, converts,
turns and mirrors it (pictures).
Output: uint8 [clips, frames, C, H, W], in place. Imports little, because a process that starts waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import av
import numpy as np

from adaptfocus.pipelines.display import Display, display_of
from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.member_decoders import decord_frames, demuxed_frames
from adaptfocus.pipelines.packet_decoder import frames_of_span
from adaptfocus.pipelines.pictures import write_picture
from adaptfocus.pipelines.range_file import RangeFile

Place = tuple[int, int]  # (clip, frame) in a bag


# Along the long side (`pictures.write_picture`). A drawn one is one of nine: what cuts at a place is kept for the next.
IN_TURN = (-1.0, 0.0, 1.0)
DRAWN = tuple(number / 4 - 1 for number in range(9))


class How(NamedTuple):
    """DecodeConfig as plain values."""

    backend: str
    pixel_format: str
    crop_fraction: float
    crop_place: str = "centre"

    def place_of(self, number: int, clip_id: int) -> float:
        """Where a bag's clip of this number is cut out, along the long side: from -1 to 1."""
        if self.crop_place == "in_turn":
            return IN_TURN[number % len(IN_TURN)]
        if self.crop_place == "drawn":  # the middle bits of a product are mixed well enough for nine places
            return DRAWN[(clip_id * 0x9E3779B97F4A7C15 >> 32 & 0xFFFFFFFF) * len(DRAWN) >> 32]
        return 0.0


def reads_member(bag: Mapping[str, Any], backend: str) -> bool:
    """Whether a bag's member is read as a file, and not by spans."""
    return backend != "packets" or bag["access"] != "packets"


def decode_into(
    bag: Mapping[str, Any], data: Sequence[bytes], how: How, out: np.ndarray, open_member: Callable[[], RangeFile]
) -> None:
    """Decode all clips of a bag into `out` uint8 [clips, frames, C, H, W], which is contiguous.

    Raises:
        BadVideoError, ConfigError, StorageError: as `frames.decode_clips`.
    """
    places: dict[int, list[Place]] = {}
    for number, clip in enumerate(bag["clips"]):
        for at, pts in enumerate(clip["frame_pts"]):
            places.setdefault(pts, []).append((number, at))
    cut_at = [how.place_of(number, clip["clip_id"]) for number, clip in enumerate(bag["clips"])]
    left = set(places)
    for pts, frame, display in _frames(bag, data, how.backend, places, open_member):
        written: dict[float, Place] = {}
        left.discard(pts)
        for place in places[pts]:
            at = cut_at[place[0]]
            if at in written:
                out[place] = out[written[at]]
            else:
                write_picture(frame, how.crop_fraction, how.pixel_format, display, out[place], at)
                written[at] = place
    if left:
        text = f"{len(left)} of {len(places)} frames did not decode: pts {sorted(left)[:4]}"
        raise BadVideoError("missing_frame", text)


def _frames(
    bag: Mapping[str, Any],
    data: Sequence[bytes],
    backend: str,
    wanted: Mapping[int, Any],
    open_member: Callable[[], RangeFile],
) -> Iterator[tuple[int, av.VideoFrame, Display]]:
    """(pts, frame, how to show it) of the frames wanted; of one that comes twice the last counts."""
    if reads_member(bag, backend):
        yield from member_frames(bag, backend, wanted, open_member())
        return
    display = display_of(bag)
    for span, part in runs_of_spans(bag["spans"], data):
        for frame in frames_of_span(bag["codec"], bag["extradata"] or b"", span, part, wanted):
            yield int(frame.pts or 0), frame, display


def runs_of_spans(
    spans: Sequence[Mapping[str, Any]], data: Sequence[bytes]
) -> Iterator[tuple[Mapping[str, Any], bytes]]:
    """(span, its bytes) of each run of packets: spans that continue each other as one."""
    at = 0
    while at < len(spans):
        end = at + 1
        while end < len(spans) and spans[end]["continues"]:
            end += 1
        yield (spans[at], data[at]) if end == at + 1 else _joined(spans[at:end], data[at:end])
        at = end


def _joined(spans: Sequence[Mapping[str, Any]], data: Sequence[bytes]) -> tuple[dict[str, Any], bytes]:
    each_packet = [name for name in spans[0] if name.startswith("packet_")]
    run: dict[str, Any] = {name: [value for span in spans for value in span[name]] for name in each_packet}
    starts = accumulate((len(part) for part in data), initial=0)
    run["packet_offset_bytes"] = [
        start + inside for span, start in zip(spans, starts, strict=False) for inside in span["packet_offset_bytes"]
    ]
    return {**spans[0], **run}, b"".join(data)


def member_frames(
    bag: Mapping[str, Any], backend: str, wanted_pts: Collection[int], member: RangeFile
) -> Iterator[tuple[int, av.VideoFrame, Display]]:
    """The same of a member that is read as a file, by decord or through PyAV's demuxer, in order of time.

    Args:
        bag: or a row of the index.
    """
    display = display_of(bag)
    if backend == "decord":
        is_on_its_side = display.rotation_degrees % 180 != 0
        turned = Display(pixel_aspect=1 / display.pixel_aspect if is_on_its_side else display.pixel_aspect)
        for pts, frame in decord_frames(bag, wanted_pts, member):
            yield pts, frame, turned  # decord turns frames itself
    else:
        for frame in demuxed_frames(wanted_pts, member, bag["access"] == "sequential"):
            yield int(frame.pts or 0), frame, display
