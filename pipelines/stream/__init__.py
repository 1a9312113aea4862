"""A plan -> batches of clips."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.pipelines.stream.batches import DecodedBatch, WindowBatch
    from adaptfocus.pipelines.stream.clips import ClipShape, read_and_decode, stream
    from adaptfocus.pipelines.stream.windows import window_batches

__all__ = ["ClipShape", "DecodedBatch", "WindowBatch", "read_and_decode", "stream", "window_batches"]
__getattr__ = lazily(
    __name__,
    {
        "batches": (
            "DecodedBatch",
            "WindowBatch",
        ),
        "clips": (
            "ClipShape",
            "read_and_decode",
            "stream",
        ),
        "windows": ("window_batches",),
    },
)
