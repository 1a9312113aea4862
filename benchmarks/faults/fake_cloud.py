"""Trains with the node kinds of ray_cluster.yaml in Ray's fake cloud, where a node is a process of this machine.

A head starts whose autoscaler has those kinds, scaled down. A run trains on it while nodes come and go. The figures
`scale.from_zero_*` are in seconds from the start of the training.

Two things differ from a real cluster. A fake GPU has no CUDA, so ranks ask for a resource `rank` of the same nodes
instead of a GPU. And Ray's fake cloud only works on port 6379, so only one of these can run at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from adaptfocus.infra.running.cluster import connect
from adaptfocus.infra.running.worlds import make_world
from adaptfocus.pipelines.settings import make
from adaptfocus.pipelines.worlds.config import world_of
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.preparation import prepare
from adaptfocus.trainers.settings.recipes import recipe
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure, say

ROOT = Path(__file__).resolve().parents[2]
PORT = 6379
HEAD = "ray.head.default"  # the fake cloud's name for its head
SMALL = {"decode": {"CPU": 6}, "train": {"CPU": 1, "GPU": 1, "rank": 1}}
IDLE_MINUTES = 0.5  # not shorter: on a busy machine a process takes some seconds to start on a node
ROLE = "adaptfocus/role"
START_SECONDS, GONE_SECONDS = 120.0, 120.0


def from_zero(folder: Path) -> list[Figure]:
    """Train on a cluster that has only a head -> when each kind of node came, the run ended, and all nodes had gone."""
    make_world(
        world_of("demo", num_train_videos=32, num_test_videos=1), str(folder / "zero-world"), os.cpu_count() or 1
    )
    config = make(
        TrainConfig,
        recipe("demo"),
        [
            "name=zero", f"runs={folder}", f"index={folder}/zero-world/index/train", "epochs=2",
            "placement.workers=2", "placement.decode_workers=2", f"placement.decode_labels={{{ROLE}: decode}}",
        ],
    )  # fmt: skip
    prepare(config)
    with _head(folder) as address, connect(address, cpus=0):
        came = _train_and_watch(config)
    found = audit(Run(config.url))
    if (found.epochs, found.clips_lost, found.clips_twice) != (2, 0, 0):
        raise RuntimeError(f"{config.url}: {found}")
    return [figures.count(f"scale.from_zero_{what}_seconds", seconds, "s", 1) for what, seconds in came.items()]


def scaled_down(cluster: dict[str, Any]) -> dict[str, Any]:
    """The cluster launcher's file for the fake cloud, with the same kinds, labels and limits."""
    kinds = {}
    for name, kind in cluster["available_node_types"].items():
        kept = {key: value for key, value in kind.items() if not key.startswith(("docker", "worker_"))}
        kinds[HEAD if name == "head" else name] = kept | {"node_config": {}, "resources": SMALL.get(name, {"CPU": 0})}
    lists = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    return {
        "cluster_name": cluster["cluster_name"], "max_workers": cluster["max_workers"], "upscaling_speed": 1.0,
        "idle_timeout_minutes": IDLE_MINUTES, "available_node_types": kinds, "head_node_type": HEAD,
        "provider": {
            "type": "fake_multinode", "use_node_id_as_ip": True, "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "auth": {}, "docker": {}, "file_mounts": {}, "file_mounts_sync_continuously": False,
        "cluster_synced_files": [], "rsync_exclude": [], "rsync_filter": [],
        **{f"{name}_commands": [] for name in lists},
    }  # fmt: skip


@contextlib.contextmanager
def _head(folder: Path) -> Iterator[str]:
    """Start a head without CPUs, and its autoscaler -> its address."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            raise RuntimeError(f"port {PORT} is taken, and Ray's fake cloud only works on this one")
    settings, log = folder / "fake-cloud.json", folder / "fake-cloud.log"
    settings.write_text(json.dumps(scaled_down(yaml.safe_load((ROOT / "ray_cluster.yaml").read_text()))))
    environment = {**os.environ, "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    command = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--head",
        "--block",
        f"--port={PORT}",
        "--num-cpus=0",
    ]
    command += [f"--autoscaling-config={settings}", f"--temp-dir={folder / 'ray'}", "--include-dashboard=false"]
    with log.open("w") as out:
        head = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while "Ray runtime started" not in log.read_text():
            if head.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the head did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        address = next(line for line in log.read_text().splitlines() if "Local node IP" in line).rsplit(" ", 1)[-1]
        yield f"{address}:{PORT}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)
        head.wait()


def _train_and_watch(config: TrainConfig) -> dict[str, float]:
    from ray.train import ScalingConfig

    from adaptfocus.trainers.on_ray import train

    train.ScalingConfig = lambda num_workers, **_: ScalingConfig(  # type: ignore[misc]
        num_workers=num_workers, resources_per_worker={"CPU": 1, "rank": 1}
    )
    began, came, over = time.monotonic(), {}, threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            for role in _roles():
                if role not in came:
                    came[role] = time.monotonic() - began
                    say(f"  {came[role]:.0f} s: the first {role} node")

    if _roles():
        raise RuntimeError(f"there are nodes before there is work: {_roles()}")
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    train.fit(config)
    came["trained"] = time.monotonic() - began
    over.set()
    watcher.join()
    while _roles() and time.monotonic() - began < came["trained"] + GONE_SECONDS:
        time.sleep(0.5)
    if _roles():
        raise RuntimeError(f"nodes stayed after the run: {_roles()}")
    return {**{k: came[k] for k in ("train", "decode", "trained")}, "gone": time.monotonic() - began}


def _roles() -> list[str]:
    """The roles of all nodes except the head."""
    import ray

    return [node["Labels"][ROLE] for node in ray.nodes() if node["Alive"] and ROLE in node["Labels"]]
