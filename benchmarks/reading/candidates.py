"""Ways to decode one clip: ours, bare decoding as the floor, and what people use today.

Each candidate is used as its documentation says, with one thread, and scales while decoding where it can. The file is
in the page cache. A clip is uint8 [32, 3, 224, 224] (planes of YUV where the name says so); the floor gives no pixels.

A candidate is made for a video, then asked for a clip, and returns a function whose time is measured. Work that does
not count (cutting packets out of memory for the floor) is done before that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.codec.context import ThreadType
from av.video.reformatter import VideoReformatter

from adaptfocus.pipelines.decode.bag import decode_clips
from adaptfocus.pipelines.decode.settings import DecodeConfig
from benchmarks.reading.corpus import DECODE, FRAMES, SHORT_SIDE_PIXELS, SIZE_PIXELS


@dataclass(frozen=True)
class VideoFile:
    """What every candidate may know about a file beforehand."""

    path: str
    codec: str
    extradata: bytes
    width: int
    height: int


@dataclass(frozen=True)
class Request:
    """A clip, as each of the candidates asks for it."""

    bag: dict[str, Any]  # a row of a plan with one clip, for ours
    data: list[bytes]  # of the bag's spans
    packets: list[tuple[bytes, int, int]]  # (data, pts, dts) from the keyframe to the last one needed, for the floor
    frame_pts: list[int]
    frame_numbers: list[int]  # the same frames, counted in the order in which they are shown


Work = Callable[[], "np.ndarray | None"]
Candidate = Callable[[Request], Work]


def floor(video: VideoFile) -> Candidate:
    """Only libavcodec: every packet from the keyframe to the last one needed, and no pixel converted."""
    context: Any = av.CodecContext.create(video.codec, "r")
    context.extradata = video.extradata or None
    context.thread_count, context.thread_type = 1, ThreadType.NONE

    def clip(request: Request) -> Work:
        packets = []
        for data, pts, dts in request.packets:
            packet = av.Packet(data)
            packet.pts, packet.dts = pts, dts
            packets.append(packet)

        def work() -> None:
            for packet in packets:
                context.decode(packet)
            context.decode(None)
            context.flush_buffers()

        return work

    return clip


def ours(video: VideoFile) -> Candidate:
    """`decode.bag.decode_clips` on a row of a plan and the bytes of its spans."""
    return _ours(DECODE)


def ours_yuv420p(video: VideoFile) -> Candidate:
    """The same, as planes of YUV, which are converted later on the device."""
    return _ours(DECODE.model_copy(update={"pixel_format": "yuv420p"}))


def _ours(decode: DecodeConfig) -> Candidate:
    out = np.empty((1, FRAMES, *decode.frame_shape(SIZE_PIXELS)), np.uint8)

    def clip(request: Request) -> Work:
        def work() -> np.ndarray:
            decode_clips(request.bag, request.data, SIZE_PIXELS, decode, out)
            return out[0]

        return work

    return clip


def pyav_kept(video: VideoFile) -> Candidate:
    """PyAV at its best: container and scaler are kept; seek, decode, scale to RGB, crop."""
    container, stream = _opened(video)
    reformatter = VideoReformatter()
    width, height = scaled_size(video)

    def to_rgb(frame: av.VideoFrame) -> np.ndarray:
        return reformatter.reformat(frame, width, height, "rgb24", threads=1).to_ndarray()

    return lambda request: lambda: _seek_and_decode(container, stream, request, to_rgb)


def pyav_reopened(video: VideoFile) -> Candidate:
    """PyAV as most code uses it: the file is opened for each clip."""

    width, height = scaled_size(video)

    def to_rgb(frame: av.VideoFrame) -> np.ndarray:
        return frame.to_ndarray(format="rgb24", width=width, height=height)

    def work(request: Request) -> np.ndarray:
        container, stream = _opened(video)
        with container:
            return _seek_and_decode(container, stream, request, to_rgb)

    return lambda request: lambda: work(request)


def decord_kept(video: VideoFile) -> Candidate:
    """decord with one reader for a file, which scales while it decodes.

    `seek(0)` stops its read-ahead, which is unbounded.
    """
    reader = _decord_reader(video)

    def work(request: Request) -> np.ndarray:
        frames = cropped(reader.get_batch(request.frame_numbers).asnumpy())
        reader.seek(0)
        return frames

    return lambda request: lambda: work(request)


def decord_reopened(video: VideoFile) -> Candidate:
    """decord with a new reader for each clip, as in a loader over whole members."""
    return lambda request: lambda: cropped(_decord_reader(video).get_batch(request.frame_numbers).asnumpy())


def torchcodec_kept(video: VideoFile) -> Candidate:
    """torchcodec with exact seeking and one decoder for a file, which scales and crops while it decodes."""
    decoder = _torchcodec_decoder(video)
    return lambda request: lambda: decoder.get_frames_at(request.frame_numbers).data.numpy()


def torchcodec_reopened(video: VideoFile) -> Candidate:
    """torchcodec with a new decoder for each clip."""
    return lambda request: lambda: _torchcodec_decoder(video).get_frames_at(request.frame_numbers).data.numpy()


def torchcodec_approximate(video: VideoFile) -> Candidate:
    """torchcodec without its scan of the file: it finds frames by the mean frame rate."""
    decoder = _torchcodec_decoder(video, seek_mode="approximate")
    return lambda request: lambda: decoder.get_frames_at(request.frame_numbers).data.numpy()


CANDIDATES: dict[str, Callable[[VideoFile], Candidate]] = {
    made.__name__: made
    for made in (
        floor, ours, ours_yuv420p, pyav_kept, pyav_reopened, decord_kept, decord_reopened, torchcodec_kept,
        torchcodec_reopened, torchcodec_approximate,
    )
}  # fmt: skip


def scaled_size(video: VideoFile) -> tuple[int, int]:
    """(width, height) with the short side at SHORT_SIDE_PIXELS."""
    scale = SHORT_SIDE_PIXELS / min(video.width, video.height)
    return round(video.width * scale), round(video.height * scale)


def _opened(video: VideoFile) -> tuple[Any, Any]:
    container = av.open(video.path)
    stream = container.streams.video[0]
    stream.thread_type, stream.codec_context.thread_count = "NONE", 1
    return container, stream


def _seek_and_decode(
    container: Any, stream: Any, request: Request, to_rgb: Callable[[av.VideoFrame], np.ndarray]
) -> np.ndarray:
    missing, found = set(request.frame_pts), {}
    container.seek(min(missing), stream=stream, backward=True)
    for frame in container.decode(stream):
        if frame.pts in missing:
            found[frame.pts] = to_rgb(frame)
            missing.remove(frame.pts)
            if not missing:
                break
    black = np.zeros_like(next(iter(found.values())))  # stands in for a frame that did not come
    return cropped(np.stack([found.get(pts, black) for pts in request.frame_pts]))


def _decord_reader(video: VideoFile) -> Any:
    import decord

    width, height = scaled_size(video)
    return decord.VideoReader(video.path, ctx=decord.cpu(0), width=width, height=height, num_threads=1)


def _torchcodec_decoder(video: VideoFile, seek_mode: str = "exact") -> Any:
    from torchcodec.decoders import VideoDecoder  # pyright: ignore[reportMissingImports] - needs a build for this torch
    from torchcodec.transforms import CenterCrop, Resize  # pyright: ignore[reportMissingImports]

    width, height = scaled_size(video)
    transforms = [Resize((height, width)), CenterCrop((SIZE_PIXELS, SIZE_PIXELS))]
    return VideoDecoder(video.path, num_ffmpeg_threads=1, seek_mode=seek_mode, transforms=transforms)  # type: ignore[arg-type]


def cropped(frames_THWC: np.ndarray) -> np.ndarray:
    top, left = ((side - SIZE_PIXELS) // 2 for side in frames_THWC.shape[1:3])
    window = frames_THWC[:, top : top + SIZE_PIXELS, left : left + SIZE_PIXELS]
    return np.ascontiguousarray(window.transpose(0, 3, 1, 2))
