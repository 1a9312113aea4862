"""Processes that train together. Each is forked from one that has imported what they need, which takes 5 s of a core.

That process only imports this module, and ends with the process that runs the tests. All have the environment of the
first call.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

import pytest
import torch.multiprocessing as mp

pytest.importorskip("ray")
import adaptfocus.trainers.loop.step  # noqa: F401


def in_ranks(function: Callable[..., None], count: int, *args: object) -> None:
    """Run `function(rank, *args)` in `count` processes; an error in one of them is raised here."""
    multiprocessing.set_forkserver_preload([__name__])
    mp.start_processes(function, args=args, nprocs=count, start_method="forkserver")  # type: ignore[attr-defined]
