"""A cluster of several nodes on this machine, and a run that survives the death of each of its parts.

The long form is `benchmarks/chaos.py`: random moments, twenty kills and more.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")
from benchmarks.faults import chaos_cluster

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1500)]

ROOT = Path(__file__).resolve().parents[3]


def test_workers_nodes_and_the_whole_cluster_die_and_every_clip_is_trained_once(s3_url: str, tmp_path: Path) -> None:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-m", "tests.trainers.on_ray.chaos_scenario", s3_url, str(tmp_path)],
        cwd=ROOT, env={**os.environ, **chaos_cluster.SETTINGS, "PYTHONPATH": path}, capture_output=True, text=True,
        timeout=1450,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
