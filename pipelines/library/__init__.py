"""Clips, windows and indexes for any training loop: what `import adaptfocus` offers of this layer."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.pipelines.library.clips import Clips
    from adaptfocus.pipelines.library.dense_reading import windows
    from adaptfocus.pipelines.library.index import Index, Interval, Video, open_index
    from adaptfocus.pipelines.library.moments import Moments, Sampler, shuffled
    from adaptfocus.pipelines.library.samplers import dense, uniform

__all__ = [
    "Clips",
    "Index",
    "Interval",
    "Moments",
    "Sampler",
    "Video",
    "dense",
    "open_index",
    "shuffled",
    "uniform",
    "windows",
]
__getattr__ = lazily(
    __name__,
    {
        "clips": ("Clips",),
        "dense_reading": ("windows",),
        "index": ("Index", "Interval", "Video", "open_index"),
        "moments": ("Moments", "Sampler", "shuffled"),
        "samplers": ("dense", "uniform"),
    },
)
