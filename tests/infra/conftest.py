"""The command line, as a user types it."""

from __future__ import annotations

import sys

import pytest

from adaptfocus.infra.cli import app


@pytest.fixture
def type_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """`type_("index", ...) -> (exit code, standard output, standard error)`."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["adaptfocus", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "400")
        code = 0
        try:
            app.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, " ".join(out.split()), " ".join(err.split())

    return run
