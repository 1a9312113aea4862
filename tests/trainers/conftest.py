"""Fixtures that tests of large models share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


def _one_thread() -> Iterator[None]:
    """Small layers in two threads wait for each other; on a busy machine they take seven times as long as in one.

    Sums of several threads also differ in their last bit from run to run, and AdamW makes the difference larger.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


one_thread = pytest.fixture(_one_thread)
one_thread_for_all = pytest.fixture(_one_thread, scope="module")  # before other fixtures of a module
