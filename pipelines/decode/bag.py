"""The frames of a bag's clips, written where the batch holds them. What a decoding process of its own runs too.

Input: a bag of a plan and the bytes of its spans, or a file of the member where a demuxer has to read it.
Does: decodes what the clips need, each frame once (packet_decoder, member_decoders); cuts out, scales, converts,
turns and mirrors it (pictures).
Output: uint8 [clips, frames, C, H, W], in place. Imports little, because a process that starts waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import av
import numpy as np

from adaptfocus.pipelines.decode.member import decord_frames, demux_frames
from adaptfocus.pipelines.decode.pictures import write_picture
from adaptfocus.pipelines.decode.settings import DecodeConfig, How
from adaptfocus.pipelines.decode.span import frames_of_span
from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.store.range_file import RangeFile, open_member
from adaptfocus.pipelines.video.display import Display, display_of

Place = tuple[int, int]  # (clip, frame) in a bag


def reads_member(bag: Mapping[str, Any], backend: str) -> bool:
    """Whether a bag's member is read as a file, and not by spans."""
    return backend != "packets" or bag["access"] != "packets"


def decode_into(
    bag: Mapping[str, Any], data: Sequence[bytes], how: How, out: np.ndarray, open_member: Callable[[], RangeFile]
) -> None:
    """Decode all clips of a bag into `out` uint8 [clips, frames, C, H, W], which is contiguous.

    Raises:
        BadVideoError, ConfigError, StorageError: as `decode.bag.decode_clips`.
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
        for frame in demux_frames(wanted_pts, member, bag["access"] == "sequential"):
            yield int(frame.pts or 0), frame, display


def decode_clips(
    bag: Mapping[str, Any], data: Sequence[bytes], size_pixels: int, decode: DecodeConfig, out: np.ndarray
) -> None:
    """Decode all clips of a bag into `out` uint8 [clips, frames, C, H, W], which is contiguous, in this process.

    Args:
        bag: a row of PLAN_SCHEMA.
        data: the bytes of each of the bag's spans, as fetched; not used by the backends that read the member.

    Raises:
        BadVideoError: the packets do not decode, or not to whole pictures, or a wanted frame does not come.
        ConfigError: `decode` asks for what is not installed, or cannot be had at this size.
        StorageError: the member cannot be read.
    """
    check_out(bag, size_pixels, decode, out)
    decode_into(bag, data, decode.how, out, partial(open_member, bag))


def check_out(bag: Mapping[str, Any], size_pixels: int, decode: DecodeConfig, out: np.ndarray) -> None:
    """Raises ValueError if `out` is not where a bag's clips fit."""
    shape = (len(bag["clips"]), len(bag["clips"][0]["frame_pts"]), *decode.frame_shape(size_pixels))
    if out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(f"out is {out.dtype} {out.shape}; wanted contiguous uint8 {shape}")


def to_square_rgb(
    frame: av.VideoFrame, size_pixels: int, rotation_degrees: int, crop_fraction: float = 1.0
) -> np.ndarray:
    """One decoded frame as the clips show it: uint8 [3, size, size], RGB, upright."""
    out = np.empty((3, size_pixels, size_pixels), np.uint8)
    write_picture(frame, crop_fraction, "rgb", Display(rotation_degrees), out)
    return out
