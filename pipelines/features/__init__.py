"""Features of whole videos: the store that holds them, and the layouts that other projects read."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.pipelines.features.store import FeatureSet, open_features

__all__ = ["FeatureSet", "open_features"]
__getattr__ = lazily(
    __name__,
    {
        "store": (
            "FeatureSet",
            "open_features",
        )
    },
)
