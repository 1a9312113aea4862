"""Tables on narrow terminals and in pipes: names that a user must type are complete, and no row is lost."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from adaptfocus.infra.cli.tables.models import table_of_backbones
from adaptfocus.infra.running.tables import show
from adaptfocus.trainers.backbones import BACKBONES

LONG = "s3://bucket/" + "very-long-folder-name/" * 6 + "shard-000017.tar"


def shown(table: Table, width: int | None, monkeypatch: pytest.MonkeyPatch, terminal: bool = False) -> str:
    text = io.StringIO()
    if width is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", str(width))
    show(Console(file=text, force_terminal=terminal, color_system=None, soft_wrap=True), table)
    return text.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("width", [60, 80, 120, 400])
def test_backbones_and_their_weights_are_whole_at_any_width(
    width: int, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shown(table_of_backbones(), width, monkeypatch, terminal)
    assert "…" not in out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= width
    words = out.split()
    for name, entry in BACKBONES.items():
        assert name in words
        assert set(entry.weights.split()) <= set(words)


def test_a_pipe_has_a_line_a_row_unless_it_says_how_wide_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(table_of_backbones(), None, monkeypatch).splitlines()
    assert len(lines) == 1 + len(BACKBONES)
    assert all(entry.weights in line for entry, line in zip(BACKBONES.values(), lines[1:], strict=True))


@pytest.mark.parametrize("width", [None, 60, 80])
def test_a_name_that_is_wider_than_the_terminal_stays_one_word(
    width: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table("video", "why", "where", box=None)
    table.add_row(escape("v[red]1"), "it cannot be read: " + "because " * 9, LONG)
    table.add_row("v2", "", "short")
    words = shown(table, width, monkeypatch).split()
    assert LONG in words
    assert "v[red]1" in words, "what looks like markup in a name is part of the name"
    assert words.count("because") == 9
    assert "short" in words


def test_small_costs_are_not_shown_as_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown(table_of_backbones(), 400, monkeypatch)
    assert "0.004" in out
    assert "1.96" in out
    assert "multiply-adds" in out
