"""Moments of videos -> short clips of their own, in WebDataset shards.

Comes in: rows of an index, each with its moments (start, end, label, score). A clip is cut out by copying packets
where a keyframe allows it, else by decoding and encoding. Goes out: tars, a class list, and a summary with counts.
"""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.pipelines.cutting.clips import Cutting, cut_video
    from adaptfocus.pipelines.cutting.listed import read_moments
    from adaptfocus.pipelines.cutting.moments import Moment, VideoMoments
    from adaptfocus.pipelines.cutting.shards import write_clips

__all__ = ["Cutting", "Moment", "VideoMoments", "cut_video", "read_moments", "write_clips"]
__getattr__ = lazily(
    __name__,
    {
        "clips": ("Cutting", "cut_video"),
        "listed": ("read_moments",),
        "moments": ("Moment", "VideoMoments"),
        "shards": ("write_clips",),
    },
)
