"""WebDataset tars (shards): find them, read their samples, pack them."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.pipelines.shards.find import find_shards
    from adaptfocus.pipelines.shards.members import Refusal
    from adaptfocus.pipelines.shards.packing import pack
    from adaptfocus.pipelines.shards.read import Sample, read_samples

__all__ = ["Refusal", "Sample", "find_shards", "pack", "read_samples"]
__getattr__ = lazily(
    __name__,
    {
        "find": ("find_shards",),
        "members": ("Refusal",),
        "packing": ("pack",),
        "read": (
            "Sample",
            "read_samples",
        ),
    },
)
