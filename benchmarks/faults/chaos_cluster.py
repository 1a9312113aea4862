"""A Ray cluster of several nodes on this machine, the training command on it, and ways to kill their parts.

Each node is a raylet. The command is started as a user would start it. Workers, nodes, the command or everything can be
SIGKILLed, and a node can be taken away with a notice, as a spot market does. The S3 server outlives them all.

Each training node has one unit of the resource `train`, and the head decodes, so each rank has its own node.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml

from adaptfocus.trainers.settings.run import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
HEAD_CPUS = 8
NODE_CPUS = 2
OBJECT_STORE_BYTES = 200 * 2**20
SETTINGS = {
    "RAY_AUTH_MODE": "disabled",
    # A node that does not answer 5 checks, one a second, is dead. By default Ray has 3 s between two checks.
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",
    # Ray starts at most as many processes at once as a node has CPUs, and most of them wait.
    "RAY_worker_maximum_startup_concurrency": "8",
    "OMP_NUM_THREADS": "1",
}


class ChaosCluster:
    """Head, training nodes and the command; everything ends with the `with` block."""

    def __init__(self, config: TrainConfig, nodes: int, folder: Path) -> None:
        self.config, self.folder = config, folder
        # A separate folder, which is removed at the end. Its name is short, because paths of sockets lie in it.
        self.temporary = tempfile.TemporaryDirectory(prefix="af-ray-", ignore_cleanup_errors=True)
        self.command: subprocess.Popen | None = None
        self.nodes: list[Any] = []
        self._wanted = nodes
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])

    def __enter__(self) -> ChaosCluster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_everything()
        self.temporary.cleanup()

    def start(self) -> None:
        """Start a new cluster."""
        from ray.cluster_utils import Cluster

        with _unadvertised():
            self.cluster = Cluster(
                initialize_head=True,
                head_node_args={
                    "num_cpus": HEAD_CPUS, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES,
                    "temp_dir": self.temporary.name,
                },
            )  # fmt: skip
        self.head: Any = self.cluster.head_node
        self.nodes = []
        for _ in range(self._wanted):
            self.add_node()

    def add_node(self) -> None:
        """Add a training node."""
        self.nodes.append(
            self.cluster.add_node(num_cpus=NODE_CPUS, resources={"train": 1}, object_store_memory=OBJECT_STORE_BYTES)
        )

    def give_command(self) -> float:
        """Start `adaptfocus train`, or start it again -> the wall clock at that moment."""
        settings = self.folder / "settings.yaml"
        settings.write_text(yaml.safe_dump(self.config.model_dump(mode="json")))
        command = [sys.executable, "-m", "adaptfocus", "train", "small", "--config", str(settings)]
        command += ["--address", self.cluster.address]
        with (self.folder / "command.log").open("ab") as log:
            self.command = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        return time.time()

    def ended(self) -> int | None:
        """The command's exit code; None while it runs."""
        return self.command.poll() if self.command else None

    def processes(self, name: str) -> list[psutil.Process]:
        """The processes of this cluster whose command line contains `name`; other clusters may run on this machine."""
        found: list[psutil.Process] = []
        for node in (self.head, *self.nodes):
            raylet = node.all_processes["raylet"][0].process.pid
            with contextlib.suppress(psutil.NoSuchProcess):
                found += [p for p in psutil.Process(raylet).children(recursive=True) if name in _command_line(p)]
        return found

    def kill_process(self, name: str, number: int) -> bool:
        """SIGKILL one process of that name; False if there is none."""
        found = self.processes(name)
        if found:
            found[number % len(found)].kill()
        return bool(found)

    def kill_node(self, number: int) -> None:
        """SIGKILL the raylet of a training node, and with it all that runs on the node."""
        node = self.nodes.pop(number % len(self.nodes))
        self.cluster.remove_node(node, allow_graceful=False)

    def drain_node(self, number: int, grace_seconds: float) -> Any:
        """Tell Ray that a node will be taken away -> the node, which the caller has to take away."""
        from ray._raylet import GcsClient  # type: ignore[attr-defined]
        from ray.core.generated.autoscaler_pb2 import DrainNodeReason  # type: ignore[attr-defined]

        node = self.nodes[number % len(self.nodes)]
        deadline_ms = int((time.time() + grace_seconds) * 1000)
        is_accepted, why = GcsClient(address=self.cluster.address).drain_node(
            node.node_id, DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"), "the spot market", deadline_ms
        )
        if not is_accepted:
            raise RuntimeError(f"Ray did not accept the drain: {why}")
        return node

    def take_away(self, node: Any) -> None:
        if node in self.nodes:
            self.kill_node(self.nodes.index(node))

    def kill_command(self) -> None:
        """SIGKILL the command; the cluster stays."""
        if self.command:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.command.pid, signal.SIGKILL)
            self.command.wait()

    def kill_everything(self) -> None:
        """SIGKILL the command, all nodes and the head. Only what is on the store is left."""
        self.kill_command()
        for node in (*self.nodes, self.head):
            self.cluster.remove_node(node, allow_graceful=False)
        self.nodes = []


@contextlib.contextmanager
def _unadvertised() -> Iterator[None]:
    """Restore Ray's note of the cluster that was started last, which Ray joins where no address is given."""
    from ray._common.utils import get_ray_address_file

    note = Path(get_ray_address_file(None))
    before = note.read_text() if note.exists() else None
    try:
        yield
    finally:
        if before is not None:
            note.write_text(before)
        else:
            note.unlink(missing_ok=True)


def _command_line(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""
