"""The clips of one video's moments, each copied or encoded, or refused with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from adaptfocus.pipelines.cutting.copying import copy_packets, packets_to_copy
from adaptfocus.pipelines.cutting.encoding import encode_moment
from adaptfocus.pipelines.cutting.moments import Moment, VideoMoments, frames_of
from adaptfocus.pipelines.errors import BadVideoError, ConfigError, as_bad_video
from adaptfocus.pipelines.index.packets import video_with_packets
from adaptfocus.pipelines.store.range_file import RangeFile, open_member
from adaptfocus.pipelines.video.packets import Packets
from adaptfocus.pipelines.video.spans import packets_of, shown_pts


class Clip(NamedTuple):
    """An mp4 and where it comes from."""

    video_id: str
    moment: Moment
    mp4: bytes
    is_copied: bool
    frames: int
    frame_rate_hz: float
    clip_start_seconds: float  # in the source: of the clip's first frame
    start_seconds: float  # of the moment, inside the clip
    end_seconds: float


class Refused(NamedTuple):
    """A moment that gave no clip."""

    video_id: str
    moment: Moment
    kind: str
    message: str


@dataclass(frozen=True)
class Cutting:
    """How clips are cut. It is sent to other processes.

    `slack_seconds`: how far before a moment a copied clip may begin.
    """

    slack_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.slack_seconds < float("inf"):
            raise ConfigError(f"--slack-seconds is {self.slack_seconds:g}; it must be 0 or more")


def cut_video(how: Cutting, job: VideoMoments) -> list[Clip | Refused]:
    """The clips of some moments of one video, in their order.

    Raises:
        InputError: the index is damaged. StorageError: the store cannot be read.
    """
    video = video_with_packets(job.video)
    packets, member = packets_of(video), open_member(video)
    shown = shown_pts(video, packets)
    found: list[Clip | Refused] = []
    for moment in job.moments:
        try:
            found.append(_cut(how, video, packets, shown, moment, member))
        except Exception as error:
            bad: BadVideoError = as_bad_video(error)
            found.append(Refused(video["video_id"], moment, bad.kind, str(bad)))
    return found


def _cut(
    how: Cutting, video: Mapping[str, Any], packets: Packets, shown: np.ndarray, moment: Moment, member: RangeFile
) -> Clip:
    wanted = frames_of(video, shown, moment)
    run = packets_to_copy(video, packets, wanted, how.slack_seconds)
    mp4 = copy_packets(video, packets, run, member) if run else None
    first, frames, is_copied = int(wanted[0]), len(wanted), mp4 is not None
    if run and is_copied:
        first, frames = int(packets.pts[run.first]), run.last + 1 - run.first
    else:
        mp4 = encode_moment(video, wanted, member)
    tick = video["time_base_numerator"] / video["time_base_denominator"]
    begins = float(first - shown[0]) * tick
    end = min(moment.end_seconds, video["duration_seconds"])
    inside = (max(moment.start_seconds - begins, 0.0), end - begins)
    return Clip(video["video_id"], moment, mp4 or b"", is_copied, frames, video["frame_rate_hz"], begins, *inside)
