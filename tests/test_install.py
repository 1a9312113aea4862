"""What a new user gets: the wheel, in an environment that holds nothing else, away from the checkout."""

from __future__ import annotations

import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.clean_install import ROOT, run

WORLD = ("world", "--kind", "a", "--out", "world", "--train-videos", "6", "--test-videos", "3", "--processes", "1")
RUN = ("small", "name=first", "runs=runs", "index=index", "plan.bags_per_batch=2", "epochs=1")


@pytest.fixture(scope="module")
def adaptfocus(core_environment: Path) -> Path:
    """The command of an environment with the wheel and its core dependencies."""
    return core_environment / "adaptfocus"


def test_the_wheel_holds_what_is_read_at_run_time(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert "adaptfocus/py.typed" in inside, "type checkers read annotations only where it lies"
    for package in ("pipelines", "trainers", "infra"):
        files = [path for path in (ROOT / package).rglob("*") if path.is_file() and path.suffix not in (".pyc", "")]
        assert {f"adaptfocus/{path.relative_to(ROOT).as_posix()}" for path in files} <= inside
    assert {name.split("/")[0] for name in inside if ".dist-info/" not in name} == {"adaptfocus"}


@pytest.mark.slow
@pytest.mark.install
def test_the_core_alone_indexes_plans_trains_and_evaluates(adaptfocus: Path, tmp_path: Path) -> None:
    """On relative paths, in a folder that is empty."""
    said: dict[str, str] = {}
    for command in (
        ("--version",),
        WORLD,
        ("index", "world/shards/train", "--out", "index"),
        ("plan", *RUN),
        ("train", *RUN, "placement.engine=local"),
        ("evaluate", "runs/first", "--index", "world/index/test", "--engine", "local", "--views", "2"),
        ("report", "runs/first", "--out", "report.html"),
    ):
        done = run(adaptfocus, *command, cwd=tmp_path)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        said[command[0]] = done.stdout + done.stderr
    assert said["--version"] == f"adaptfocus {version('adaptfocus')}\n"
    assert "6 videos" in said["index"]
    assert "trained " in said["train"]
    assert (tmp_path / "report.html").stat().st_size > 10_000, "the page's template is in the wheel"


@pytest.mark.slow
@pytest.mark.install
@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (("demo",), "demo"),
        (("index", "s3://bucket/shards", "--out", "out"), "s3"),
        (("train", *RUN, "placement.engine=ray"), "ray"),
        (("submit", "small", "name=a", "runs=s3://b/r", "index=s3://b/i", "--address", "http://localhost:1"), "jobs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_needs_an_extra_names_it(adaptfocus: Path, tmp_path: Path, command: tuple[str, ...], extra: str) -> None:
    done = run(adaptfocus, *command, cwd=tmp_path)
    assert done.returncode == 2
    assert f"adaptfocus[{extra}]" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [], "nothing is begun that cannot continue"
