"""The switch that CI sets: a marked test that would skip there fails, and says why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import COSTLY_FILES

ROOT = Path(__file__).resolve().parents[1]
PROBE = """
import pytest

@pytest.mark.{mark}
def test_probe():
    pytest.skip("the thing is not installed")
"""


def outcome(tmp_path: Path, mark: str, require_all: str) -> str:
    probe = tmp_path / "test_probe.py"
    probe.write_text(PROBE.format(mark=mark))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-c", str(ROOT / "pyproject.toml")]
    environment = {**os.environ, "ADAPTFOCUS_REQUIRE_ALL": require_all}
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(probe)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    return done.stdout


@pytest.mark.parametrize("mark", ["ceph", "chromium", "footage", "install"])
def test_a_marked_test_may_not_skip_where_everything_is_required(tmp_path: Path, mark: str) -> None:
    said = outcome(tmp_path, mark, "1")
    assert "1 failed" in said
    assert "the thing is not installed" in said
    assert "1 skipped" in outcome(tmp_path, mark, "0")


def test_other_tests_may_skip(tmp_path: Path) -> None:
    assert "1 skipped" in outcome(tmp_path, "slow", "1")


def test_the_files_that_are_not_quick_are_there() -> None:
    """Else `make check` runs what has another name by now."""
    assert [name for name in sorted(COSTLY_FILES) if not (ROOT / "tests" / name).is_file()] == []
