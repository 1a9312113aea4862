"""One function over many items in processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adaptfocus.pipelines.errors import AdaptFocusError, InputError
from adaptfocus.pipelines.over import in_processes

ITEMS = list(range(20))


def slow_if_even(number: int) -> tuple[int, int]:
    time.sleep(0.02 * (number % 2 == 0))
    return number, os.getpid()


def refuses_three(place: tuple[str, int]) -> int:
    folder, number = place
    Path(folder, str(number)).touch()
    if number == 3:
        raise InputError("item 3 cannot be read; pack it again")
    time.sleep(0.02)
    return number


def meets_the_other(place: tuple[str, int]) -> int:
    """Waits for the mark of the other of two items, which is done at the same time or never."""
    folder, number = place
    Path(folder, str(number)).touch()
    deadline = time.monotonic() + 30
    while not Path(folder, str(1 - number)).exists():
        assert time.monotonic() < deadline, "one item after the other"
        time.sleep(0.01)
    return number


def dies_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_come_in_the_order_of_the_items_from_other_processes() -> None:
    numbers, pids = zip(*in_processes(2)(ITEMS, slow_if_even), strict=True)
    assert list(numbers) == ITEMS
    assert os.getpid() not in pids
    for over, items in ((in_processes(1), ITEMS), (in_processes(2), ITEMS[:1]), (in_processes(None), [])):
        assert list(over(items, slow_if_even)) == [(number, os.getpid()) for number in items], "no process is started"


def test_items_are_done_at_the_same_time(tmp_path: Path) -> None:
    assert list(in_processes(2)([(str(tmp_path), number) for number in (0, 1)], meets_the_other)) == [0, 1]


def test_the_first_error_ends_the_whole_and_what_has_not_begun_is_dropped(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^item 3 cannot be read; pack it again$"):
        list(in_processes(2)([(str(tmp_path), number) for number in range(200)], refuses_three))
    assert len(list(tmp_path.iterdir())) < 30


def test_a_process_that_dies_is_said() -> None:
    with pytest.raises(AdaptFocusError, match=r"one of 2 processes died .*use fewer workers"):
        list(in_processes(2)(ITEMS, dies_at_three))


def test_no_process_outlives_a_caller_that_is_killed(tmp_path: Path) -> None:
    script = "import os, signal, sys; from adaptfocus.pipelines.over import in_processes"
    script += "\nimport tests.pipelines.test_over as t\nfor number, pid in in_processes(2)(t.ITEMS, t.slow_if_even):\n"
    script += "    print(pid, flush=True)\n    if number == 9: os.kill(os.getpid(), signal.SIGKILL)\n"
    told = tmp_path / "pids"  # a pipe would stay open for as long as one of them lives
    with told.open("w") as out:
        done = subprocess.run([sys.executable, "-c", script], stdout=out, stderr=subprocess.DEVNULL, check=False)
    assert done.returncode == -signal.SIGKILL
    pids = {int(pid) for pid in told.read_text().split()}
    assert pids
    deadline = time.monotonic() + 10
    while left := [pid for pid in pids if _runs(pid)]:
        if time.monotonic() > deadline:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"{len(left)} processes wait for ever")
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    """Whether a process is there, and is not one that has ended and that nobody has asked about."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
