"""Tables on any terminal: what a user may have to type is never cut.

Input: a rich table. Does: prints it where its rows fit; where they do not, each row as lines of its own, whole.
Output: lines.
"""

from __future__ import annotations

import os

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

UNLIMITED = 10_000  # columns: of a file or a pipe, whose lines nothing cuts


def show(out: Console, table: Table) -> None:
    """Print a table; where a row is wider than the terminal, each row as its first value and `title: value` pairs.

    A pipe or a file gets whole rows, unless COLUMNS says how wide its lines may be.
    """
    is_limited = out.is_terminal or "COLUMNS" in os.environ
    wide = out.options.update(width=UNLIMITED, max_width=UNLIMITED)
    needed = max(out.measure(table, options=wide).maximum, 1)
    if needed <= out.width:
        out.print(table, soft_wrap=False)
    elif not is_limited:
        Console(file=out.file, width=needed, no_color=out.no_color).print(table)
    else:
        _show_by_rows(out, table)


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
    """A line, wrapped between words; a word that is wider than the terminal is left to the terminal, which copies it
    whole."""
    fits = all(cell_len(word) + 4 <= out.width for word in line.split())
    if not fits or cell_len(line) <= out.width:
        out.print(line, markup=False, highlight=False, soft_wrap=True)
        return
    first, *more = Text(line).wrap(out, out.width - 4)
    for text in (first.plain.rstrip(), *(f"    {each.plain.strip()}" for each in more)):
        out.print(text, markup=False, highlight=False, soft_wrap=True)
