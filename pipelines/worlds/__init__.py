"""Synthetic worlds: long rendered videos about which everything is known."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.pipelines.worlds.config import WORLDS, WorldConfig
    from adaptfocus.pipelines.worlds.encode import write_world

__all__ = ["WORLDS", "WorldConfig", "write_world"]
__getattr__ = lazily(
    __name__,
    {
        "config": (
            "WORLDS",
            "WorldConfig",
        ),
        "encode": ("write_world",),
    },
)
