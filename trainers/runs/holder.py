"""The process that trains a run at the moment: `holder.json` in its folder, which that process signs repeatedly.

A second command that would take a run from a living process gets an error. This only prevents mistakes: the run's log
keeps its commits a single line (docs/decisions/0002). A holder on this machine is dead as soon as its process is gone.
A holder on another machine is dead if it does not sign for DEAD_SECONDS. This machine watches for that long, so that
the clocks of two machines need not agree.
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
from adaptfocus.pipelines.store import strict_json

SIGN_SECONDS = 5.0
DEAD_SECONDS = 30.0
LONG_DEAD_SECONDS = 300.0  # no two clocks differ by this much: such a holder is not even watched


class HeldError(AdaptFocusError):
    """Another process trains the run."""


@dataclass(frozen=True)
class Holder:
    """One process that trains a run."""

    host: str
    boot: str  # identifies the boot of the machine, and the container
    pid: int
    started: str  # of the process, as the kernel counts: it distinguishes processes that reuse a pid
    since: float  # wall clock, seconds since 1970
    signed: float = 0.0
    ended: float | None = None  # when it released the run

    def said(self) -> str:
        since = datetime.fromtimestamp(self.since, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"process {self.pid} on {self.host}, since {since}"


def holder_url(run_url: str) -> str:
    return store.join(run_url, "holder.json")


def read_holder(run_url: str) -> Holder | None:
    """The holder that signed last; None if nobody has signed, or the note is not in this version's format."""
    url = holder_url(run_url)
    try:
        holder = Holder(**strict_json.loads(store.read_bytes(url))) if store.exists(url) else None
        if holder and all(0 <= each < 1e11 for each in (holder.since, holder.signed, holder.ended or 0.0)):
            return holder
    except (ValueError, TypeError):
        pass
    return None


def seems_alive(holder: Holder, now: float) -> bool:
    """Whether a holder seems alive by this machine's clock, without watching it. A list of runs shows this."""
    if holder.ended is not None:
        return False
    here = _alive_here(holder)
    return now - holder.signed < 2 * DEAD_SECONDS if here is None else here


def check_free(run_url: str, waits: Callable[[str], object] = lambda _: None) -> None:
    """Check that nobody trains the run. This takes up to DEAD_SECONDS if another machine has signed recently.

    Args:
        waits: called with a line that says what the wait is for.

    Raises:
        HeldError: another process trains the run.
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
            f"{run_url} is being trained by {holder.said()}. Stop that one first (Ctrl-C or SIGTERM), or give "
            "--take-over: this command then resumes from the last commit, and the other stops"
        )


@contextlib.contextmanager
def hold_run(run_url: str) -> Iterator[None]:
    """Sign for this process as long as the block lasts, unless another process signs in its place."""
    own, over = replace(_this_process(), since=time.time()), threading.Event()
    _sign(run_url, own)

    def keep_signing() -> None:
        while not over.wait(SIGN_SECONDS):
            with contextlib.suppress(Exception):  # a failed note must not end a run
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
    """Whether a holder signs within DEAD_SECONDS."""
    deadline = time.monotonic() + DEAD_SECONDS
    while time.monotonic() < deadline:
        time.sleep(min(1.0, DEAD_SECONDS / 10))
        with contextlib.suppress(StorageError):
            now = read_holder(run_url)
            if now is not None and now != before:
                return now.ended is None
    return False


def _alive_here(holder: Holder) -> bool | None:
    """Whether the process exists; None if it is on another machine."""
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
    """An identifier of this boot and this container's processes. Machines may share a host name."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def _started(pid: int) -> str | None:
    """When a process of this machine was started; None if it is gone, or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]
