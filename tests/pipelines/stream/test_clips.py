"""Batches that are made ahead of time, in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from adaptfocus.pipelines.stream.threads import ahead


def is_making() -> bool:
    return any(thread.name == "clips-ahead" for thread in threading.enumerate())


def slowly() -> Iterator[int]:
    for number in range(1000):
        yield number
        time.sleep(0.2)  # like decoding, it ends after the consumer has stopped


def test_leaving_early_leaves_no_thread_behind() -> None:
    """A thread inside native code when the interpreter ends may abort the process, although its work is done."""
    items = ahead(slowly())
    assert next(items) == 0
    assert is_making()
    items.close()  # type: ignore[attr-defined]
    assert not is_making()


def test_an_error_comes_where_its_item_would() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    made = ahead(items())
    assert next(made) == 1
    with pytest.raises(OSError, match="gone"):
        next(made)
