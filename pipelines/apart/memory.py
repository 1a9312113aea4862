"""Memory that two processes share: arrays are written into it instead of being sent."""

from __future__ import annotations

import contextlib
import itertools
import math
import mmap
import os
import tempfile
import weakref
from collections import deque
from typing import Any, NamedTuple

import numpy as np


class SharedMemory(mmap.mmap):
    """Memory that another process can map through `fd`. It has no name, so nothing is left when both end."""

    fd: int
    key: int  # unique in this process

    def __new__(cls, size_bytes: int) -> SharedMemory:
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("adaptfocus-frames", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        try:
            os.ftruncate(fd, size_bytes)
            memory = super().__new__(cls, fd, size_bytes)
        except BaseException:
            os.close(fd)
            raise
        memory.fd, memory.key = fd, next(_keys)
        return memory

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.fd)


class Place(NamedTuple):
    """Where in shared memory an array lies. With the descriptor, another process needs nothing else."""

    key: int
    size_bytes: int  # of the memory
    offset_bytes: int


_keys = itertools.count()
# Fresh memory costs a page fault for each 4 KiB in both processes: 7 ms of CPU for a clip of 4.8 MB, measured.
# One batch is kept. Any thread may free one, even while another takes one, so both are single steps of a deque.
_free: deque[SharedMemory] = deque(maxlen=1)
_MAX_MAPPED = 3  # one batch in training, one waiting, one in preparation


def shared_array(shape: tuple[int, ...]) -> np.ndarray:
    """uint8 array in shared memory, uninitialised. With its last view, it is freed or kept for the next array."""
    size_bytes = max(math.prod(shape), 1)
    memory = None
    with contextlib.suppress(IndexError):
        memory = _free.pop()
    if memory is None or len(memory) != size_bytes:
        memory = SharedMemory(size_bytes)
    whole = np.frombuffer(memory, np.uint8)
    weakref.finalize(whole, _free.append, memory).atexit = False  # all its views keep `whole`
    return whole[: math.prod(shape)].reshape(shape)


def place_of(array: np.ndarray) -> tuple[int, Place] | None:
    """(descriptor, place) of an array in shared memory; None if the array is not there."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    base = base.obj if isinstance(base, memoryview) else base
    if not isinstance(base, SharedMemory):
        return None
    start = np.frombuffer(base, np.uint8, 1).__array_interface__["data"][0]
    return base.fd, Place(base.key, len(base), array.__array_interface__["data"][0] - start)


class Mapped:
    """Shared memory of another process, mapped here and kept for the next job, as the owner keeps it."""

    def __init__(self) -> None:
        self._mapped: dict[int, mmap.mmap] = {}

    def array(self, fd: int, place: Place, shape: tuple[int, ...]) -> np.ndarray:
        """The array of `shape` at `place` in the memory of `fd`."""
        memory = self._mapped.pop(place.key, None) or mmap.mmap(fd, place.size_bytes)
        self._mapped[place.key] = memory  # the most recently used comes last
        for key in [*self._mapped][:-_MAX_MAPPED]:
            del self._mapped[key]
        return np.frombuffer(memory, np.uint8, math.prod(shape), place.offset_bytes).reshape(shape)
