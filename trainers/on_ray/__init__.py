"""Training, evaluation and extraction on a Ray cluster."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.trainers.on_ray.train import fit

__all__ = ["fit"]
__getattr__ = lazily(__name__, {"train": ("fit",)})
