"""Every command of the command line as one page of Markdown, from the functions that typer makes commands of."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo

from adaptfocus.infra.cli import app as cli
from adaptfocus.infra.cli.help_pages import PAGES

NAMES = {str: "text", int: "integer", float: "number", bool: ""}


def commands_page() -> str:
    """What `adaptfocus --help` and the help of each command say, in the same order."""
    lines = ["# Commands", "", _line(cli.app.info.help), ""]
    panel = ""
    commands = commands_of(cli.app)
    for name in [name for name in PAGES if any(path.split()[0] == name for path in commands)]:
        page = PAGES[name]
        if page.panel != panel:
            panel = page.panel
            lines += [f"## {panel}", ""]
        for path, function in commands.items():
            if path.split()[0] == name:
                lines += _section(path, function)
        if page.examples:
            lines += ["```console", *(f"$ adaptfocus {example}" for example in page.examples), "```", ""]
        if page.docs.startswith("docs/"):
            file = page.docs.removeprefix("docs/")
            lines += [f"More: [{file}](../{file})", ""]
    return "\n".join(lines)


def commands_of(app: typer.Typer, before: str = "") -> dict[str, Callable[..., Any]]:
    """What is typed after `adaptfocus` -> the function that it calls."""
    found: dict[str, Callable[..., Any]] = {}
    for command in app.registered_commands:
        assert command.callback
        name = command.name or command.callback.__name__.replace("_", "-")  # type: ignore[attr-defined]
        found[f"{before}{name}"] = command.callback
    for group in app.registered_groups:
        assert group.typer_instance
        found |= commands_of(group.typer_instance, f"{before}{group.name} ")
    return found


def _section(path: str, function: Callable[..., Any]) -> Iterator[str]:
    yield from (f"### `adaptfocus {path}`", "")
    yield from (_line(part) + "\n" for part in (inspect.getdoc(function) or "").split("\n\n"))
    hints = get_type_hints(function, include_extras=True)
    rows = [_row(param, hints[name]) for name, param in inspect.signature(function).parameters.items()]
    if rows:
        yield from ("| option | takes | default | meaning |", "|---|---|---|---|", *rows, "")


def _row(param: inspect.Parameter, hint: Any) -> str:
    assert get_origin(hint) is Annotated, param.name
    kind, info = get_args(hint)[:2]
    decls = [info.default, *(info.param_decls or ())]  # with Annotated, typer keeps the first name as the default
    decls = [name for name in decls if isinstance(name, str) and name.startswith("-")]
    if isinstance(info, ArgumentInfo):
        names = [info.metavar or param.name.upper()]
    else:
        names = decls or [f"--{param.name.replace('_', '-')}"]
        if kind is bool and not decls:
            names.append(f"--no-{param.name.replace('_', '-')}")
    if param.default is inspect.Parameter.empty:
        shown = "required"
    else:
        is_said = param.default is not None and param.default is not False and param.default not in ([], ())
        shown = f"`{param.default}`" if is_said else ""
    takes = _words(kind) + "".join(f", {sign}&nbsp;{limit}" for sign, limit in ((">=", info.min), ("<=", info.max))
                                   if limit is not None)  # fmt: skip
    cells = (", ".join(f"`{name}`" for name in names), takes, shown, _line(info.help))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _words(kind: Any) -> str:
    parts = [part for part in get_args(kind) if part is not type(None)]
    if get_origin(kind) in (Union, UnionType):
        return _words(parts[0])
    if get_origin(kind) is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if get_origin(kind) is list:
        return f"{_words(parts[0])}, several times"
    return NAMES.get(kind, "path")


def _line(text: str | None) -> str:
    """On one line, without the marks of rich; what stands between angle brackets is not HTML."""
    return re.sub(r"\s+", " ", re.sub(r"\[/?(?:bold|dim|/)?\]", "", text or "")).strip().replace("<", "&lt;")
