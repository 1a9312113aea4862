"""Messages between a process and the one that decodes for it, and memory that both map.

Input: plain values, arrays, a file descriptor. Does: sends them over a socket pair as a length and a pickle (both
ends are the same program, and nothing else can reach them); maps memory that has no name. Output: the same values.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import pickle
import socket
import struct
import tempfile
from typing import Any

import numpy as np

_LENGTH = struct.Struct("<Q")


def send(sock: socket.socket, message: Any, fd: int | None = None) -> None:
    """Raises OSError if nobody is there any more."""
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    socket.send_fds(sock, [_LENGTH.pack(len(data))], [] if fd is None else [fd])
    sock.sendall(data)


def receive(sock: socket.socket) -> tuple[Any, int | None]:
    """(message, descriptor that came with it, which the caller has to close).

    Raises:
        EOFError: the other end is gone.
    """
    try:
        header, fds, _, _ = socket.recv_fds(sock, _LENGTH.size, 1)
        header += _exactly(sock, _LENGTH.size - len(header)) if header else b""
        if not header:
            raise EOFError
        return pickle.loads(_exactly(sock, _LENGTH.unpack(header)[0])), (fds[0] if fds else None)
    except ConnectionError as error:
        raise EOFError from error


def _exactly(sock: socket.socket, size: int) -> bytearray:
    data, at = bytearray(size), 0
    view = memoryview(data)
    while at < size:
        got = sock.recv_into(view[at:])
        if not got:
            raise EOFError
        at += got
    return data


class SharedMemory(mmap.mmap):
    """Memory that another process can map through `fd`: without a name, so that nothing is left when both end."""

    fd: int

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
        memory.fd = fd
        return memory

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.fd)


def shared_array(shape: tuple[int, ...]) -> np.ndarray:
    """uint8 array in shared memory, black; the memory goes with its last view."""
    size_bytes = math.prod(shape)
    return np.frombuffer(SharedMemory(max(size_bytes, 1)), np.uint8, size_bytes).reshape(shape)


def place_in_memory(array: np.ndarray) -> tuple[int, int] | None:
    """(descriptor, offset in bytes) of an array that lies in shared memory; None if it does not."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    base = base.obj if isinstance(base, memoryview) else base
    if not isinstance(base, SharedMemory):
        return None
    start = np.frombuffer(base, np.uint8, 1).__array_interface__["data"][0]
    return base.fd, array.__array_interface__["data"][0] - start


def mapped(fd: int, offset_bytes: int, shape: tuple[int, ...]) -> np.ndarray:
    """The array of `shape` at a place of shared memory; only the pages that hold it are mapped."""
    before = offset_bytes % mmap.ALLOCATIONGRANULARITY
    size_bytes = math.prod(shape)
    pages = mmap.mmap(fd, before + size_bytes, offset=offset_bytes - before)
    return np.frombuffer(pages, np.uint8, size_bytes, before).reshape(shape)
