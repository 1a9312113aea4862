"""A bare decoder over packets: no demuxer, no container, nothing opened twice.

Input: codec and extradata, the packets of a span and its bytes, the frames wanted of it.
Does: leaves out what nothing wanted needs (nal_units), decodes the rest in a context of the span's own.
Output: the frames wanted, in the order of presentation, with the pixels of a sequential decode.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import av
import av.logging
from av.codec.context import ThreadType
from av.error import FFmpegError

from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.video.nal_units import find_needed
from adaptfocus.pipelines.video.table import pad_packet

# What matters comes out as an exception or a corrupt frame; a clip that begins at an open GOP alone makes libavcodec
# print a line of complaint.
av.logging.set_level(av.logging.PANIC)

# libavcodec passes over B pictures of these by itself, which nothing refers to: 0.61 to 0.65 of the CPU. Of H.264 and
# HEVC it leaves out the same as nal_units, but not groups without a wanted picture; AV1 it decodes wrong.
_PASSES_OVER_B = frozenset({"mpeg1video", "mpeg2video", "mpeg4"})


class PacketBytes(NamedTuple):
    """A packet in memory."""

    data: memoryview
    pts: int
    dts: int
    is_key: bool


def frames_of_span(
    codec: str,
    extradata: bytes,
    span: Mapping[str, Any],
    data: bytes,
    wanted_pts: Collection[int],
    options: Mapping[str, str] | None = None,
) -> Iterator[av.VideoFrame]:
    """The frames of a span that are wanted; those that do not come out are missing.

    Of a frame that comes twice the last counts: the first was decoded from too few packets.

    Args:
        span: of SPAN_TYPE.
        data: its bytes.
        options: of the decoder.

    Raises:
        BadVideoError: unknown_codec, decode_error.
    """
    packets = packets_in(span, data)
    wanted = {packet.pts for packet in packets if packet.pts in wanted_pts}
    keep = find_needed(
        codec, extradata, [packet.data for packet in packets], [packet.pts in wanted for packet in packets]
    )
    few = [packet for packet, is_kept in zip(packets, keep, strict=True) if is_kept]
    # What an encoder marks as not referred to may be referred to all the same: the decoder then says so, and all
    # packets are decoded, as if nothing could be left out.
    is_spared = len(few) < len(packets) or codec in _PASSES_OVER_B
    for spares in (True, False) if is_spared else (False,):
        context, missing = new_context(codec, extradata), set(wanted)
        context.options = {**context.options, **(options or {})}
        try:
            for frame in _decoded(context, few if spares else packets, wanted if spares else None):
                refuse_corrupt(frame, packets[0].pts)
                if frame.pts in missing:
                    missing.discard(frame.pts)
                    yield frame
            if not missing:
                return
        except FFmpegError as error:
            if not spares:
                raise BadVideoError("decode_error", str(error)) from error
        except BadVideoError:  # also behind the last frame wanted: it may be shown before what it refers to
            if not spares:
                raise


def refuse_corrupt(frame: av.VideoFrame, first_pts: int) -> None:
    """Frames that others may refer to have to be whole, wanted or not: the damage spreads, and only they are marked.

    Args:
        first_pts: of the keyframe that decoding began with. What is shown before it refers to what was not decoded,
            and is not wanted.

    Raises:
        BadVideoError: decode_error.
    """
    if frame.is_corrupt and frame.pts is not None and frame.pts >= first_pts:
        raise BadVideoError("decode_error", f"the frame at pts {frame.pts} is corrupt")


def pass_over(context: Any, is_wanted: bool) -> None:
    """Whether the next packet's picture is wanted: if not, some decoders need not decode it."""
    if context.codec.canonical_name in _PASSES_OVER_B:
        context.skip_frame = "DEFAULT" if is_wanted else "NONREF"


def _decoded(context: Any, packets: Sequence[PacketBytes], wanted: Collection[int] | None) -> Iterator[av.VideoFrame]:
    """`wanted`: none where every picture is decoded."""
    for packet in packets:
        if wanted is not None:
            pass_over(context, packet.pts in wanted)
        yield from context.decode(pad_packet(*packet))
    yield from flush_frames(context, packets[-1].pts, max(packet.pts for packet in packets))


def flush_frames(context: Any, last_pts: int, highest_pts: int) -> Iterator[av.VideoFrame]:
    """What a decoder still holds for reordering, behind the last packet.

    Of MPEG-4, it holds the last picture that others refer to, and shows it at the time of a last packet that is no
    picture. Where that lies before the picture's own, another is on display then: it is left out.
    """
    is_reordered = context.codec.canonical_name == "mpeg4" and last_pts < highest_pts
    for frame in context.decode(None):
        if not (is_reordered and frame.pts == last_pts):
            yield frame


def packets_in(span: Mapping[str, Any], data: bytes) -> list[PacketBytes]:
    """The packets of a span (SPAN_TYPE), of its bytes; nothing is copied."""
    view = memoryview(data)
    names = ("packet_offset_bytes", "packet_size_bytes", "packet_pts", "packet_dts")
    # Plans of earlier versions do not say which packets are keys: a span begins with one.
    is_key = span.get("packet_is_key") or [True, *repeat(False, len(span["packet_pts"]) - 1)]
    return [
        PacketBytes(view[offset : offset + size], pts, dts, key)
        for offset, size, pts, dts, key in zip(*(span[name] for name in names), is_key, strict=True)
    ]


def new_context(codec: str, extradata: bytes) -> Any:
    """A decoder that has seen nothing: what it takes of parameter sets, palettes and pictures is of one span.

    Flushing a decoder drops pictures and keeps parameter sets. One that was kept for the next span of the same
    `extradata` showed wrong pictures of a video once a span of another had brought sets of its own. Opening one takes
    0.01 to 0.03 ms, and its first pictures 0.2 ms more; a clip takes 90 ms.

    Raises:
        BadVideoError: unknown_codec.
    """
    try:
        context = av.CodecContext.create(codec, "r")
    except (FFmpegError, ValueError) as error:
        raise BadVideoError("unknown_codec", f"no decoder for '{codec}' ({error})") from error
    if not isinstance(context, av.VideoCodecContext):
        raise BadVideoError("unknown_codec", f"'{codec}' is no video codec")
    context.extradata = extradata or None
    context.thread_count = 1  # the pipeline's parallelism is over bags; threads inside a clip only add latency
    context.thread_type = ThreadType.NONE
    if codec == "h264":
        # Where a stream does not say how far it reorders, wait as long as its level allows. Otherwise FFmpeg learns
        # it from frames that it has to throw away.
        context.options = {"strict": "strict"}
    return context
