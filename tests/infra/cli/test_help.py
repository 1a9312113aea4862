"""Help, which a user sees first: it comes at once, is in the order of use, and has correct examples."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest
from typer.main import get_command

from adaptfocus.infra.cli import app
from adaptfocus.infra.cli.help_pages import FIRST_STEPS, PAGES

APP = get_command(app.app)


def test_help_loads_nothing_that_computes() -> None:
    """The import of torch takes 3 s of a core, and that of Ray 1 s."""
    heavy = ("torch", "ray", "av", "pyarrow", "s3fs")
    code = f"import sys, adaptfocus.infra.cli.app; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_commands_stand_in_groups_in_the_order_of_use(type_) -> None:
    code, out, _ = type_("--help")
    assert code == 0
    listed = out[out.index("Look around") : out.index("Examples")]
    places = [listed.index(f"│ {name} ") for name in PAGES]
    assert places == sorted(places)
    assert set(PAGES) == set(APP.commands), "each command has a group and examples"  # type: ignore[attr-defined]


@pytest.mark.parametrize("words", [*FIRST_STEPS, *(each for page in PAGES.values() for each in page.examples)])
def test_each_example_is_a_command_line_that_is_taken(words: str) -> None:
    name, *rest = shlex.split(words)
    command = APP.commands[name]  # type: ignore[attr-defined]
    context = command.make_context(name, rest)  # raises on an unknown option or value
    if name == "quarantine":
        inner, *rest = rest
        command.commands[inner].make_context(inner, rest, parent=context)


@pytest.mark.parametrize("name", PAGES)
def test_each_command_shows_its_examples_and_its_page(type_, name: str) -> None:
    code, out, _ = type_(name, "-h")
    assert code == 0
    assert f"adaptfocus {PAGES[name].examples[0]}" in out
    assert f"More: {PAGES[name].docs}" in out


def test_the_shell_completes_commands() -> None:
    """What bash asks the command when Tab is pressed after `adaptfocus qu`."""
    code = "import sys; from adaptfocus.infra.cli.app import main; sys.argv = ['adaptfocus']; main()"
    asked = {"_ADAPTFOCUS_COMPLETE": "complete_bash", "COMP_WORDS": "adaptfocus qu", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True)
    assert done.stdout.split() == ["quarantine"]
