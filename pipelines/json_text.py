"""JSON that every reader takes: RFC 8259 has no NaN and no infinity.

Input: plain values. Does: writes null where a number is undefined. Output: text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def json_text(value: Any, **how: Any) -> str:
    """As `json.dumps`, with null in the place of a number that is not finite: where a value is undefined."""
    return json.dumps(_defined(value), allow_nan=False, **how)


def _defined(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _defined(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(each) for each in value]
    return value
