"""Which stream of a container is the video."""

from __future__ import annotations

from typing import Any

from av.stream import Disposition


def main_video_stream(container: Any) -> Any:
    """The stream that is indexed and read: FFmpeg's best video stream, never a cover picture; None if there is none."""
    best = container.streams.best("video")
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    return best if best in videos else next(iter(videos), None)
