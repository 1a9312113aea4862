"""Which clips an epoch looks at: a pure function of index, saliency, seed and epoch."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.pipelines.plan.draw import plan_clips
    from adaptfocus.pipelines.plan.planner import Planner
    from adaptfocus.pipelines.plan.published import follow, read_plan, write_plan
    from adaptfocus.pipelines.plan.settings import ClipConfig, DrawRules, PlanConfig
    from adaptfocus.pipelines.plan.views import plan_views

__all__ = [
    "ClipConfig",
    "DrawRules",
    "PlanConfig",
    "Planner",
    "follow",
    "plan_clips",
    "plan_views",
    "read_plan",
    "write_plan",
]
__getattr__ = lazily(
    __name__,
    {
        "draw": ("plan_clips",),
        "planner": ("Planner",),
        "views": ("plan_views",),
        "published": (
            "follow",
            "read_plan",
            "write_plan",
        ),
        "settings": (
            "ClipConfig",
            "DrawRules",
            "PlanConfig",
        ),
    },
)
