"""A plan -> batches of clips."""

from adaptfocus.pipelines.stream.batches import ClipBatch, WindowBatch
from adaptfocus.pipelines.stream.clips import ClipShape, read_and_decode, stream
from adaptfocus.pipelines.stream.windows import window_batches

__all__ = ["ClipBatch", "ClipShape", "WindowBatch", "read_and_decode", "stream", "window_batches"]
