"""Jobs on a real cluster, as a new user meets them: submit, detach, stop, resume, list; and no secret anywhere."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from adaptfocus.infra.demo.local_s3 import LocalS3
from adaptfocus.pipelines import store
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import Run
from tests.conftest import use_environment
from tests.ray_head import ROOT, RayHead
from tests.secrets import SECRETS, assert_no_secret, environment_with_secrets
from tests.worlds import SmallWorld

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.ray]

EPOCHS = 24  # so many that the run is not over before it is stopped
TOKEN = "qz7leakprobe0007" * 4  # of the cluster, which takes nothing without it


@pytest.fixture
def place(local_s3: LocalS3, small_world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, str], str]:
    """(environment of everybody, folder of the run): shards and index on S3, every secret in the environment."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    environment = environment_with_secrets({**os.environ, **local_s3.environment, **token})
    use_environment(monkeypatch, {**local_s3.environment, **SECRETS})
    folder = local_s3.url("submit")
    for tar in sorted((small_world.folder / "shards-train").glob("*.tar")):
        store.write_bytes(f"{folder}/shards/{tar.name}", tar.read_bytes())
    build_index([f"{folder}/shards"], f"{folder}/index", classes=small_world.config.classes, workers=1)
    return environment, folder


def test_a_run_is_submitted_left_stopped_and_resumed(
    place: tuple[dict[str, str], str], small_world: SmallWorld, tmp_path: Path
) -> None:
    environment, folder = place
    config = small_world.run_config(f"{folder}/runs", "first", "placement.engine=ray", "checkpoint.every_batches=1")
    values = config.model_dump(mode="json", exclude={"name", "runs", "index"})
    values["placement"] |= {"decode_labels": {"adaptfocus/role": "decode"}, "decode_workers": 1}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    settings = ["small", "name=first", f"runs={folder}/runs", f"index={folder}/index", f"epochs={EPOCHS}"]
    words = ["submit", *settings, "--config", str(tmp_path / "mine.yaml")]
    run = Run(f"{folder}/runs/first")
    with RayHead(tmp_path, environment) as head:
        head.add_node(10, "adaptfocus/role=decode")  # room for what a stopped job keeps reserved for a while
        words += ["--address", head.dashboard_url]
        stranger = typed(words, {**environment, "RAY_AUTH_TOKEN": "another" * 8})
        assert (stranger.returncode, f"{head.dashboard_url} wants a token" in stranger.stderr) == (2, True)
        # While the job starts, the command says how to continue, and a second job on the same run is refused.
        log = tmp_path / "first.log"
        first = start(words, environment, log)
        wait_until(lambda: "all runs:" in log.read_text(), first, log)
        (job,) = set(re.findall(r"first-[0-9a-f]{6}", log.read_text()))
        assert f"ray job stop {job} --address {head.dashboard_url}" in log.read_text()
        assert f"adaptfocus {' '.join(words)}" in log.read_text(), "how to resume"
        refused = typed([*words, "--no-check"], environment)
        assert (refused.returncode, f"job {job} already trains {run.url}" in refused.stderr) == (2, True)
        # Ctrl-C leaves it running.
        wait_until(lambda: run.newest()[1] is not None, first, log)
        os.kill(first.pid, signal.SIGINT)
        subprocess.run(
            [str(Path(sys.executable).with_name("ray")), "job", "stop", job, "--address", head.dashboard_url],
            env=environment, check=True, capture_output=True,
        )  # fmt: skip
        assert first.wait(timeout=60) == 130
        assert f"detached; job {job} keeps running" in log.read_text()
        # The same command again: the log is followed to the end.
        second = typed(words, environment)
        assert second.returncode == 0, second.stdout + second.stderr
        assert f"resuming {run.url} from epoch" in second.stdout
        assert f"first, epoch {EPOCHS} of {EPOCHS}, bag" in second.stdout, "plain lines, no bars"
        assert f"trained {run.url} in" in second.stdout
        assert "succeeded" in second.stderr
        found = audit(run)
        assert (found.epochs, found.clips_lost, found.clips_twice) == (EPOCHS, 0, 0)
        listed = json.loads(typed(["runs", f"{folder}/runs", "--json"], environment).stdout)
        assert (listed["name"], listed["state"], listed["position"]) == ("first", "finished", EPOCHS)
        third = typed(words, environment)
        assert (third.returncode, f"is finished: {EPOCHS} epochs" in third.stderr) == (0, True)
        said = log.read_text() + refused.stderr + second.stdout + second.stderr + third.stderr
        shown = [got(head.dashboard_url + path) for path in ("/api/jobs/", "/nodes?view=summary")]
        logs = sorted(Path(head.temporary.name).glob("session_2*/logs/job-driver-*"))
        assert logs
        assert_no_secret(said, *shown, *logs, secrets={**SECRETS, "RAY_AUTH_TOKEN": TOKEN})


def start(words: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen:
    with log.open("w") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "adaptfocus", *words],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )


def typed(words: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "adaptfocus", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=450,
    )


def wait_until(what: Callable[[], bool], process: subprocess.Popen, log: Path) -> None:
    for _ in range(2400):
        if what():
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(f"it did not come:\n{log.read_text()}")


def got(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()
