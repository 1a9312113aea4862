"""The demo, whole: from nothing to a page, killed once on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")
pytest.importorskip("moto")


@pytest.mark.slow
@pytest.mark.ray
def test_the_demo_keeps_its_promises(tmp_path: Path) -> None:
    """What the README shows: Ours above Noisy with the same clips, a kill and a resume that lose and repeat nothing,
    one readable page, and no chatter on the terminal."""
    command_folder = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-m", "adaptfocus", "demo", "--folder", str(tmp_path)]
    done = subprocess.run(
        command, cwd=command_folder, env=os.environ | {"COLUMNS": "160"}, timeout=540,
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "demo.json").read_text())
    noisy, ours = found["scores"]["noisy"], found["scores"]["ours"]
    assert noisy["clips_trained"] == ours["clips_trained"]
    assert ours["map_max"] > noisy["map_max"] + 0.02
    assert ours["per_time_map"] > noisy["per_time_map"] + 0.02
    ledger = found["ledger"]
    assert ledger["clips_planned"] == ledger["clips_trained"] == 6 * 128 * 4
    assert (ledger["clips_lost"], ledger["clips_twice"]) == (0, 0)
    assert ledger["workers"][0] == 2
    assert ledger["workers"][-1] == 1
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/jpeg") >= 6
    store = tmp_path / "store"
    evaluated = ("evaluate", store / "runs/ours", "--index", store / "index/test", "--views", 4, "--name", "four")
    for words in (("runs", store / "runs"), evaluated):  # as the demo's last lines say, without its server
        again = subprocess.run(
            [sys.executable, "-m", "adaptfocus", *map(str, words)], cwd=command_folder, text=True, capture_output=True
        )
        assert again.returncode == 0, again.stderr
    kept = {"store", "world", "report.html", "demo.json", "pretrain.log", "train-noisy.log", "train-ours.log"}
    assert {path.name for path in tmp_path.iterdir()} == kept
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) < 60, done.stderr
    for word in ("WARNING", "Traceback", "core_worker", "streaming_executor", "DeprecationWarning"):
        assert word not in done.stderr + done.stdout, word
