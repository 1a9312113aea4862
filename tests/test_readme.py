"""The README's commands, word for word, in an empty folder, with what `pip install 'adaptfocus[demo]'` brings."""

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

README = (ROOT / "README.md").read_text()
LIMIT_SECONDS = 700  # of a line; the slowest, training on two Ray workers, takes minutes while other tests run
CONFUSING = ("Traceback", "core_worker", "Warning", "WARNING")


def commands(title: str) -> list[str]:
    """The `adaptfocus` lines of the indented blocks below a heading, up to the next of its level or above."""
    level = re.search(rf"^(#+) {re.escape(title)}$", README, re.MULTILINE)
    assert level, f"README.md has no heading {title!r}"
    rest = README[level.end() :]
    end = re.search(rf"^#{{1,{len(level[1])}}} ", rest, re.MULTILINE)
    section = rest[: end.start()] if end else rest
    return re.findall(r"^    (adaptfocus .*)$", section.replace("\\\n", ""), re.MULTILINE)


def own_videos() -> list[str]:
    """Steps 1 to 6: what stands before the first heading below "Your own videos"."""
    later = [line for part in ("The same in a bucket", "After `small`", "On a cluster") for line in commands(part)]
    return [line for line in commands("Your own videos") if line not in later]


ALL = commands("AdaptFocus")


@pytest.mark.parametrize("line", ALL)
def test_each_command_of_the_readme_is_understood(line: str) -> None:
    """Its options are there, and its settings are those of a run."""
    _, name, *rest = shlex.split(line)
    command = get_command(app.app).commands[name]  # type: ignore[attr-defined]
    given = command.make_context(name, rest).params
    if name in ("plan", "train", "submit"):
        assert settings_from(given["name"], given["overrides"], None).runs


def write_videos(folder: Path) -> None:
    """Somebody's own videos: people's gestures, four of which are learned in two rooms and tested in a third, and a
    manifest as the README shows it. They are small, because a training decodes each of them some forty times."""
    source = footage_folder() / "people" / "gestures"
    (folder / "videos").symlink_to(source)
    header = re.search(r"^path,labels,split$", README, re.MULTILINE)
    assert header, "the README shows a manifest"
    clips = list(csv.DictReader((source / "clips.csv").open()))
    wanted = sorted({row["class"] for row in clips})[:4]
    with (folder / "videos.csv").open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(header[0].split(","))
        for name in wanted:
            for group in "abc":
                chosen = [row["path"] for row in clips if (row["class"], row["group"]) == (name, group)][:2]
                assert chosen, (name, group)
                rows.writerows((f"videos/{path}", name, "test" if group == "c" else "train") for path in chosen)


def follow(lines: list[str], folder: Path, environment: Path, **more: str) -> str:
    """Each line in a shell, one after the other, with an own temporary folder; all that they said."""
    said = ""
    with tempfile.TemporaryDirectory(prefix="af-", dir="/tmp") as temporary:  # Ray's sockets allow short paths only
        more |= {"PATH": f"{environment}:/usr/bin:/bin", "TMPDIR": temporary}
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
def test_own_videos_on_relative_paths(demo_environment: Path, tmp_path: Path) -> None:
    lines = own_videos()
    assert [line.split()[1] for line in lines] == [
        "pack", "pack", "index", "index", "plan", "train", "train", "runs", "evaluate", "evaluate", "report",
        "extract", "export", "verify",
    ]  # fmt: skip
    write_videos(tmp_path)
    said = follow(lines, tmp_path, demo_environment)
    assert "nothing is wrong" in said
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
        follow(commands("The same in a bucket"), tmp_path, demo_environment, **s3.environment)
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert {path.name for path in tmp_path.iterdir()} == {"videos", "videos.csv", "report.html"}
