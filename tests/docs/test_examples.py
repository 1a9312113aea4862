"""The scripts of examples/ run as their README says: one after the other, each in a separate process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import av
import pytest

from adaptfocus import Run

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = re.findall(r"^    python examples/(\S+) out$", (ROOT / "examples/README.md").read_text(), re.MULTILINE)


def test_the_readme_names_each_example_once() -> None:
    assert sorted(COMMANDS) == sorted(path.name for path in (ROOT / "examples").glob("*.py"))


def run(script: str, folder: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, ROOT / "examples" / script, folder]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_each_example_does_what_it_says(tmp_path: Path) -> None:
    said = {script: run(script, tmp_path) for script in COMMANDS}
    # 8 videos, 4 clips of each, 2 epochs
    assert "clips planned 64, trained 64, lost 0, twice 0" in said["train_on_a_world.py"]
    assert "mAP, max over views" in said["train_on_a_world.py"]
    assert said["look_at_clips.py"].count("ms to decode") == 4
    assert_shows(tmp_path / "clips.png", 8 * 64, 4 * 3, 64)  # 8 frames across; 3 clips of 4 videos down
    times = re.findall(r"p (\d\.\d\d) at +(\d+\.\d) s   truly ", said["salient_times.py"])
    assert times
    assert all(0 < float(p) < 1 and float(seconds) < 60 for p, seconds in times)
    clip = Run(str(tmp_path / "runs" / "first")).clip
    assert_shows(tmp_path / "salient.png", clip.frames * clip.size_pixels, 6, clip.size_pixels)
    losses = re.findall(r"4 steps, mean loss (\d\.\d+)", said["fine_tune_videomae.py"])
    assert len(losses) == 2
    assert "12 clips, then 20: 0 lost, 0 twice" in said["train_with_lightning.py"]


def assert_shows(file: Path, width: int, rows: int, height: int) -> None:
    """It is a picture of that size, and no row of it is a blank."""
    with av.open(str(file)) as picture:
        frame = next(picture.decode(video=0))
    assert (frame.width, frame.height) == (width, rows * height)
    pixels = frame.to_ndarray(format="rgb24")
    assert all(pixels[top : top + height].std() > 5 for top in range(0, rows * height, height))
