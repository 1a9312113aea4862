"""Side data of frames that this PyAV has no name for: named here, so that what it can name stays readable.

PyAV lists all side data of a frame at once, and raises where FFmpeg knows a kind that PyAV does not: EXIF of motion
JPEG with FFmpeg 8, views of multi-view HEVC. Then the display matrix beside it could not be read either.

Input: nothing. Does: gives each such kind a name by its number. Output: `SideDataType`, PyAV's own.
"""

from __future__ import annotations

from av.sidedata.sidedata import Type as SideDataType

__all__ = ("SideDataType",)


def _unnamed(kinds: type[SideDataType], number: object) -> SideDataType:
    """``SideDataType(31)`` of a PyAV that ends at 27: a kind that is none of the others."""
    if not isinstance(number, int):
        raise ValueError(f"{number!r} is not a kind of side data")
    kind = object.__new__(kinds)
    kind._name_, kind._value_ = f"UNNAMED_{number}", number
    return kind


SideDataType._missing_ = classmethod(_unnamed)  # type: ignore[method-assign, assignment]
