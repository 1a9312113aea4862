"""What mkdocs asks while it builds the site: the pages that are made from the code, and what GitHub's Markdown needs.

The pages below "Reference" come from the code that is imported here, so they say what it does. A setting without a row
in docs/configuration.md, or a row without a setting, is a warning, which `make docs` takes for an error.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import api_pages
import command_pages
import setting_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

log = logging.getLogger("mkdocs.hooks.site")
ROOT = Path(__file__).resolve().parents[2]
OF_THE_CHECKOUT = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
_made: dict[str, str] = {}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make the pages, and put them into the navigation."""
    _made.clear()
    settings, wrong = setting_pages.settings_page((ROOT / "docs/configuration.md").read_text())
    for each in wrong:
        log.warning(each)
    decisions = _decisions(ROOT / "docs/decisions")
    api = api_pages.pages()
    _made.update(api)
    _made["reference/commands.md"] = command_pages.commands_page()
    _made["reference/settings.md"] = settings
    _made["reference/recipes.md"] = setting_pages.recipes_page()
    _made["decisions/index.md"] = _list_of_decisions(decisions)
    for name, page in OF_THE_CHECKOUT.items():
        _made[page] = _moved((ROOT / name).read_text())
    reference: list[Any] = [
        {"Commands": "reference/commands.md"},
        {"Settings": "reference/settings.md"},
        {"Recipes": "reference/recipes.md"},
        {"API": [{"Overview" if "/index" in url else Path(url).stem: url} for url in api]},
    ]
    records: list[Any] = ["decisions/index.md", *({title: f"decisions/{name}"} for name, title in decisions.items())]
    _fill(config.nav, {"Reference": reference, "Decisions": records})
    return config


def _fill(nav: Any, filled: dict[str, list[Any]]) -> None:
    for entry in nav:
        for title, below in entry.items() if isinstance(entry, dict) else ():
            if title in filled:
                entry[title] = filled[title]
            elif isinstance(below, list):
                _fill(below, filled)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Give mkdocs the pages that were made."""
    for url, text in _made.items():
        files.append(File.generated(config, url, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """GitHub begins a list, a table or code below a line of text without an empty line; Python-Markdown wants one."""
    for name, page in OF_THE_CHECKOUT.items():
        markdown = markdown.replace(f"](../{name}", f"]({page}")
    out: list[str] = []
    is_code = False
    for line in markdown.splitlines():
        is_code ^= line.startswith("```")
        before = out[-1] if out else ""
        is_text = bool(before.strip()) and not re.match(r"\s|[-*] |\d+\. |\||```", before)
        starts = line.startswith(("- ", "1. ", "|")) or (line.startswith("    ") and before.startswith("#"))
        if not is_code and is_text and starts:
            out.append("")
        out.append(line)
    return "\n".join(out) + "\n"


def _decisions(folder: Path) -> dict[str, str]:
    """File's name -> title, in the order of their numbers."""
    found = {}
    for path in sorted(folder.glob("[0-9]*.md")):
        title = path.read_text().splitlines()[0].lstrip("# ").strip()
        found[path.name] = title
    return found


def _list_of_decisions(decisions: dict[str, str]) -> str:
    rows = "\n".join(f"- [{title}]({name})" for name, title in decisions.items())
    return (
        "# Decisions\n\nWhy it is built this way. Each record says what was chosen, what spoke for it, and what it "
        f"costs. A number that is missing was taken by a choice that no longer stands.\n\n{rows}\n"
    )


def _moved(text: str) -> str:
    """A page of the checkout's top level as a page beside those of docs/."""
    text = text.replace("](docs/decisions/)", "](decisions/index.md)").replace("](docs/", "](")
    for name, page in OF_THE_CHECKOUT.items():
        text = text.replace(f"]({name}", f"]({page}")
    return text
