"""Saliency: how likely the model finds each action at each moment of a video, kept from epoch to epoch."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.pipelines.saliency.bins import Bins, spikes, visit
    from adaptfocus.pipelines.saliency.settings import SaliencyConfig
    from adaptfocus.pipelines.saliency.snapshot import SaliencyTable, merge

__all__ = ["Bins", "SaliencyConfig", "SaliencyTable", "merge", "spikes", "visit"]
__getattr__ = lazily(
    __name__,
    {
        "bins": (
            "Bins",
            "spikes",
            "visit",
        ),
        "settings": ("SaliencyConfig",),
        "snapshot": (
            "SaliencyTable",
            "merge",
        ),
    },
)
