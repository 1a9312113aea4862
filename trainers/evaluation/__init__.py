"""What comes out of a trained run: scores, features and exported models."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.trainers.evaluation.export import export_model
    from adaptfocus.trainers.evaluation.extraction import extract
    from adaptfocus.trainers.evaluation.scoring import evaluate

__all__ = ["evaluate", "export_model", "extract"]
__getattr__ = lazily(__name__, {"export": ("export_model",), "extraction": ("extract",), "scoring": ("evaluate",)})
