"""Training: one step, one epoch, commits."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.trainers.loop.engine import LocalEngine
    from adaptfocus.trainers.loop.training import train

__all__ = ["LocalEngine", "train"]
__getattr__ = lazily(__name__, {"engine": ("LocalEngine",), "training": ("train",)})
