"""A bare decoder over packets: no demuxer, no container, nothing opened twice.

A span is a run of a video's packets that is fetched as one range of bytes. Packets that no wanted frame needs are left
out (`video.nal_units`). The rest is decoded in the span's own context, given codec and extradata. Wanted frames come in
the order of presentation, with the pixels of a sequential decode.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import av
import av.logging
from av.codec.context import ThreadType
from av.error import FFmpegError

from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.video.nal_units import find_needed
from adaptfocus.pipelines.video.packets import Packets
from adaptfocus.pipelines.video.table import pad_packet

# What matters appears as an exception or a corrupt frame. Even a clip that begins at an open GOP makes libavcodec
# print a warning.
av.logging.set_level(av.logging.PANIC)

# For these codecs, libavcodec itself can skip unreferenced B pictures: 0.61 to 0.65 of the CPU. For H.264 and HEVC it
# leaves out the same pictures as nal_units, but not groups without a wanted picture. It decodes AV1 wrongly then.
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
    span: Packets,
    data: bytes,
    wanted_pts: Collection[int],
    options: Mapping[str, str] | None = None,
) -> Iterator[av.VideoFrame]:
    """The wanted frames of a span; frames that do not decode are missing.

    If a frame comes twice, the last one counts: the first was decoded from too few packets.

    Args:
        span: its packets, with offsets from its first byte.
        data: its bytes.
        options: options of the decoder.

    Raises:
        BadVideoError: unknown_codec, decode_error.
    """
    packets = packets_in(span, data)
    wanted = {packet.pts for packet in packets if packet.pts in wanted_pts}
    keep = find_needed(
        codec, extradata, [packet.data for packet in packets], [packet.pts in wanted for packet in packets]
    )
    few = [packet for packet, is_kept in zip(packets, keep, strict=True) if is_kept]
    # Frames may refer to a picture that the encoder marked as unreferenced. The decoder then reports it, and all
    # packets are decoded.
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
        except BadVideoError:  # also after the last wanted frame: it may be shown before the frames it refers to
            if not spares:
                raise


def refuse_corrupt(frame: av.VideoFrame, first_pts: int) -> None:
    """Refuse a corrupt frame that others may refer to, wanted or not: its damage spreads to frames that are not marked.

    Args:
        first_pts: pts of the first decoded keyframe. Frames shown before it refer to frames that were not decoded, and
            are not wanted.

    Raises:
        BadVideoError: decode_error.
    """
    if frame.is_corrupt and frame.pts is not None and frame.pts >= first_pts:
        raise BadVideoError("decode_error", f"the frame at pts {frame.pts} is corrupt")


def pass_over(context: Any, is_wanted: bool) -> None:
    """Tell the decoder whether the next packet's picture is wanted: if not, some decoders skip it."""
    if context.codec.canonical_name in _PASSES_OVER_B:
        context.skip_frame = "DEFAULT" if is_wanted else "NONREF"


def _decoded(context: Any, packets: Sequence[PacketBytes], wanted: Collection[int] | None) -> Iterator[av.VideoFrame]:
    """The frames of packets. `wanted`: pts of the wanted pictures; None decodes every picture."""
    for packet in packets:
        if wanted is not None:
            pass_over(context, packet.pts in wanted)
        yield from context.decode(pad_packet(*packet))
    yield from flush_frames(context, packets[-1].pts, max(packet.pts for packet in packets))


def flush_frames(context: Any, last_pts: int, highest_pts: int) -> Iterator[av.VideoFrame]:
    """The frames that a decoder still holds for reordering after the last packet.

    For MPEG-4, it holds the last picture that others refer to. If the last packet has no picture, it gives that picture
    the packet's time. If this time is before the picture's own, another picture is on display then, so it is left out.
    """
    is_reordered = context.codec.canonical_name == "mpeg4" and last_pts < highest_pts
    for frame in context.decode(None):
        if not (is_reordered and frame.pts == last_pts):
            yield frame


def packets_in(span: Packets, data: bytes) -> list[PacketBytes]:
    """The packets of a span, as views of its bytes."""
    view = memoryview(data)
    columns = (span.offset_bytes, span.size_bytes, span.pts, span.dts, span.is_key)
    return [
        PacketBytes(view[offset : offset + size], pts, dts, key)
        for offset, size, pts, dts, key in zip(*(column.tolist() for column in columns), strict=True)
    ]


def new_context(codec: str, extradata: bytes) -> Any:
    """A new decoder: its parameter sets, palettes and pictures must come from one span only.

    Flushing a decoder drops pictures but keeps parameter sets. A decoder that was reused for spans with the same
    `extradata` showed wrong pictures after another video's span had brought its own parameter sets. Opening a decoder
    takes 0.01 to 0.03 ms, and its first pictures take 0.2 ms more; a clip takes 90 ms.

    Raises:
        BadVideoError: unknown_codec.
    """
    try:
        context = av.CodecContext.create(codec, "r")
    except (FFmpegError, ValueError) as error:
        raise BadVideoError("unknown_codec", f"no decoder for '{codec}' ({error})") from error
    if not isinstance(context, av.VideoCodecContext):
        raise BadVideoError("unknown_codec", f"'{codec}' is not a video codec")
    context.extradata = extradata or None
    context.thread_count = 1  # the pipeline's parallelism is over bags; threads inside a clip only add latency
    context.thread_type = ThreadType.NONE
    if codec == "h264":
        # If a stream does not say how far it reorders, wait as long as its level allows. Otherwise FFmpeg learns
        # it from frames that it has to drop.
        context.options = {"strict": "strict"}
    return context
