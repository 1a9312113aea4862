"""Messages between a process and the one that decodes for it, and memory that both map.

Input: plain values, arrays, a file descriptor. Does: sends them over a socket pair as a length and a pickle (both
ends are the same program, and nothing else can reach them); maps memory that has no name. Output: the same values.
"""

from __future__ import annotations

import pickle
import socket
import struct
from typing import Any

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
