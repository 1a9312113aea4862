"""What people say about videos: ids, labels, intervals, groups, classes and tasks."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.pipelines.annotations.groups import check_groups, split_by_groups
    from adaptfocus.pipelines.annotations.manifest import read_classes, read_manifest
    from adaptfocus.pipelines.annotations.rows import AnnotatedVideo, Interval, Problem
    from adaptfocus.pipelines.annotations.tasks import read_activities, read_grounding, read_segmentation

__all__ = [
    "AnnotatedVideo",
    "Interval",
    "Problem",
    "check_groups",
    "read_activities",
    "read_classes",
    "read_grounding",
    "read_manifest",
    "read_segmentation",
    "split_by_groups",
]
__getattr__ = lazily(
    __name__,
    {
        "groups": (
            "check_groups",
            "split_by_groups",
        ),
        "manifest": (
            "read_classes",
            "read_manifest",
        ),
        "rows": (
            "AnnotatedVideo",
            "Interval",
            "Problem",
        ),
        "tasks": (
            "read_activities",
            "read_grounding",
            "read_segmentation",
        ),
    },
)
