"""A run's folder in a store, and its rules: the log, plans, saliency, and the process that holds it."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.trainers.runs.epochs import publish_plan
    from adaptfocus.trainers.runs.ledger import audit
    from adaptfocus.trainers.runs.log import Commit, Lineage, Run
    from adaptfocus.trainers.runs.preparation import prepare

__all__ = ["Commit", "Lineage", "Run", "audit", "prepare", "publish_plan"]
__getattr__ = lazily(
    __name__,
    {
        "epochs": ("publish_plan",),
        "ledger": ("audit",),
        "log": (
            "Commit",
            "Lineage",
            "Run",
        ),
        "preparation": ("prepare",),
    },
)
