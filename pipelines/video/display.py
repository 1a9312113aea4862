"""How a stored picture is shown: the shape of its pixels, turned, and mirrored or not. Decisions are as in players.

All functions are pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

# Anamorphic lenses, half-width video and security cameras stay within 1:4 to 4:1. Other values are writing mistakes.
MAX_PIXEL_ASPECT = 8
SQUARE = Fraction(1)
# Shapes like 640:639 come from rounding a picture's size. A crop on even pixels is coarser than that.
ALMOST_SQUARE = 0.005


class Display(NamedTuple):
    """What happens to a decoded picture: its pixels are made square, and it is turned, then mirrored."""

    rotation_degrees: int = 0  # counter-clockwise, a multiple of 90
    is_mirrored: bool = False  # left to right, after turning
    pixel_aspect: float = 1.0  # width of a stored pixel divided by its height


# Columns of the index and of plans.
DISPLAY_COLUMNS = ("rotation_degrees", "is_mirrored", "pixel_aspect_numerator", "pixel_aspect_denominator")


def display_of(row: Mapping[str, Any]) -> Display:
    """The Display of a row of the index or of a plan."""
    aspect = row["pixel_aspect_numerator"] / row["pixel_aspect_denominator"]
    return Display(row["rotation_degrees"], row["is_mirrored"], 1.0 if abs(aspect - 1) <= ALMOST_SQUARE else aspect)


def shown_aspect(container: Fraction | None, codec: Fraction | None) -> tuple[Fraction, str | None]:
    """(shape of a pixel, why it differs from the written one, or None).

    The container's value overrides the codec's, as in FFmpeg and players. A value that is 0 or missing is ignored.
    """
    said = next((each for each in (container, codec) if each and each > 0), SQUARE)
    if 1 / Fraction(MAX_PIXEL_ASPECT) <= said <= MAX_PIXEL_ASPECT:
        return said, None
    return SQUARE, (
        f"its pixels are declared as {said.numerator}:{said.denominator} (wide:high), which no camera makes: they are "
        f"taken as square. From 1:{MAX_PIXEL_ASPECT} to {MAX_PIXEL_ASPECT}:1 is accepted"
    )


def fraction_of(aspect: Any) -> Fraction | None:
    """PyAV's rational (a Fraction, or since version 19 numerator and denominator); None if it is empty."""
    if aspect is None or not aspect.denominator or aspect.numerator <= 0:
        return None
    return Fraction(aspect.numerator, aspect.denominator)


def turn_of(a: float, b: float, c: float, d: float) -> tuple[int, bool]:
    """x' = a x + c y, y' = b x + d y, with y downwards, as (degrees counter-clockwise, then mirrored left to right).

    Degrees are multiples of 90. A matrix of zeros was never set.
    """
    is_mirrored = a * d - b * c < 0
    if is_mirrored:
        a, c = -a, -c
    if a == b == 0:
        return 0, False
    return int(round(-np.degrees(np.arctan2(b, a)) / 90.0) * 90) % 360, is_mirrored
