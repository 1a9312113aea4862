"""Makes environments that hold our wheel and its dependencies, but nothing of this checkout.

The versions are those of the environment that runs the tests: pip's cache has them, and torch is the same build.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import distributions, version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("adaptfocus", "pipelines", "trainers", "infra", "docs", "pyproject.toml", "setup.py", "LICENSE")
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
LIMIT_SECONDS = 420  # of pip; it takes 60 s with a warm cache on two busy cores


def run(*command: str | Path, cwd: Path, seconds: float = 120, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command that sees nothing of this checkout; `more` is added to its environment."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"} | more,
        capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a copy, so that nothing is left in the checkout."""
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, folder / "src" / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, folder / "src" / name)
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, folder / "src")
    done = run(sys.executable, *build, cwd=folder)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("*.whl")
    return found


def install(wheel: Path, extra: str, folder: Path, like: Path | None = None) -> Path:
    """`pip install WHEEL[extra]` into `folder`; its `bin`.

    Args:
        like: an environment with the wheel; copies (hard links) of its files are the start.
    """
    if like is None:
        venv.create(folder, with_pip=True)
    else:
        shutil.copytree(like, folder, copy_function=os.link, symlinks=True)
        (folder / "bin/adaptfocus").unlink()  # its first line names the other environment
    pins = folder / "constraints.txt"
    pins.unlink(missing_ok=True)
    names = {each.metadata["Name"]: each.version for each in distributions()}
    pins.write_text("".join(f"{name}=={number}\n" for name, number in names.items() if name != "adaptfocus"))
    pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--constraint", pins]
    if "+cpu" in version("torch"):
        pip += ["--extra-index-url", TORCH_CPU_INDEX, "--retries", "1"]
    done = run(*pip, f"adaptfocus[{extra}] @ file://{wheel}" if extra else wheel, cwd=folder, seconds=LIMIT_SECONDS)
    if done.returncode and ("No matching distribution" in done.stderr or "connection" in done.stderr):
        pytest.skip(f"pip cannot fetch what the wheel needs: {done.stderr[-500:]}")
    assert done.returncode == 0, done.stderr
    if like is not None:
        again = run(*pip, "--no-deps", "--force-reinstall", wheel, cwd=folder)
        assert again.returncode == 0, again.stderr
    return folder / "bin"
