"""Names for side data of frames that this PyAV does not know, so that the side data that it knows stays readable.

PyAV lists all side data of a frame at once, and raises an error if FFmpeg has a kind that PyAV does not know: EXIF of
motion JPEG with FFmpeg 8, views of multi-view HEVC. Then the display matrix of the same frame would be unreadable too.
This module gives each unknown kind a name with its number.
"""

from __future__ import annotations

from av.sidedata.sidedata import Type as SideDataType

__all__ = ("SideDataType",)


def _unnamed(kinds: type[SideDataType], number: object) -> SideDataType:
    """A new kind, such as ``SideDataType(31)`` for a PyAV whose kinds end at 27."""
    if not isinstance(number, int):
        raise ValueError(f"{number!r} is not a kind of side data")
    kind = object.__new__(kinds)
    kind._name_, kind._value_ = f"UNNAMED_{number}", number
    return kind


SideDataType._missing_ = classmethod(_unnamed)  # type: ignore[method-assign, assignment]
