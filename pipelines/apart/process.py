"""A decoding process as its owner sees it: started, given jobs, watched, ended.

The owner answers the process's requests for bytes and keeps the deadline. A job that gives no result raises
TooLateError or DiedError, and the process is then gone.
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

START_SECONDS = 120  # usually 0.2 s, but long on a machine that is out of memory
_ROOT = str(Path(adaptfocus.__file__).resolve().parents[1])
_PROGRAM = "import sys; from adaptfocus.pipelines.apart.child import main; main(int(sys.argv[1]), int(sys.argv[2]))"
_LOOKS, _LOOK_SECONDS = 10, 0.02  # checks of a process that is past its deadline


class TooLateError(Exception):
    """The process did not answer in time."""


class DiedError(Exception):
    """The process ended inside a job. `killed`: it was ended from outside, so the job is not to blame."""

    def __init__(self, message: str, killed: bool) -> None:
        super().__init__(message)
        self.killed = killed


class DecoderProcess:
    """One decoding process, used by one thread at a time."""

    def __init__(self) -> None:
        self.jobs = 0
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        life, self._life = os.pipe()
        # No credentials: this process does not read the store.
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
        self._waits = selectors.PollSelector()  # opens no file itself, and works with any number of open files
        self._waits.register(ours, selectors.EVENT_READ)
        try:
            self._answer(START_SECONDS, START_SECONDS)
        except (TooLateError, DiedError) as error:
            self.end()
            raise RuntimeError(
                f"the decoding process did not start ({error}); its standard error says why. "
                "To decode without one, set placement.isolate_decoding=false"
            ) from None

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, job: tuple, fd: int | None, seconds: float, member: RangeFile | None) -> tuple:
        """A job's answer. Requests for bytes of `member` are served meanwhile, and do not count against the deadline.

        Raises:
            TooLateError, DiedError: the job failed, and the process is gone.
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
        """The next message within `seconds`, or later if the process has not had `cpu_seconds` of CPU by then."""
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
        """Whether the process has had its CPU time. A busy machine, or one that slept, gives it less.

        The time counts if it was spent on a core, or if the process does not ask for a core.
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
        """How the process ended. A process that closed its socket is about to end."""
        try:
            code = self._process.wait(10)
        except subprocess.TimeoutExpired:
            return DiedError("it closed its socket", killed=False)
        if code >= 0:
            return DiedError(f"exit code {code}", killed=False)
        return DiedError(f"signal {signal.Signals(-code).name}", killed=-code in (signal.SIGKILL, signal.SIGTERM))

    def end(self) -> None:
        """End the process now."""
        self._process.kill()
        self._process.wait()
        self.let_go()

    def let_go(self) -> None:
        """Close our ends, so that the process ends itself. A fork of this process must do no more with its copies."""
        self._sock.close()
        if self._life >= 0:
            os.close(self._life)
        self._life = -1


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the program's name; None if the file does not exist."""
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
