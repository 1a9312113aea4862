"""Bytes to pixels: the frames of one clip.

Input: a bag's stream facts, a clip's packets and the bytes of its range (or, where a container has no usable table,
the member itself).
Does: feeds raw packets to a bare codec context, without a demuxer; scales, crops to a square, rotates upright.
Output: uint8 [T, C, H, W], RGB, the very frames that a sequential decode shows at those times.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, BinaryIO, Literal

import av
import av.error
import numpy as np
import pydantic
from av.codec.context import ThreadType
from av.video.reformatter import VideoReformatter

from pipelines import storage
from pipelines.config import Settings
from pipelines.errors import BadVideoError
from pipelines.packet_table import main_video_stream

_reformatter = VideoReformatter()  # keeps its scaling tables between frames of one size


class DecodeConfig(Settings):
    """How bytes become frames.

    `backend`: "packets" feeds fetched packets to a bare decoder; "demux" (PyAV) and "decord" read the whole member.
    `pixel_format`: "rgb" gives [3, S, S]; "yuv420p" gives the planes Y, U, V below each other as [1, S * 3 / 2, S],
    half the bytes, to be converted on the device.
    `crop_fraction`: side of the centred square that is cut out, as a fraction of the picture's short side.
    """

    backend: Literal["packets", "demux", "decord"] = "packets"
    pixel_format: Literal["rgb", "yuv420p"] = "rgb"
    crop_fraction: float = pydantic.Field(default=1.0, gt=0, le=1)

    def frame_shape(self, size_pixels: int) -> tuple[int, int, int]:
        """[C, H, W] of a frame."""
        return (3, size_pixels, size_pixels) if self.pixel_format == "rgb" else (1, size_pixels * 3 // 2, size_pixels)


def decode_clips(
    bag: Mapping[str, Any], data: Sequence[bytes], size_pixels: int, decode: DecodeConfig, out: np.ndarray
) -> None:
    """Decode all clips of a bag into `out` uint8 [clips, frames, C, H, W].

    Args:
        bag: a row of PLAN_SCHEMA.
        data: the bytes of each of the bag's spans, as fetched; not used by the backends that read the member.

    Raises:
        BadVideoError: the packets do not decode, or a wanted frame does not come out of them.
        StorageError: the member cannot be read.
    """
    if bag["access"] == "packets" and decode.backend == "packets":
        frames = chain.from_iterable(
            _frames_of_packets(bag["codec"], bag["extradata"] or b"", span, part)
            for span, part in zip(bag["spans"], data, strict=True)
        )
        wanted = [pts for clip in bag["clips"] for pts in clip["frame_pts"]]
        made = _wanted(frames, wanted, size_pixels, bag["rotation_degrees"])
        out[:] = made.reshape(out.shape)
        return
    member = storage.RangeFile(bag["shard_url"], bag["member_offset_bytes"], bag["member_size_bytes"])
    for number, clip in enumerate(decode_clips_by_demuxing(bag, bag["clips"], io.BufferedReader(member), size_pixels)):
        out[number] = clip


def decode_clips_by_demuxing(
    bag: Mapping[str, Any], clips: Iterable[Mapping[str, Any]], file: BinaryIO, size_pixels: int
) -> list[np.ndarray]:
    """Frames of clips of a member that only a demuxer can read: one open container for all clips of the bag.

    Raises:
        BadVideoError: as in `decode_clip`, or the container does not open.
    """
    try:
        with av.open(file, "r") as container:
            stream = main_video_stream(container)
            if stream is None:
                raise BadVideoError("no_video_stream", "the container has no video stream")
            return [
                _wanted(
                    _frames_after_seek(container, stream, clip), clip["frame_pts"], size_pixels, bag["rotation_degrees"]
                )
                for clip in clips
            ]
    except (av.error.FFmpegError, ValueError) as error:
        raise BadVideoError("decode_error", str(error)) from error


def _frames_of_packets(codec: str, extradata: bytes, clip: Mapping[str, Any], data: bytes) -> Iterator[av.VideoFrame]:
    """All frames of the packets in the order the decoder gives them; the context is ready for another clip after."""
    context = _context(codec, extradata)
    try:
        for offset, size, pts, dts in zip(
            clip["packet_offset_bytes"], clip["packet_size_bytes"], clip["packet_pts"], clip["packet_dts"], strict=True
        ):
            packet = av.Packet(data[offset : offset + size])
            packet.pts, packet.dts = pts, dts
            yield from context.decode(packet)
        yield from context.decode(None)  # flush: what the decoder still holds back for reordering
    except (av.error.FFmpegError, ValueError) as error:
        raise BadVideoError("decode_error", str(error)) from error
    finally:
        context.flush_buffers()


@lru_cache(maxsize=16)
def _context(codec: str, extradata: bytes) -> av.VideoCodecContext:
    """A decoder for a stream's parameters; kept, because opening one costs more than a short clip's decoding."""
    try:
        context = av.CodecContext.create(codec, "r")
    except (av.error.FFmpegError, ValueError) as error:
        raise BadVideoError("unknown_codec", f"no decoder for '{codec}' ({error})") from error
    if not isinstance(context, av.VideoCodecContext):
        raise BadVideoError("unknown_codec", f"'{codec}' is no video codec")
    context.extradata = extradata or None
    context.thread_count = 1  # the pipeline's parallelism is over bags; threads inside a clip only add latency
    context.thread_type = ThreadType.NONE
    return context


def _frames_after_seek(container: Any, stream: Any, clip: Mapping[str, Any]) -> Iterator[av.VideoFrame]:
    """Frames from the keyframe before the first wanted one, found by pts (a seek goes by dts: step back if late)."""
    first, last = min(clip["frame_pts"]), max(clip["frame_pts"])
    for step_back in (0, 1, 4):
        target = first - step_back * int(2 / stream.time_base)
        container.seek(max(target, stream.start_time or 0), stream=stream, backward=True)
        for number, frame in enumerate(container.decode(stream)):
            if number == 0 and frame.pts is not None and frame.pts > first:
                break
            yield frame
            if frame.pts is not None and frame.pts >= last:
                return
        else:
            return


def _wanted(
    frames: Iterator[av.VideoFrame], frame_pts: list[int], size_pixels: int, rotation_degrees: int
) -> np.ndarray:
    missing = set(frame_pts)
    found: dict[int, np.ndarray] = {}
    for frame in frames:
        if frame.pts in missing:
            missing.discard(frame.pts)
            if frame.is_corrupt:
                raise BadVideoError("decode_error", f"the frame at pts {frame.pts} is corrupt")
            found[frame.pts] = to_square_rgb(frame, size_pixels, rotation_degrees)
    if missing:
        text = f"{len(missing)} of {len(set(frame_pts))} frames did not decode: pts {sorted(missing)[:4]}"
        raise BadVideoError("missing_frame", text)
    return np.stack([found[pts] for pts in frame_pts])


def to_square_rgb(frame: av.VideoFrame, size_pixels: int, rotation_degrees: int) -> np.ndarray:
    """Short side scaled to `size_pixels`, centre square, upright: uint8 [3, size, size], RGB.

    Scaled to planes (gbrp), which costs 0.6 of what packed rgb24 does and copies straight into CHW.
    """
    scale = size_pixels / min(frame.width, frame.height)
    width, height = (max(size_pixels, round(side * scale)) for side in (frame.width, frame.height))
    planar = _reformatter.reformat(frame, width=width, height=height, format="gbrp", threads=1)
    top, left = (height - size_pixels) // 2, (width - size_pixels) // 2
    out = np.empty((3, size_pixels, size_pixels), np.uint8)
    for channel, plane in ((1, 0), (2, 1), (0, 2)):  # gbrp holds green, blue, red
        source = planar.planes[plane]
        rows = np.frombuffer(memoryview(source), np.uint8)[: source.line_size * height].reshape(
            height, source.line_size
        )
        out[channel] = rows[top : top + size_pixels, left : left + size_pixels]
    return np.rot90(out, rotation_degrees // 90, axes=(1, 2)) if rotation_degrees % 360 else out
