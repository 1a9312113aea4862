"""A Ray cluster as a user starts it, with `ray start`: a head and other nodes, all on this machine.

It uses free ports, and its files lie in a folder of the test, so that it can run next to other clusters here. Nodes do
not get this checkout on their path, so only code that comes with a job runs there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 120.0
HOST = "127.0.0.1"


class RayHead:
    """`with RayHead(folder, environment) as head: head.add_node(6, "adaptfocus/role=decode")`."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = _of_node(environment)
        self.port, self.dashboard_port, client_port = free_ports(3)
        self._client_port = client_port
        # Not in the test's own folder: a socket's path may have 107 characters.
        self.temporary = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
        self._processes: list[subprocess.Popen] = []

    @property
    def dashboard_url(self) -> str:
        return f"http://{HOST}:{self.dashboard_port}"

    def __enter__(self) -> RayHead:
        try:
            self._start(
                "head", "--head", f"--port={self.port}", f"--dashboard-port={self.dashboard_port}", "--num-cpus=0",
                f"--ray-client-server-port={self._client_port}", f"--temp-dir={self.temporary.name}",
            )  # fmt: skip
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.stop()

    def add_node(self, cpus: int, labels: str = "") -> None:
        self._start("node", f"--address={HOST}:{self.port}", f"--num-cpus={cpus}", f"--labels={labels}")

    def stop(self) -> None:
        """End every process of this cluster. `ray stop` would also end other clusters on this machine."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes = []
        self.temporary.cleanup()

    def _start(self, name: str, *options: str) -> None:
        (agent_port,) = free_ports(1)
        log = self.folder / f"{name}-{len(self._processes)}.log"
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", f"--node-ip-address={HOST}"]
        command += [f"--dashboard-agent-listen-port={agent_port}", "--object-store-memory=200000000"]
        with log.open("w") as out:
            process = subprocess.Popen(
                [*command, *options], env=self.environment, cwd=self.folder, stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        deadline = time.monotonic() + START_SECONDS
        while "Ray runtime started" not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"`ray start` did not come up:\n{log.read_text()}")
            time.sleep(0.2)


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


def _of_node(environment: Mapping[str, str]) -> dict[str, str]:
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    return {
        "RAY_AUTH_MODE": "disabled",
        **environment,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(p for p in paths if p and Path(p).resolve() != ROOT),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
