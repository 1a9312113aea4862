"""Packets -> pixels: clips, and windows over whole videos."""

from adaptfocus.pipelines.decode.bag import decode_clips
from adaptfocus.pipelines.decode.settings import DecodeConfig, Isolation
from adaptfocus.pipelines.decode.windows import dense_windows

__all__ = ["DecodeConfig", "Isolation", "decode_clips", "dense_windows"]
