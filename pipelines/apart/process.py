"""A decoding process as its owner sees it: started, given jobs, waited for, ended.

Input: jobs. Does: starts the process, answers its requests for bytes, keeps the deadline.
Output: what a job gives; TooLateError or DiedError if it does not, after which the process is gone.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import adaptfocus
from adaptfocus.pipelines.apart.messages import receive, send
from adaptfocus.pipelines.store.range_file import RangeFile

START_SECONDS = 120  # it takes 0.2 s; on a machine that is out of memory, long
_ROOT = str(Path(adaptfocus.__file__).resolve().parents[1])
_PROGRAM = "import sys; from adaptfocus.pipelines.apart.child import main; main(int(sys.argv[1]), int(sys.argv[2]))"
_LOOKS, _LOOK_SECONDS = 10, 0.02  # at a process that is past its time


class TooLateError(Exception):
    """The process did not answer in its time."""


class DiedError(Exception):
    """The process ended inside a job. `killed`: from outside, which says nothing about the job."""

    def __init__(self, message: str, killed: bool) -> None:
        super().__init__(message)
        self.killed = killed


class DecoderProcess:
    """One process; used by one thread at a time."""

    def __init__(self) -> None:
        self.jobs = 0
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        life, self._life = os.pipe()
        # Credentials are for the store, which this process does not read.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        path = [_ROOT, environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), str(life)],
                stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(), life), env=environment,
            )  # fmt: skip
        os.close(life)
        self._sock = ours
        self._waits = selectors.PollSelector()  # takes no file of its own, and any number of others may be open
        self._waits.register(ours, selectors.EVENT_READ)
        try:
            self._answer(START_SECONDS, START_SECONDS)
        except (TooLateError, DiedError) as error:
            self.end()
            raise RuntimeError(
                f"a process to decode in did not start ({error}); what it wrote to standard error says why. "
                "placement.isolate_decoding=false decodes without one"
            ) from None

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, job: tuple, fd: int | None, seconds: float, member: RangeFile | None) -> tuple:
        """A job's answer; requests for bytes of `member` are served meanwhile, and do not count as its time.

        Raises:
            TooLateError, DiedError: the process is gone then.
            StorageError: the member cannot be read.
        """
        self.jobs += 1
        cpu_seconds, left_seconds = (_cpu_seconds(self.pid) or 0.0) + seconds, seconds
        try:
            self._send(job, fd)
            while True:
                began = time.monotonic()
                answer = self._answer(left_seconds, cpu_seconds)
                if answer[0] not in ("read", "read_two") or member is None:
                    return answer
                left_seconds -= time.monotonic() - began
                read = member.read_range if answer[0] == "read" else member.read_two
                self._send(read(*answer[1:]))
        except BaseException:
            self.end()
            raise

    def _send(self, message: Any, fd: int | None = None) -> None:
        try:
            send(self._sock, message, fd)
        except OSError:
            raise self._died() from None

    def _answer(self, seconds: float, cpu_seconds: float) -> tuple:
        """The next message, within `seconds`; within more if the process has not had `cpu_seconds` in all by then."""
        wait = max(seconds, 0.0)
        while not self._waits.select(wait):
            if self._has_had(cpu_seconds):
                raise TooLateError
            wait = _LOOKS * _LOOK_SECONDS
        try:
            return receive(self._sock)[0]
        except EOFError:
            raise self._died() from None

    def _has_had(self, cpu_seconds: float) -> bool:
        """Whether the process has had its time: a machine with other work, or one that slept, gives it less.

        It counts as had if it was spent on a core, or if the process does not ask for one.
        """
        now = _cpu_seconds(self.pid)
        if now is None or now >= cpu_seconds:
            return True
        for _ in range(_LOOKS):
            if _state(self.pid) == "R":
                return False
            time.sleep(_LOOK_SECONDS)
        return True

    def _died(self) -> DiedError:
        """How it ended. A process whose socket is closed is ending."""
        try:
            code = self._process.wait(10)
        except subprocess.TimeoutExpired:
            return DiedError("it closed its socket", killed=False)
        if code >= 0:
            return DiedError(f"exit code {code}", killed=False)
        return DiedError(f"signal {signal.Signals(-code).name}", killed=-code in (signal.SIGKILL, signal.SIGTERM))

    def end(self) -> None:
        """End it now."""
        self._process.kill()
        self._process.wait()
        self.let_go()

    def let_go(self) -> None:
        """Close our ends: the process ends by itself. All that a fork of this process may do with its copies."""
        self._sock.close()
        if self._life >= 0:
            os.close(self._life)
        self._life = -1


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat behind the program's name; None where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _cpu_seconds(pid: int) -> float | None:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else None


def _state(pid: int) -> str:
    fields = _stat(pid)
    return fields[0] if fields else ""
