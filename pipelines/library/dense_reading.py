"""All of one video, as windows that overlap or follow each other: for inference along time, and for looking."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.decode.windows import dense_windows
from adaptfocus.pipelines.errors import BadVideoError, as_bad_video
from adaptfocus.pipelines.index.packets import video_with_packets
from adaptfocus.pipelines.library.index import Video
from adaptfocus.pipelines.plan.settings import ClipConfig


def windows(
    video: Video,
    clip: ClipConfig,
    hop_seconds: float,
    *,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
    decode: DecodeConfig | None = None,
) -> Iterator[dict[str, Any]]:
    """The clips in the middle of each hop of a video, or of a stretch of it, in order of time.

    Packets are fetched once and ahead of the decoder, and each frame is decoded once, in this process. A clip is
    always full: beyond the video's ends it repeats the first or the last frame.

    Args:
        video: of `open_index(url)["its id"]`.
        clip: the shape of each clip.
        hop_seconds: from one clip to the next.
        start_seconds: beginning of the stretch, from the first frame shown.
        end_seconds: its end; that of the video by default.

    Yields:
        ``frames`` uint8 [T, 3, S, S], ``center_seconds``, ``video_id``, ``error``: "", or "kind: message" in one last
        sample with black frames, if the video does not decode further.

    Raises:
        ConfigError: the stretch is empty, or a hop is not above 0.
        StorageError: the video cannot be read. InputError: the index is damaged.
    """
    decode = decode or DecodeConfig()
    black = np.zeros((clip.frames, *decode.frame_shape(clip.size_pixels)), np.uint8)
    center_seconds = start_seconds
    try:
        if not video.duration_seconds > 0:
            text = f"it lasts {video.duration_seconds} s, which holds no window"
            raise BadVideoError("no_duration", text)
        made = dense_windows(
            video_with_packets(video.row), frames=clip.frames, stride_seconds=clip.stride_seconds(video.frame_rate_hz),
            hop_seconds=hop_seconds, size_pixels=clip.size_pixels, decode=decode, start_seconds=start_seconds,
            end_seconds=end_seconds,
        )  # fmt: skip
        for each in made:
            center_seconds = each.center_seconds
            yield {"frames": each.frames, "center_seconds": center_seconds, "video_id": video.id, "error": ""}
    except Exception as error:  # whatever goes wrong with one video is a value
        bad = as_bad_video(error)
        yield {
            "frames": black, "center_seconds": center_seconds, "video_id": video.id, "error": f"{bad.kind}: {bad}",
        }  # fmt: skip
