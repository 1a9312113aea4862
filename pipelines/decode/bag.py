"""Decode the frames of a bag's clips directly into the batch. A decoding process runs the same code.

A bag is the clips of one video that are planned together; a span is a run of its packets that is fetched as one range.
Each needed frame is decoded once (`decode.span`, `decode.member`), then cut, scaled, converted, turned and mirrored
(`decode.pictures`) into uint8 [clips, frames, C, H, W]. This module imports little, because a starting process waits
for its imports.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import av
import numpy as np

from adaptfocus.pipelines.decode.member import decord_frames, demux_frames
from adaptfocus.pipelines.decode.pictures import write_picture
from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.decode.span import frames_of_span
from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.store.range_file import RangeFile, open_member
from adaptfocus.pipelines.video.display import Display, display_of
from adaptfocus.pipelines.video.packets import Packets, join_packets
from adaptfocus.pipelines.video.spans import packets_of

Place = tuple[int, int]  # (clip, frame) in a bag


class PacketRun(NamedTuple):
    """Packets that are decoded as one, and their bytes."""

    packets: Packets  # offsets from the first byte
    data: bytes


def reads_member(bag: Mapping[str, Any], backend: str) -> bool:
    """Whether a bag's member is read as a file instead of by spans."""
    return backend != "packets" or bag["access"] != "packets"


def decode_into(
    bag: Mapping[str, Any],
    runs: Sequence[PacketRun],
    decode: DecodeConfig,
    out: np.ndarray,
    open_member: Callable[[], RangeFile],
) -> None:
    """Decode all clips of a bag into `out` uint8 [clips, frames, C, H, W], which is contiguous.

    Args:
        bag: a row of DECODE_SCHEMA; its spans are not looked at.
        runs: `runs_of` the bag; none where its member is read as a file.

    Raises:
        BadVideoError, ConfigError, StorageError: as `decode.bag.decode_clips`.
    """
    places: dict[int, list[Place]] = {}
    for number, clip in enumerate(bag["clips"]):
        for at, pts in enumerate(clip["frame_pts"]):
            places.setdefault(pts, []).append((number, at))
    cut_at = [decode.place_of(number, clip["clip_id"]) for number, clip in enumerate(bag["clips"])]
    left = set(places)
    for pts, frame, display in _frames(bag, runs, decode.backend, places, open_member):
        written: dict[float, Place] = {}
        left.discard(pts)
        for place in places[pts]:
            at = cut_at[place[0]]
            if at in written:
                out[place] = out[written[at]]
            else:
                write_picture(frame, decode.crop_fraction, decode.pixel_format, display, out[place], at)
                written[at] = place
    if left:
        text = f"{len(left)} of {len(places)} frames did not decode: pts {sorted(left)[:4]}"
        raise BadVideoError("missing_frame", text)


def _frames(
    bag: Mapping[str, Any],
    runs: Sequence[PacketRun],
    backend: str,
    wanted: Mapping[int, Any],
    open_member: Callable[[], RangeFile],
) -> Iterator[tuple[int, av.VideoFrame, Display]]:
    """(pts, frame, how to show it) of the wanted frames. If a frame comes twice, the last one counts."""
    if reads_member(bag, backend):
        yield from member_frames(bag, backend, wanted, open_member())
        return
    display = display_of(bag)
    for run in runs:
        for frame in frames_of_span(bag["codec"], bag["extradata"] or b"", run.packets, run.data, wanted):
            yield int(frame.pts or 0), frame, display


def runs_of(bag: Mapping[str, Any], data: Sequence[bytes]) -> list[PacketRun]:
    """The packets of each run of a bag, and their bytes; spans that continue each other are joined.

    Raises:
        InputError: a span's packets are damaged.
    """
    runs: list[tuple[list[Packets], list[bytes]]] = []
    for span, part in zip(bag["spans"], data, strict=True):
        if not span["continues"]:
            runs.append(([], []))
        runs[-1][0].append(packets_of(span))
        runs[-1][1].append(part)
    return [_joined(*run) for run in runs]


def _joined(packets: Sequence[Packets], data: Sequence[bytes]) -> PacketRun:
    if len(data) == 1:
        return PacketRun(packets[0], data[0])
    starts = accumulate((len(part) for part in data[:-1]), initial=0)
    return PacketRun(join_packets(packets, [*starts]), b"".join(data))


def member_frames(
    bag: Mapping[str, Any], backend: str, wanted_pts: Collection[int], member: RangeFile
) -> Iterator[tuple[int, av.VideoFrame, Display]]:
    """The same for a member that is read as a file, by decord or through PyAV's demuxer, in order of time.

    Args:
        bag: a row of a plan, or of the index.
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
        bag: a row of DECODE_SCHEMA.
        data: the bytes of each of the bag's spans, as fetched; not used by the backends that read the member.

    Raises:
        BadVideoError: the packets do not decode to complete pictures, or a wanted frame is missing.
        ConfigError: `decode` asks for something that is not installed or not possible at this size.
        StorageError: the member cannot be read.
    """
    check_out(bag, size_pixels, decode, out)
    runs = [] if reads_member(bag, decode.backend) else runs_of(bag, data)
    decode_into(bag, runs, decode, out, partial(open_member, bag))


def check_out(bag: Mapping[str, Any], size_pixels: int, decode: DecodeConfig, out: np.ndarray) -> None:
    """Raises ValueError if a bag's clips do not fit into `out`."""
    shape = (len(bag["clips"]), len(bag["clips"][0]["frame_pts"]), *decode.frame_shape(size_pixels))
    if out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(f"out is {out.dtype} {out.shape}; wanted contiguous uint8 {shape}")


def to_square_rgb(
    frame: av.VideoFrame, size_pixels: int, rotation_degrees: int, crop_fraction: float = 1.0
) -> np.ndarray:
    """One decoded frame as clips show it: uint8 [3, size, size], RGB, upright."""
    out = np.empty((3, size_pixels, size_pixels), np.uint8)
    write_picture(frame, crop_fraction, "rgb", Display(rotation_degrees), out)
    return out
