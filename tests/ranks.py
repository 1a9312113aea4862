"""Processes that train together, each forked from one that has imported what they need: importing takes a core 5 s.

That one imports this module, does nothing else, and ends with the process that runs the tests. Its environment is that
of the first call, and so is theirs.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

import pytest
import torch.multiprocessing as mp

pytest.importorskip("ray")
import adaptfocus.trainers.loop.step  # noqa: F401


def in_ranks(function: Callable[..., None], count: int, *args: object) -> None:
    """`function(rank, *args)` in `count` processes of their own; what one of them raises is raised here."""
    multiprocessing.set_forkserver_preload([__name__])
    mp.start_processes(function, args=args, nprocs=count, start_method="forkserver")  # type: ignore[attr-defined]
