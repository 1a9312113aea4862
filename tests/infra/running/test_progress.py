"""A run that is followed into a file: a line now and then, no bars."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from adaptfocus.infra.running import progress
from adaptfocus.trainers.loop.heartbeat import heartbeat_url

looks: list[float] = []  # when the heartbeat was read


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(progress, "LINE_SECONDS", 1000.0)
    read = progress.read_heartbeat

    def noted(run_url: str) -> dict:
        looks.append(time.monotonic())
        return read(run_url)

    monkeypatch.setattr(progress, "read_heartbeat", noted)


def leave(folder: Path, epoch: int, cursor: int, is_followed: bool = True, **more: object) -> None:
    """Write a heartbeat, and wait until it was shown: the look after that which saw it has begun."""
    beat = {"epoch": epoch, "epochs": 2, "cursor": cursor, "num_bags": 20, "seconds": time.time(), **more}
    path = Path(heartbeat_url(str(folder)))
    path.with_suffix(".new").write_text(json.dumps(beat))
    path.with_suffix(".new").replace(path)
    seen = len(looks)
    deadline = time.monotonic() + 30
    while is_followed and len(looks) < seen + 2 and time.monotonic() < deadline:
        time.sleep(0.005)


def test_a_log_gets_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.follow_run(str(tmp_path), "first"):
        for epoch, cursor in [(0, 4), (0, 8), (0, 20), (1, 4), (1, 20)]:
            leave(tmp_path, epoch, cursor)
    # The first position, then the ends of epochs, since the rest came within LINE_SECONDS.
    assert capsys.readouterr().err.splitlines() == [
        "first, epoch 1 of 2, bag 4 of 20",
        "first, epoch 1 of 2, bag 20 of 20",
        "first, epoch 2 of 2, bag 20 of 20",
    ]


def test_what_is_waited_for_is_said_once_and_an_older_position_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A killed command's last position may be ahead of the commit that this one resumes from."""
    leave(tmp_path, 1, 16, is_followed=False)
    scores = tmp_path / "evaluations" / "test" / "scores.json"
    scores.parent.mkdir(parents=True)
    scores.write_text('{"map_max": 0.625}')
    with progress.follow_run(str(tmp_path), "first") as stage:
        stage("starting Ray")
        stage("waiting for workers: 2 x {CPU: 1, GPU: 1}; the cluster has {CPU: 8}")
        time.sleep(0.3)
        for epoch in (0, 1):
            leave(tmp_path, epoch, 0, stage="waiting for the first batch")
            leave(tmp_path, epoch, 20, loss=0.4123, clips_per_second=118.2, waiting_share=0.934, seconds_left=245.0)
    speed = "loss 0.412, 118 clips/s, waits 93 %, 4 min left, mAP 62.5 (test)"
    assert capsys.readouterr().err.splitlines() == [
        "first, starting Ray",
        "first, waiting for workers: 2 x {CPU: 1, GPU: 1}; the cluster has {CPU: 8}",
        "first, epoch 1 of 2, bag 0 of 20, waiting for the first batch, mAP 62.5 (test)",
        f"first, epoch 1 of 2, bag 20 of 20, {speed}",
        f"first, epoch 2 of 2, bag 20 of 20, {speed}",
    ]


def test_a_bar_counts_the_bags_of_the_whole_run(tmp_path: Path) -> None:
    """Epochs of 16 and 20 bags are 36 in all, from the first step on."""
    with progress._bar_with_words() as bar:
        show = progress._bar_of_run(bar, "first")
        show({"stage": "starting Ray"}, None)
        assert bar.tasks[0].total is None
        beat = {"epoch": 0, "epochs": 2, "cursor": 8, "num_bags": 16, "bags_done": 8, "bags_in_all": 36}
        show(beat, None)
        assert (bar.tasks[0].completed, bar.tasks[0].total) == (8, 36)
        assert bar.tasks[0].description == "first, epoch 1 of 2, bag 8 of 16"
