"""Who holds a run: a living process keeps others out, a dead one does not, wherever it was."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from adaptfocus.trainers.runs import holder
from adaptfocus.trainers.runs.holder import (
    HeldError,
    Holder,
    check_free,
    hold_run,
    holder_url,
    read_holder,
    seems_alive,
)


@pytest.fixture
def mine(tmp_path: Path) -> Holder:
    """The holder that this process signs as."""
    with hold_run(str(tmp_path)):
        found = read_holder(str(tmp_path))
    assert found is not None
    return dataclasses.replace(found, ended=None)


def sign(folder: Path, who: Holder) -> None:
    Path(holder_url(str(folder))).write_text(json.dumps(dataclasses.asdict(who)))


def test_a_run_is_free_before_and_after_it_is_held(tmp_path: Path) -> None:
    run = str(tmp_path)
    check_free(run)
    said = rf"being trained by process {os.getpid()} on .*, since 20.*--take-over"
    with hold_run(run), pytest.raises(HeldError, match=said):
        check_free(run)
    check_free(run)


def test_a_killed_process_of_this_machine_is_known_at_once(tmp_path: Path, mine: Holder) -> None:
    """Its number may belong to another process by then: when it was started tells them apart."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for gone in (dataclasses.replace(mine, pid=dead.pid), dataclasses.replace(mine, started="1")):
        sign(tmp_path, gone)
        began = time.monotonic()
        check_free(str(tmp_path))
        assert time.monotonic() - began < 1
        assert not seems_alive(gone, time.time())


def test_a_holder_elsewhere_is_watched(tmp_path: Path, mine: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Continuing signs of life keep others out, whatever the two clocks say; silence frees the run."""
    monkeypatch.setattr(holder, "DEAD_SECONDS", 1.0)
    elsewhere, said = dataclasses.replace(mine, host="gpu-7", signed=time.time() - 200), []
    sign(tmp_path, elsewhere)
    check_free(str(tmp_path), said.append)
    assert "whether process" in said[0]
    assert "gpu-7" in said[0]
    later = threading.Timer(0.3, sign, (tmp_path, dataclasses.replace(elsewhere, signed=elsewhere.signed + 5)))
    later.start()
    with pytest.raises(HeldError, match="gpu-7"):
        check_free(str(tmp_path))
    later.join()
    sign(tmp_path, dataclasses.replace(elsewhere, signed=time.time() - 1000))
    monkeypatch.setattr(holder, "DEAD_SECONDS", 1000.0)
    check_free(str(tmp_path))  # days old: nobody is waited for


def test_who_was_signed_over_signs_no_more(tmp_path: Path, mine: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was taken over stays with the new holder, even when the first one ends."""
    monkeypatch.setattr(holder, "SIGN_SECONDS", 0.05)
    other = dataclasses.replace(mine, host="gpu-7", since=1.0)
    with hold_run(str(tmp_path)):
        time.sleep(0.2)
        for _ in range(4):  # as a holder does: the first one may have been about to sign
            sign(tmp_path, other)
            time.sleep(0.1)
        assert read_holder(str(tmp_path)) == other
    assert read_holder(str(tmp_path)) == other
