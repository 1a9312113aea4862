"""The commands of the README and of the pages for users, word for word, in an empty folder, with what
`pip install 'adaptfocus[demo]'` brings; and what the tutorial says that they print."""

from __future__ import annotations

import csv
import re
import shlex
import tempfile
import time
from pathlib import Path

import pytest
from typer.main import get_command

from adaptfocus.infra.cli import app
from adaptfocus.infra.demo.local_s3 import LocalS3
from adaptfocus.infra.running.settings import settings_from
from tests.clean_install import ROOT, run
from tests.footage import footage_folder

TUTORIAL = ROOT / "docs/tutorial.md"
STORES = ROOT / "docs/how-to/stores.md"
PAGES = [ROOT / "README.md", ROOT / "docs/start.md", TUTORIAL, *sorted((ROOT / "docs/how-to").glob("*.md"))]
LIMIT_SECONDS = 700  # of a line; the slowest, training on two Ray workers, takes minutes while other tests run
CONFUSING = ("Traceback", "core_worker", "Warning", "WARNING")


def commands(page: Path) -> list[str]:
    """The `adaptfocus` lines of a page's blocks of code."""
    return re.findall(r"^(?:    |\$ )(adaptfocus .*)$", page.read_text().replace("\\\n", ""), re.MULTILINE)


ALL = list(dict.fromkeys(line for page in PAGES for line in commands(page) if "-completion" not in line))


def test_each_page_has_what_is_looked_for() -> None:
    """Otherwise the tests below would pass because they look at nothing."""
    assert {page.stem: bool(commands(page)) for page in PAGES} == {page.stem: True for page in PAGES} | {
        "README": False, "index": False,
    }  # fmt: skip


@pytest.mark.parametrize("line", ALL)
def test_each_command_is_understood(line: str) -> None:
    """Its options are there, and its settings are those of a run."""
    _, name, *rest = shlex.split(line)
    command = get_command(app.app).commands[name]  # type: ignore[attr-defined]
    if hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    given = command.make_context(name, rest).params
    if name in ("plan", "train", "submit"):
        assert settings_from(given["name"], given["overrides"], None).runs


def write_videos(folder: Path) -> None:
    """The ten videos of the tutorial, from people's gestures, and its manifest: four a class are from rooms a and b,
    and the last, for testing, from room c."""
    source = footage_folder() / "people" / "gestures"
    clips = list(csv.DictReader((source / "clips.csv").open()))
    manifest = re.search(r"```csv\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)
    assert manifest, "the tutorial shows a manifest"
    (folder / "videos.csv").write_text(manifest[1])
    (folder / "videos").mkdir()
    rows = list(csv.DictReader(manifest[1].splitlines()))
    for name in {row["labels"] for row in rows}:
        rooms = {room: [c["path"] for c in clips if (c["class"], c["group"]) == (name, room)] for room in "abc"}
        chosen = [*rooms["a"][:2], *rooms["b"][:2], rooms["c"][0]]
        for row, path in zip([row for row in rows if row["labels"] == name], chosen, strict=True):
            (folder / row["path"]).symlink_to(source / path)


def shown_by_the_tutorial() -> dict[str, list[str]]:
    """Command -> the lines that the tutorial shows below it; without those of `train`, which say how fast it was."""
    blocks = re.findall(r"```console\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)
    each = [part.splitlines() for block in blocks for part in re.split(r"^\$ ", block, flags=re.MULTILINE) if part]
    return {lines[0]: lines[1:] for lines in each if not lines[0].startswith("adaptfocus train")}


def without_numbers(line: str, folder: str) -> str:
    """A line without its counts, ages and folders, which differ from run to run."""
    line = re.sub(r"\d+ \w+ ago", "# ago", re.sub(r"\s+", " ", line.replace(folder, "FOLDER")))
    return re.sub(r"\d[\d,.]*", "#", line).strip()


def follow(lines: list[str], folder: Path, environment: Path, **more: str) -> str:
    """Run each line in a shell, one after the other, with a separate temporary folder; return all output."""
    said = ""
    with tempfile.TemporaryDirectory(prefix="af-", dir="/tmp") as temporary:  # Ray's sockets allow short paths only
        more |= {"PATH": f"{environment}:/usr/bin:/bin", "TMPDIR": temporary, "COLUMNS": "100"}
        for line in lines:
            began = time.monotonic()
            done = run("bash", "-c", line, cwd=folder, seconds=LIMIT_SECONDS, **more)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            said += f"$ {line}  # {time.monotonic() - began:.1f} s\n{done.stdout}{done.stderr}"
        left = [path.name for path in Path(temporary).iterdir() if path.name.startswith("adaptfocus")]
    print(said)  # pytest shows it where a test fails
    assert left == [], "nothing of ours is left in the temporary folder"
    assert [word for word in CONFUSING if word in said] == [], said
    return said


@pytest.mark.slow
@pytest.mark.install
@pytest.mark.footage
@pytest.mark.timeout(1500)
def test_the_tutorial(demo_environment: Path, tmp_path: Path) -> None:
    lines = commands(TUTORIAL)
    assert [line.split()[1] for line in lines] == [
        "pack", "pack", "index", "index", "plan", "train", "train", "evaluate", "evaluate", "runs", "report",
        "extract", "export", "verify",
    ]  # fmt: skip
    write_videos(tmp_path)
    said = follow(lines, tmp_path, demo_environment)
    printed = {without_numbers(line, str(tmp_path)) for line in said.splitlines()}
    shown = [line for lines in shown_by_the_tutorial().values() for line in lines]
    assert len(shown) > 25, "the tutorial shows what commands print"
    assert [line for line in shown if without_numbers(line, "/data/own") not in printed] == []
    page = (tmp_path / "report.html").read_text()
    assert "baseline" in page
    assert "first" in page
    made = {"shards", "index", "runs", "report.html", "features", "opentad"}
    assert {path.name for path in tmp_path.iterdir()} == {"videos", "videos.csv"} | made


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.install
@pytest.mark.footage
@pytest.mark.timeout(1500)
def test_own_videos_in_a_bucket(demo_environment: Path, tmp_path: Path) -> None:
    """Ray with two workers once, this process once."""
    write_videos(tmp_path)
    with LocalS3(bucket="bucket") as s3:
        follow(commands(STORES), tmp_path, demo_environment, **s3.environment)
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert {path.name for path in tmp_path.iterdir()} == {"videos", "videos.csv", "report.html"}
