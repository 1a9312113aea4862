"""Published data sets as they are released, read as they are."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.pipelines.datasets.formats import FORMATS, read_release

__all__ = ["FORMATS", "read_release"]
__getattr__ = lazily(
    __name__,
    {
        "formats": (
            "FORMATS",
            "read_release",
        )
    },
)
