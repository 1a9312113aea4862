"""The process that decodes for another process, so that a bad video cannot harm the job.

It gets jobs over a socket, one at a time: a bag (clips of one video) to decode into memory that both processes map,
windows of a video, or a video to index. It does what `decode.bag`, `decode.windows` and `inspection` do in the job's
own process, and answers with the result or the error. It has no credentials and reads no store: it asks the other
process for bytes of members, and the deadline does not count the time until they come. It ends when the other process
ends, however that happens.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

from adaptfocus.pipelines.apart.memory import Mapped, Place
from adaptfocus.pipelines.apart.messages import receive, send
from adaptfocus.pipelines.decode.bag import PacketRun, decode_into
from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.errors import BadVideoError, ConfigError
from adaptfocus.pipelines.store.range_file import RangeFile

# When memory runs out, the kernel ends this process first: it can be restarted, a trainer cannot.
OOM_SCORE = 800

_mapped = Mapped()
_filler: Any = None  # the video whose windows are being made


class AskedFile(RangeFile):
    """A member whose bytes the other process fetches."""

    def __init__(self, sock: socket.socket, size_bytes: int, block_bytes: int, max_blocks: int) -> None:
        super().__init__("", 0, size_bytes, block_bytes, max_blocks)
        self._sock = sock

    def read_range(self, offset_bytes: int, size_bytes: int) -> bytes:
        self.requests += 1
        send(self._sock, ("read", offset_bytes, size_bytes))
        return receive(self._sock)[0]

    def read_two(self, one: tuple[int, int], other: tuple[int, int]) -> list[bytes]:
        self.requests += 2
        send(self._sock, ("read_two", one, other))
        return receive(self._sock)[0]


def main(fd: int, life_fd: int) -> None:
    """Serve jobs until the other end is gone.

    Args:
        fd: descriptor of our end of the socket pair.
        life_fd: descriptor of a pipe; only the other process holds the other end.
    """
    _end_with_the_other(life_fd)
    sock = socket.socket(fileno=fd)
    base_bytes = _private_bytes()
    with contextlib.suppress(EOFError, BrokenPipeError):
        send(sock, ("ready",))
        while True:
            (work, values, memory_bytes), memory = receive(sock)
            _limit_memory(base_bytes, memory_bytes)
            send(sock, _answer(sock, work, values, memory))


def _answer(sock: socket.socket, work: str, values: dict[str, Any], memory: int | None) -> tuple:
    try:
        return ("done", {"decode": _decode, "windows": _windows, "index": _index}[work](sock, memory, **values))
    except (EOFError, BrokenPipeError):
        raise
    except BadVideoError as error:
        if isinstance(error.__cause__ or error.__context__, MemoryError):
            return ("memory", str(error))
        return ("bad", error.kind, str(error))
    except MemoryError as error:
        return ("memory", str(error) or type(error).__name__)
    except ConfigError as error:
        return ("config", str(error))
    except Exception:
        return ("error", traceback.format_exc())
    finally:
        if memory is not None:
            os.close(memory)


def _decode(
    sock: socket.socket,
    memory: int,
    bag: dict[str, Any],
    runs: list[PacketRun],
    decode: DecodeConfig,
    place: Place,
    shape: tuple[int, ...],
) -> None:
    def open_member() -> RangeFile:
        return AskedFile(sock, bag["member_size_bytes"], *bag["blocks"])

    decode_into(bag, runs, decode, _mapped.array(memory, place, shape), open_member)


def _windows(sock: socket.socket, memory: int, begin: dict[str, Any] | None, place: Place, shape: tuple) -> Any:
    """The next windows of a video. `begin` describes the video; it comes with the video's first job only."""
    from adaptfocus.pipelines.decode.filler import FileSource, Filler
    from adaptfocus.pipelines.decode.window_jobs import dense_job

    global _filler
    if begin is not None:
        video = begin["video"]
        file = AskedFile(sock, video["member_size_bytes"], *begin["blocks"])
        file.offset_bytes = video["member_offset_bytes"]
        job = dense_job(video, decode=begin["decode"], **begin["windows"]).after(begin["done"])
        _filler = Filler(job, FileSource(file))
    filled = _filler.fill(_mapped.array(memory, place, shape))
    if filled.is_over:
        _filler = None
    return filled


def _index(sock: socket.socket, _: None, size_bytes: int, head: bytes, blocks: tuple[int, int]) -> Any:
    from adaptfocus.pipelines.inspection.packet_table import read_packet_table  # most of these processes only decode

    return read_packet_table(AskedFile(sock, size_bytes, *blocks), size_bytes, head)  # type: ignore[arg-type]


def _end_with_the_other(life_fd: int) -> None:
    """Let the kernel end this process when the pipe's other end closes, whatever a native decoder is doing.

    A signal at the parent's death (PR_SET_PDEATHSIG) would already come when the thread that started us ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal: the other process decides
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(life_fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life_fd, fcntl.F_SETFL, fcntl.fcntl(life_fd, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        if os.read(life_fd, 1) == b"":  # the other process ended before we were ready
            sys.exit(0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))


def _private_bytes() -> int | None:
    """Bytes of writable private memory of this process; None if the kernel does not report it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData")), None)


def _limit_memory(base_bytes: int | None, memory_bytes: int) -> None:
    """Limit memory to `memory_bytes` above what the libraries take; shared memory does not count."""
    if base_bytes is not None:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        wanted = base_bytes + memory_bytes
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
