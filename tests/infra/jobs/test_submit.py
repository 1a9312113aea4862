"""What `submit` refuses before anything is sent, what it sends, and how it follows a log through lost connections."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from adaptfocus.infra.jobs import submit
from adaptfocus.infra.jobs.submit import entrypoint, make_working_dir, variables_to_pass
from adaptfocus.pipelines.errors import ConfigError, StorageError
from tests.secrets import SECRETS, assert_no_secret, environment_with_secrets
from tests.worlds import SmallWorld

pytest.importorskip("ray")

ON_S3 = ["small", "name=a", "runs=s3://b/runs", "index=s3://b/index"]
NOBODY = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*ON_S3, "focus.detla=1"], "did you mean 'focus.delta'?"),
        (["small", "name=a", "runs=/r", "index=s3://b/i"], "runs=/r is a path of one machine"),
        (["small", "name=a", "runs=s3://b/r", "index=i"], "/i is a path of one machine"),
        ([*ON_S3, "weights=w.pt"], "/w.pt is a path of one machine"),
        ([*ON_S3, "placement.engine=local"], "leave placement.engine at auto"),
        ([*ON_S3, "--no-check"], f"nobody answers at {NOBODY}; --address is that of the dashboard"),
        ([*ON_S3, "--no-check", "--address", "ray://head:10001"], "ray://head:10001 is not a dashboard's"),
        ([*ON_S3, "--no-check", "--address", "http://me:hunter2@head:8265"], "the http:// URL contains credentials"),
        (["small", "name=a", "runs=/r", "index=/i", "--shared-paths"], "there is no index at /i"),
    ],
)
def test_mistakes_are_one_message_and_nothing_is_sent(type_, words: list[str], message: str) -> None:
    code, out, err = type_("submit", "--address", NOBODY, *words)
    assert code == 2
    assert message in err
    assert "hunter2" not in out + err


def test_a_store_on_this_machine_is_not_the_nodes(type_, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    code, _, err = type_("submit", *ON_S3, "--address", "http://head:8265")
    assert (code, "is http://127.0.0.1:9000, which on a node means that node itself" in err) == (2, True)


def test_a_finished_run_is_not_submitted(type_, small_world: SmallWorld, tmp_path: Path) -> None:
    import yaml

    config = small_world.run_config(tmp_path, "done", "epochs=1")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    words = ["small", "--config", tmp_path / "mine.yaml"]
    assert type_("train", *words)[0] == 0
    code, _, err = type_("submit", *words, "placement.engine=ray", "--shared-paths", "--address", NOBODY)
    assert (code, "is finished: 1 epochs are trained" in err) == (0, True)


def test_only_the_stores_place_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment_with_secrets({"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "http://s3:1"}).items():
        monkeypatch.setenv(name, value)
    given = variables_to_pass()
    assert given == {"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "http://s3:1"} | submit.FOR_ALL_PROCESSES
    assert_no_secret(repr(given))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://me:{SECRETS['AWS_SESSION_TOKEN']}@s3:1")
    with pytest.raises(StorageError, match="contains credentials") as caught:
        variables_to_pass()
    assert_no_secret(str(caught.value))


def test_the_command_on_the_head_is_quoted() -> None:
    words = ["name=a", "placement.decode_labels={adaptfocus/role: decode}", "index=s3://b/$(x)"]
    assert entrypoint("small", words, with_settings=True) == (
        "python -m adaptfocus train small name=a 'placement.decode_labels={adaptfocus/role: decode}' "
        "'index=s3://b/$(x)' --config settings.yaml --address auto"
    )


def test_the_package_is_complete_and_small() -> None:
    """The command runs from the package, with no other copy of this project on the path."""
    with make_working_dir({"epochs": 3}, package=True) as folder:
        assert folder is not None
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) < 3_000_000
        assert not [path for path in files if path.suffix == ".pyc"]
        assert (Path(folder) / "adaptfocus" / "infra" / "templates" / "report.html.j2").exists()
        assert (Path(folder) / "settings.yaml").read_text() == "epochs: 3\n"
        environment = {**os.environ, "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
        said = subprocess.run(
            [sys.executable, "-c", "import adaptfocus.trainers.on_ray.train, adaptfocus as a; print(a.__file__)"],
            cwd=folder, env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert said.stdout.strip() == f"{folder}/adaptfocus/__init__.py"
    assert not Path(folder).exists()


def test_without_the_package_only_settings_are_sent() -> None:
    with make_working_dir({"epochs": 3}, package=False) as folder:
        assert folder is not None
        assert [path.name for path in Path(folder).iterdir()] == ["settings.yaml"]
    with make_working_dir(None, package=False) as folder:
        assert folder is None


def test_a_package_that_is_too_large_names_its_largest_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "MAX_PACKAGE_BYTES", 100_000)
    with (
        pytest.raises(ConfigError, match=r"at most 0 MB are sent; the largest files are .*\.py \(0\.0 MB\)"),
        make_working_dir(None, package=True),
    ):
        pass


class LogOverABadLine:
    """A job's log whose connection breaks once, in the middle of a line; each connection tells it from its start."""

    def __init__(self) -> None:
        self.connections = 0

    async def tail_job_logs(self, job: str):
        self.connections += 1
        yield "epoch 1\nepo"
        if self.connections == 1:
            raise RuntimeError("the connection was closed")
        yield "ch 2\n"

    def get_job_status(self, job: str) -> SimpleNamespace:
        return SimpleNamespace(is_terminal=lambda: False)

    def get_job_info(self, job: str) -> SimpleNamespace:
        from ray.job_submission import JobStatus

        return SimpleNamespace(status=JobStatus.FAILED, message="it broke\nhere", driver_exit_code=2)


def test_a_log_is_followed_through_a_lost_connection(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from adaptfocus.infra.jobs import client as job_client

    monkeypatch.setattr(job_client, "RECONNECT_SECONDS", 0.01)
    client = object.__new__(job_client.JobClient)
    client.address, client._client = NOBODY, LogOverABadLine()
    assert client.follow("a-1") == 2, "the exit code of the driver"
    out, err = capsys.readouterr()
    assert out == "epoch 1\nepoch 2\n", "nothing twice, nothing left out"
    assert "job a-1 failed: it broke" in err
