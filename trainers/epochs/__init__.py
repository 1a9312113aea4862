"""Between two epochs: the ledger of one becomes the snapshot and the plan of the next, by tasks over windows."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.trainers.epochs.planner import Corpus, EpochPlanner
    from adaptfocus.trainers.epochs.publishing import Planning, publish_plan

__all__ = ["Corpus", "EpochPlanner", "Planning", "publish_plan"]
__getattr__ = lazily(
    __name__,
    {
        "planner": ("Corpus", "EpochPlanner"),
        "publishing": ("Planning", "publish_plan"),
    },
)
