"""Tables on any terminal: text that a user may have to type is never cut.

A table is printed as such if its rows fit. Otherwise each row is printed as whole lines.
"""

from __future__ import annotations

import os

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

UNLIMITED = 10_000  # columns of a file or a pipe, where lines are never cut


def show(out: Console, table: Table) -> None:
    """Print a table. If a row is wider than the terminal, print each row as its first value and `title: value` pairs.

    A pipe or a file gets whole rows, unless COLUMNS says how wide its lines may be.
    """
    wide = out.options.update(width=UNLIMITED, max_width=UNLIMITED)
    needed = max(out.measure(table, options=wide).maximum, 1)
    if needed <= out.width:
        out.print(table, soft_wrap=False)
    elif not is_limited(out):
        Console(file=out.file, width=needed, no_color=out.no_color).print(table)
    else:
        _show_by_rows(out, table)


def is_limited(out: Console) -> bool:
    """Whether lines have a width: those of a terminal do, and those of a pipe or a file only if COLUMNS says so."""
    return out.is_terminal or "COLUMNS" in os.environ


def _show_by_rows(out: Console, table: Table) -> None:
    if table.title:
        _line(out, _plain(out, table.title))
    titles = [_plain(out, column.header) for column in table.columns]
    if not any(titles[1:]):
        _line(out, titles[0])
    for row in zip(*(list(column.cells) for column in table.columns), strict=True):
        first, *rest = [_plain(out, cell) for cell in row]
        if not any(titles[1:]):
            _line(out, f"{first}: {', '.join(rest)}")
            continue
        _line(out, f"{titles[0]} {first}".strip())
        line = ""
        for title, value in zip(titles[1:], rest, strict=True):
            pair = f"{title}: {value}" if title else value
            if line and cell_len(line) + cell_len(pair) + 3 > out.width:
                _line(out, line)
                line = ""
            line = f"{line}   {pair}" if line else f"  {pair}"
        if line.strip():
            _line(out, line)


def _plain(out: Console, cell: object) -> str:
    """A cell's text without its markup."""
    return out.render_str(cell).plain if isinstance(cell, str) else str(cell)


def _line(out: Console, line: str) -> None:
    """Print a line, wrapped between words. A word wider than the terminal is not broken, so that it is copied whole."""
    fits = all(cell_len(word) + 4 <= out.width for word in line.split())
    if not fits or cell_len(line) <= out.width:
        out.print(line, markup=False, highlight=False, soft_wrap=True)
        return
    first, *more = Text(line).wrap(out, out.width - 4)
    for text in (first.plain.rstrip(), *(f"    {each.plain.strip()}" for each in more)):
        out.print(text, markup=False, highlight=False, soft_wrap=True)
