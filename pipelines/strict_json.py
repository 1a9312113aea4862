"""JSON as people write it by hand, read strictly.

Input: bytes or text. Does: parses it; a name that an object has twice is an error, not a silent choice of the last.
Output: plain values, or a ValueError that says in one line what is wrong.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any


def loads(data: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON or not UTF-8, it is nested too deeply, or a name occurs twice in one object.
    """
    try:
        return json.loads(data, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ValueError(f"byte {error.start} (0x{byte:02x}) is not UTF-8; save it as UTF-8") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{twice!r:.200} occurs twice in one object; keep one of them")
    return found
