"""A run that is followed into a file: a line now and then, no bars."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from infra import progress
from trainers.heartbeat import heartbeat_url


def test_a_log_gets_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(progress, "LINE_SECONDS", 1000.0)
    beats = [(0, 4), (0, 8), (0, 20), (1, 4), (1, 20)]
    with progress.following(str(tmp_path), "first"):
        for epoch, cursor in beats:
            beat = {"epoch": epoch, "epochs": 2, "cursor": cursor, "num_bags": 20, "seconds": time.time()}
            Path(heartbeat_url(str(tmp_path))).write_text(json.dumps(beat))
            time.sleep(0.3)
    # The first position, then the ends of epochs, since the rest came within LINE_SECONDS.
    assert capsys.readouterr().err.splitlines() == [
        "first, epoch 1 of 2, bag 4 of 20",
        "first, epoch 1 of 2, bag 20 of 20",
        "first, epoch 2 of 2, bag 20 of 20",
    ]
