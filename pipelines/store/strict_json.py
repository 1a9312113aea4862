"""JSON written and read strictly: no NaN, no repeated keys, and errors that name the place."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.store import objects


def loads(data: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON or not UTF-8, it is nested too deeply, a number has thousands of digits, or a name
            occurs twice in one object.
    """
    try:
        return json.loads(data, object_pairs_hook=_object, parse_int=_whole)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ValueError(f"byte {error.start} (0x{byte:02x}) is not UTF-8; save it as UTF-8") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read(url: str, fix: str) -> dict[str, Any]:
    """The object in a file that this program wrote.

    Args:
        fix: what to do if the file is damaged.

    Raises:
        InputError: it is not a JSON object.
        StorageError: it cannot be read.
    """
    try:
        content = loads(objects.read_bytes(url))
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
    except ValueError as error:
        raise InputError(f"{url} is damaged ({error}); {fix}") from None
    return content


def read_versioned(url: str, latest: int, fix: str, fix_if_newer: str = "update adaptfocus") -> dict[str, Any]:
    """`read` for a file that states its `schema_version`.

    Args:
        latest: the newest version that this program knows.

    Raises:
        InputError: it is damaged, or of a newer version.
        StorageError: it cannot be read.
    """
    content = read(url, fix)
    try:
        version = int(content["schema_version"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{url} is damaged; {fix}") from None
    if version > latest:
        raise InputError(
            f"{url} has schema version {version}, this version of adaptfocus knows {latest}; {fix_if_newer}"
        )
    return content


def _whole(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # Python's limit, whose advice does not help here
        raise ValueError(f"a number has {len(digits):,} digits; correct it") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{twice!r:.200} occurs twice in one object; keep one of them")
    return found


def json_text(value: Any, **how: Any) -> str:
    """`json.dumps`, with null for numbers that are not finite: these are undefined values."""
    return json.dumps(_defined(value), allow_nan=False, **how)


def _defined(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _defined(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(each) for each in value]
    return value
