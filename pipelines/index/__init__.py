"""The index of the videos in tars: one row for each video, and apart from the rows the packets of each."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.pipelines.index.build import build_index
    from adaptfocus.pipelines.index.load import (
        IndexFacts,
        VideoIndex,
        load_index,
        open_index,
        read_partition,
        read_partitions,
        read_rows,
        refused_of,
    )
    from adaptfocus.pipelines.index.packets import read_packets, with_packets
    from adaptfocus.pipelines.index.partitions import Partition

__all__ = [
    "IndexFacts",
    "Partition",
    "VideoIndex",
    "build_index",
    "load_index",
    "open_index",
    "read_packets",
    "read_partition",
    "read_partitions",
    "read_rows",
    "refused_of",
    "with_packets",
]
__getattr__ = lazily(
    __name__,
    {
        "build": ("build_index",),
        "load": (
            "IndexFacts",
            "VideoIndex",
            "load_index",
            "open_index",
            "read_partition",
            "read_partitions",
            "read_rows",
            "refused_of",
        ),
        "packets": (
            "read_packets",
            "with_packets",
        ),
        "partitions": ("Partition",),
    },
)
