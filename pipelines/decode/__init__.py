"""Packets -> pixels: clips, and windows over whole videos."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.pipelines.decode.bag import decode_clips
    from adaptfocus.pipelines.decode.settings import DecodeConfig, Isolation
    from adaptfocus.pipelines.decode.windows import dense_windows

__all__ = ["DecodeConfig", "Isolation", "decode_clips", "dense_windows"]
__getattr__ = lazily(
    __name__,
    {
        "bag": ("decode_clips",),
        "settings": (
            "DecodeConfig",
            "Isolation",
        ),
        "windows": ("dense_windows",),
    },
)
