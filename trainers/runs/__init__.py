"""A run's folder in a store, and its rules: the log, plans, saliency, and the process that holds it."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.trainers.runs.ledger import audit
    from adaptfocus.trainers.runs.log import Commit, Lineage, Run
    from adaptfocus.trainers.runs.preparation import prepare

__all__ = ["Commit", "Lineage", "Run", "audit", "prepare"]
__getattr__ = lazily(
    __name__,
    {
        "ledger": ("audit",),
        "log": (
            "Commit",
            "Lineage",
            "Run",
        ),
        "preparation": ("prepare",),
    },
)
