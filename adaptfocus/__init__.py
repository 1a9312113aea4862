"""AdaptFocus: weakly supervised training on long videos at web scale.

``pipelines`` turns tars of long videos into batches of clips, ``trainers`` trains on them, ``infra`` starts and shows
runs. The three stand at the top of the repository; links here make them parts of one installed name.

The names below are for other people's training loops (docs/how-to/library.md). Each brings its module only when it is
asked for, so importing this costs nothing.
"""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.pipelines.decode.settings import DecodeConfig
    from adaptfocus.pipelines.errors import AdaptFocusError
    from adaptfocus.pipelines.library import Clips, Index, Video, dense, open_index, shuffled, uniform, windows
    from adaptfocus.pipelines.plan.settings import ClipConfig
    from adaptfocus.trainers.library import Run

__all__ = [
    "AdaptFocusError",
    "ClipConfig",
    "Clips",
    "DecodeConfig",
    "Index",
    "Run",
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
        "pipelines.decode.settings": ("DecodeConfig",),
        "pipelines.errors": ("AdaptFocusError",),
        "pipelines.library": ("Clips", "Index", "Video", "dense", "open_index", "shuffled", "uniform", "windows"),
        "pipelines.plan.settings": ("ClipConfig",),
        "trainers.library": ("Run",),
    },
)
