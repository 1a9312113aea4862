"""The method of the paper, as functions of tensors."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.trainers.method.focus import focus_weights
    from adaptfocus.trainers.method.loss import weighted_bce

__all__ = ["focus_weights", "weighted_bce"]
__getattr__ = lazily(__name__, {"focus": ("focus_weights",), "loss": ("weighted_bce",)})
