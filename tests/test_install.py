"""What a stranger gets: the wheel, in an environment that holds nothing else, away from the checkout.

The versions are those of the environment that runs the tests: pip's cache has them, and torch is the same build.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distributions, version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("pipelines", "trainers", "infra", "docs", "pyproject.toml", "LICENSE")
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
WORLD = ("world", "--kind", "a", "--out", "world", "--train-videos", "6", "--test-videos", "3", "--processes", "1")
RUN = ("small", "name=first", "runs=runs", "index=index", "plan.bags_per_batch=2", "epochs=1")
LIMIT_SECONDS = 420  # of pip; it takes 60 s with a warm cache on two busy cores


def run(*command: str | Path, cwd: Path, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    """A command that sees nothing of this checkout."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / "src" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / "src" / name)
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, folder / "src")
    done = run(sys.executable, *build, cwd=folder)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def adaptfocus(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of an environment with the wheel and its core dependencies."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder / "env", with_pip=True)
    pins = folder / "constraints.txt"
    names = {each.metadata["Name"]: each.version for each in distributions()}
    pins.write_text("".join(f"{name}=={number}\n" for name, number in names.items() if name != "adaptfocus"))
    install = [folder / "env/bin/python", "-m", "pip", "install", "--quiet", "--constraint", pins, wheel]
    if "+cpu" in version("torch"):
        install += ["--extra-index-url", TORCH_CPU_INDEX, "--retries", "1"]
    done = run(*install, cwd=folder, seconds=LIMIT_SECONDS)
    if done.returncode and ("No matching distribution" in done.stderr or "connection" in done.stderr):
        pytest.skip(f"pip cannot fetch what the wheel needs: {done.stderr[-500:]}")
    assert done.returncode == 0, done.stderr
    return folder / "env/bin/adaptfocus"


def test_the_wheel_holds_what_is_read_at_run_time(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    for package in ("pipelines", "trainers", "infra"):
        files = [path for path in (ROOT / package).rglob("*") if path.is_file() and path.suffix not in (".pyc", "")]
        assert f"{package}/py.typed" in inside, "type checkers read annotations only where it lies"
        assert {path.relative_to(ROOT).as_posix() for path in files} <= inside
    assert not {name.split("/")[0] for name in inside if name.startswith(("tests", "benchmarks", "docs"))}


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
        (("train", *RUN), "ray"),
        (("submit", "small", "name=a", "runs=s3://b/r", "index=s3://b/i", "--address", "http://localhost:1"), "jobs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_needs_an_extra_names_it(adaptfocus: Path, tmp_path: Path, command: tuple[str, ...], extra: str) -> None:
    done = run(adaptfocus, *command, cwd=tmp_path)
    assert done.returncode == 2
    assert f"adaptfocus[{extra}]" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [], "nothing is begun that cannot go on"
