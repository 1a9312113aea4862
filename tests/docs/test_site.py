"""The site of the docs builds without a warning, its reference follows the code, and it needs no network."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from adaptfocus.infra.cli import app as cli
from adaptfocus.pipelines.settings import known_keys
from adaptfocus.trainers.settings import TrainConfig
from adaptfocus.trainers.settings.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[2]


def text_of(page: Path) -> str:
    return re.sub(r"<[^>]+>", "", page.read_text())


@pytest.mark.slow
def test_the_site_builds_and_is_whole(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr

    commands = text_of(tmp_path / "reference/commands.html")
    named = get_command(cli.app).commands  # type: ignore[attr-defined]
    assert [name for name in named if f"adaptfocus {name}" not in commands] == []
    settings = (tmp_path / "reference/settings.html").read_text()
    assert [key for key in known_keys(TrainConfig) if f"<td><code>{key}</code></td>" not in settings] == []
    recipes = (tmp_path / "reference/recipes.html").read_text()
    assert [name for name in RECIPES if f"<code>{name}</code>" not in recipes] == []
    api = {page.stem: page.read_text() for page in (tmp_path / "reference/api").glob("*.html")}
    assert len(api) > 3
    assert 'class="doc doc-object doc-function"' in "".join(api.values()), "functions have their docstrings"

    pages = list(tmp_path.rglob("*.html"))
    fetched = r"<(?:script|img|iframe)[^>]*\ssrc=\"?https?:[^>]*>|<link[^>]*rel=\"?stylesheet[^>]*https?:[^>]*>"
    assert {page.name: found for page in pages if (found := re.findall(fetched, page.read_text()))} == {}
    assert not re.search(r"url\(\"?https?:", "".join(css.read_text() for css in tmp_path.rglob("*.css")))


def test_a_setting_without_a_meaning_is_found() -> None:
    settings_page = runpy.run_path(str(ROOT / "docs/hooks/setting_pages.py"))["settings_page"]
    page = (ROOT / "docs/configuration.md").read_text()
    assert settings_page(page)[1] == []
    assert settings_page(page.replace("| `seed` |", "| `sead` |"))[1] == [
        "docs/configuration.md has no row for the setting seed",
        "docs/configuration.md has a row for sead, which is no setting",
    ]
