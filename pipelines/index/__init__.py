"""Tars -> an index: one row a video, with its packets."""

from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.load import VideoIndex, load_index, read_rows, refused_of

__all__ = ["VideoIndex", "build_index", "load_index", "read_rows", "refused_of"]
