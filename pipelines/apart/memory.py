"""Memory that two processes share: arrays are written into it and not sent."""

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
    """Memory that another process can map through `fd`: without a name, so that nothing is left when both end."""

    fd: int
    key: int  # its own in this process

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
    """Where in shared memory an array lies; with its descriptor, all that another process needs."""

    key: int
    size_bytes: int  # of the memory
    offset_bytes: int


_keys = itertools.count()
# Fresh memory costs a fault for each 4 KiB, of both processes: 7 ms of CPU a clip of 4.8 MB, measured.
# One batch is kept. It may be let go in any thread, even in the midst of taking one, so both are one step of a deque.
_free: deque[SharedMemory] = deque(maxlen=1)
_MAX_MAPPED = 3  # a batch that trains, one that waits, one that is being made


def shared_array(shape: tuple[int, ...]) -> np.ndarray:
    """uint8 array in shared memory, not initialised; with its last view the memory goes, or is kept for the next."""
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
    """(descriptor, place) of an array that lies in shared memory; None if it does not."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    base = base.obj if isinstance(base, memoryview) else base
    if not isinstance(base, SharedMemory):
        return None
    start = np.frombuffer(base, np.uint8, 1).__array_interface__["data"][0]
    return base.fd, Place(base.key, len(base), array.__array_interface__["data"][0] - start)


class Mapped:
    """Shared memory of another process, mapped here; kept for the next job, as the other keeps it for its own."""

    def __init__(self) -> None:
        self._mapped: dict[int, mmap.mmap] = {}

    def array(self, fd: int, place: Place, shape: tuple[int, ...]) -> np.ndarray:
        """The array of `shape` at a place of the memory behind `fd`."""
        memory = self._mapped.pop(place.key, None) or mmap.mmap(fd, place.size_bytes)
        self._mapped[place.key] = memory  # the last used is the last
        for key in [*self._mapped][:-_MAX_MAPPED]:
            del self._mapped[key]
        return np.frombuffer(memory, np.uint8, math.prod(shape), place.offset_bytes).reshape(shape)
