"""Decoding in another process, so that no video can hang, crash or fill the process that trains.

A bag (clips of one video) or a video to index goes to a process that is kept for the next job. A process may be too
late, die or run out of memory. Only a fresh process's failure is blamed on the video, because earlier jobs may have
damaged an older one. The job is therefore done once more in a fresh process before it raises BadVideoError.
docs/decisions/0013 has the reasons and the cost.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adaptfocus.pipelines.apart.memory import place_of, shared_array
from adaptfocus.pipelines.apart.process import DecoderProcess, DiedError, TooLateError
from adaptfocus.pipelines.decode.bag import check_out, reads_member, runs_of
from adaptfocus.pipelines.decode.settings import DecodeConfig, Isolation
from adaptfocus.pipelines.errors import AdaptFocusError, BadVideoError, ConfigError
from adaptfocus.pipelines.store.range_file import RangeFile, open_member
from adaptfocus.pipelines.video.display import DISPLAY_COLUMNS
from adaptfocus.pipelines.video.table import PacketTable

# Per packet, far above the slowest usual case: 8K AV1 takes about 0.2 s a frame on one core.
PACKET_SECONDS = 0.25
# Assumed packets of a clip that a demuxer reads, whose number is unknown: a GOP of 10 s at 30 Hz.
DEMUXED_PACKETS = 300
# Demuxing a whole video runs at 100 MB/s or more.
INDEX_BYTES_A_SECOND = 4e6
TRIES_IF_KILLED = 3
DECORD_COPIES = 3  # copies of a member during the handover

_BAG = ("codec", "extradata", *DISPLAY_COLUMNS, "access", "keys_in_order", "member_size_bytes", "clips")


def decode_clips_apart(
    bag: Mapping[str, Any],
    data: Sequence[bytes],
    size_pixels: int,
    decode: DecodeConfig,
    out: np.ndarray,
    isolation: Isolation,
) -> None:
    """`decode.decode_clips` in another process. Frames in an array of `memory.shared_array` are not copied.

    Raises:
        BadVideoError: as there; decode_deadline, decoder_died, decoder_out_of_memory.
        ConfigError, StorageError: as there.
        AdaptFocusError: something outside ends the decoding processes.
    """
    check_out(bag, size_pixels, decode, out)
    found = place_of(out)
    target = out if found else shared_array(out.shape)
    found = found or place_of(target)
    assert found is not None
    fd, place = found
    values: dict[str, Any] = {name: bag[name] for name in _BAG}
    member, memory_bytes, runs = None, isolation.memory_bytes, []
    if reads_member(bag, decode.backend):
        member = open_member(bag)
        values |= {"blocks": (member.block_bytes, member.max_blocks)}
        packets = DEMUXED_PACKETS * len(bag["clips"])
        memory_bytes += DECORD_COPIES * bag["member_size_bytes"] if decode.backend == "decord" else 0
    else:
        runs = runs_of(bag, data)  # here: the process would have to import Arrow for it
        packets = sum(len(run.packets) for run in runs)
    job = {"bag": values, "runs": runs, "decode": decode, "place": place, "shape": out.shape}
    seconds = isolation.deadline_seconds + PACKET_SECONDS * packets
    _done("decode", job, fd, seconds, memory_bytes, member, "decode_deadline")
    if target is not out:
        out[:] = target


def read_packet_table_apart(file: RangeFile, size_bytes: int, head: bytes, isolation: Isolation) -> PacketTable:
    """`inspection.packet_table.read_packet_table` in another process.

    Raises:
        BadVideoError: as there; index_deadline, decoder_died, decoder_out_of_memory.
        StorageError: the bytes cannot be fetched.
        AdaptFocusError: something outside ends the decoding processes.
    """
    job = {"size_bytes": size_bytes, "head": head, "blocks": (file.block_bytes, file.max_blocks)}
    seconds = isolation.deadline_seconds + size_bytes / INDEX_BYTES_A_SECOND
    return _done("index", job, None, seconds, isolation.memory_bytes, file, "index_deadline")


class JobFailedError(Exception):
    """A process did not finish its job, and is gone. `killed`: from outside, so the job is not to blame."""

    def __init__(self, failure: BadVideoError, killed: bool = False) -> None:
        super().__init__(str(failure))
        self.failure, self.killed = failure, killed


def _done(
    work: str,
    values: dict[str, Any],
    fd: int | None,
    seconds: float,
    memory_bytes: int,
    member: RangeFile | None,
    deadline_kind: str,
) -> Any:
    """A job's result; the job is repeated in a fresh process if the first failure does not count."""
    fresh, killed = False, 0
    while True:
        process = take(fresh)
        is_fresh, fresh = process.jobs == 0, True
        try:
            answer = ask(process, (work, values, memory_bytes), fd, seconds, member, deadline_kind)
        except JobFailedError as failed:
            killed += failed.killed
            check(failed, is_fresh, killed)
            continue
        give_back(process)
        return result_of(answer)


def ask(
    process: DecoderProcess,
    job: tuple[str, dict[str, Any], int],
    fd: int | None,
    seconds: float,
    member: RangeFile | None,
    deadline_kind: str,
) -> tuple:
    """A process's answer to a job (work, values, bytes of memory).

    Raises:
        JobFailedError: the process was too late, died or ran out of memory.
        StorageError: the member cannot be read; the process is gone too.
    """
    try:
        answer = process.ask(job, fd, seconds, member)
    except TooLateError:
        text = f"it was not done after {seconds:g} s; raise placement.decode_deadline_seconds to allow more"
        raise JobFailedError(BadVideoError(deadline_kind, text)) from None
    except DiedError as error:
        raise JobFailedError(BadVideoError("decoder_died", str(error)), error.killed) from None
    if answer[0] == "memory":
        process.end()
        text = f"{answer[1]}; it may take {job[2] / 2**20:,.0f} MiB (placement.decode_memory_mib)"
        raise JobFailedError(BadVideoError("decoder_out_of_memory", text))
    return answer


def check(failed: JobFailedError, is_fresh: bool, killed: int) -> None:
    """Raise the error for a failure that counts; return if the job is to be repeated.

    Args:
        is_fresh: whether this was the process's first job.
        killed: number of the job's processes that were ended from outside.

    Raises:
        BadVideoError: the verdict.
        AdaptFocusError: something outside ends the decoding processes.
    """
    if failed.killed and killed >= TRIES_IF_KILLED:
        raise AdaptFocusError(
            f"{killed} decoding processes were ended from outside, the last by {failed}; if the machine is out "
            "of memory, lower placement.decode_workers"
        ) from None
    if is_fresh and not failed.killed:
        raise failed.failure from None


def result_of(answer: tuple) -> Any:
    """A job's result. Raises the job's own BadVideoError or ConfigError; the process can be used again."""
    if answer[0] == "done":
        return answer[1]
    if answer[0] == "bad":
        raise BadVideoError(*answer[1:])
    if answer[0] == "config":
        raise ConfigError(answer[1])
    raise RuntimeError(f"the decoding process failed with an unexpected error:\n{answer[1]}")


# Processes that wait for a job. The last used is taken first, so there are as many as threads decode at a time.
_idle: list[DecoderProcess] = []
_alive: weakref.WeakSet[DecoderProcess] = weakref.WeakSet()
_lock = threading.Lock()


def take(fresh: bool) -> DecoderProcess:
    """A process that waits for a job, or a new one."""
    with _lock:
        if _idle and not fresh:
            return _idle.pop()
    process = DecoderProcess()
    _alive.add(process)
    return process


def give_back(process: DecoderProcess) -> None:
    """Keep a process for the next job."""
    with _lock:
        _idle.append(process)


def end_idle() -> None:
    """End the processes that wait for a job; new ones are started when they are needed."""
    with _lock:
        ended = [*_idle]
        _idle.clear()
    for process in ended:
        process.end()


def _forget() -> None:
    """In a fork: the processes belong to the parent, and our copies of the pipes would keep them alive after it."""
    global _lock
    _lock = threading.Lock()
    for process in _alive:
        process.let_go()
    _idle.clear()


atexit.register(end_idle)
os.register_at_fork(after_in_child=_forget)
