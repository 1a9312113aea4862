"""A run as a library's user sees it: its settings, curves, saliency, ledger and model, and its clips."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.trainers.library.opened_run import Run

__all__ = ["Run"]
__getattr__ = lazily(__name__, {"opened_run": ("Run",)})
