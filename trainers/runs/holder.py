"""Who trains a run at the moment: a note in its folder, which the command that trains signs again and again.

Input: a run's folder. Does: looks whether the one who signed is still there; signs from a thread of its own.
Output: `holder.json`; an error for a second command that would take a living run from the first.

It keeps mistakes away, and no more than that: what makes a run's commits one line is its log (docs/decisions/0002). A
holder on this machine is dead as soon as its process is gone. One elsewhere is dead when it has not signed for
DEAD_SECONDS: this machine watches that long, so that the clocks of two machines need not agree.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import AdaptFocusError, StorageError

SIGN_SECONDS = 5.0
DEAD_SECONDS = 30.0
LONG_DEAD_SECONDS = 300.0  # no two clocks are that far apart: not even watched


class HeldError(AdaptFocusError):
    """Another process trains the run."""


@dataclass(frozen=True)
class Holder:
    """One process that trains a run."""

    host: str
    boot: str  # of the machine, or its container
    pid: int
    started: str  # of the process, as the kernel counts: a number that is used again is another process
    since: float  # wall clock, seconds since 1970
    signed: float = 0.0
    ended: float | None = None  # when it let go

    def said(self) -> str:
        since = datetime.fromtimestamp(self.since, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"process {self.pid} on {self.host}, since {since}"


def holder_url(run_url: str) -> str:
    return store.join(run_url, "holder.json")


def read_holder(run_url: str) -> Holder | None:
    """Who has signed last; None if nobody has, or the note is none of this version's."""
    url = holder_url(run_url)
    try:
        return Holder(**json.loads(store.read_bytes(url))) if store.exists(url) else None
    except (ValueError, TypeError):
        return None


def seems_alive(holder: Holder, now: float) -> bool:
    """At a glance, by this machine's clock: what a list of runs shows."""
    if holder.ended is not None:
        return False
    here = _alive_here(holder)
    return now - holder.signed < 2 * DEAD_SECONDS if here is None else here


def check_free(run_url: str, waits: Callable[[str], object] = lambda _: None) -> None:
    """Nobody trains the run. Takes up to DEAD_SECONDS where somebody on another machine has signed of late.

    Args:
        waits: told whom the wait is for.

    Raises:
        HeldError: somebody does.
    """
    holder = read_holder(run_url)
    if holder is None or holder.ended is not None or time.time() - holder.signed > LONG_DEAD_SECONDS:
        return
    here = _alive_here(holder)
    if here is None:
        waits(f"looking for up to {DEAD_SECONDS:.0f} s whether {holder.said()} still trains {run_url}")
        here = _signs(run_url, holder)
    if here:
        raise HeldError(
            f"{run_url} is being trained by {holder.said()}. Stop that one first (Ctrl-C or SIGTERM), or say "
            "--take-over: this command then goes on from the last commit, and the other stops"
        )


@contextlib.contextmanager
def hold_run(run_url: str) -> Iterator[None]:
    """Sign for this process for as long as the block lasts, unless another process signs over it."""
    own, over = replace(_this_process(), since=time.time()), threading.Event()
    _sign(run_url, own)

    def keep_signing() -> None:
        while not over.wait(SIGN_SECONDS):
            with contextlib.suppress(Exception):  # a note is not worth a run
                if not _is_own(run_url, own):
                    return
                _sign(run_url, own)

    thread = threading.Thread(target=keep_signing, daemon=True, name="holder")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5)
        with contextlib.suppress(Exception):
            if _is_own(run_url, own):
                _sign(run_url, replace(own, ended=time.time()))


def _signs(run_url: str, before: Holder) -> bool:
    """Whether somebody signs within DEAD_SECONDS."""
    deadline = time.monotonic() + DEAD_SECONDS
    while time.monotonic() < deadline:
        time.sleep(min(1.0, DEAD_SECONDS / 10))
        with contextlib.suppress(StorageError):
            now = read_holder(run_url)
            if now is not None and now != before:
                return now.ended is None
    return False


def _alive_here(holder: Holder) -> bool | None:
    """Whether the process is there; None if it is on another machine."""
    if (holder.host, holder.boot) != (socket.gethostname(), _boot()):
        return None
    return _started(holder.pid) == holder.started


def _is_own(run_url: str, own: Holder) -> bool:
    now = read_holder(run_url)
    return now is None or (now.host, now.pid, now.since) == (own.host, own.pid, own.since)


def _sign(run_url: str, holder: Holder) -> None:
    store.write_bytes(holder_url(run_url), json.dumps(asdict(replace(holder, signed=time.time()))).encode())


def _this_process() -> Holder:
    return Holder(socket.gethostname(), _boot(), os.getpid(), _started(os.getpid()) or "", time.time())


def _boot() -> str:
    """What tells this kernel, and this container's processes, from others that have the same name."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def _started(pid: int) -> str | None:
    """When a process of this machine was started; None if it is gone, or dead and not yet buried."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]
