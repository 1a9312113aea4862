"""A page as Chromium shows it: how wide it is, what sticks out of it, a picture of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

CHROMIUM_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
    "--virtual-time-budget=2000",
]  # fmt: skip
# Written into a copy of the page: the widths of the document and of what sticks out of it.
MEASURE = """<script>addEventListener('load', () => {
  const root = document.documentElement, wide = root.clientWidth, out = [];
  for (const e of document.querySelectorAll('body *')) {
    const box = e.getBoundingClientRect();
    if (box.right > wide + 0.5 && !e.closest('.scroll, pre, .sprite')) out.push(e.tagName);
  }
  const texts = [...document.querySelectorAll('svg text')];
  const small = texts.filter(t => t.getBoundingClientRect().height < 11).length;
  const colour = getComputedStyle(document.body).backgroundColor.replaceAll(' ', '');
  parent.postMessage([root.scrollWidth, wide, colour, small, ...out].join(' '), '*');
})</script>"""


def browser() -> str:
    found = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
    if found is None and os.environ.get("CI"):
        pytest.fail("no Chromium on PATH, and CI must not skip this test (apt: chromium)")
    if found is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on PATH")
    return found


def open_page(url: str, profile: Path, theme: str, *flags: str) -> str:
    """What Chromium prints about a page. 0 is Blink's number for the dark scheme, 1 for the light one."""
    scheme = f"--blink-settings=preferredColorScheme={0 if theme == 'dark' else 1}"
    command = [browser(), *CHROMIUM_FLAGS, scheme, f"--user-data-dir={profile}", *flags, url]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@dataclass(frozen=True)
class Seen:
    """A page in a window of `width_px`."""

    width_px: int
    scroll_px: int  # of the whole page; more than the width, and it scrolls sideways
    client_px: int
    colour: str  # of the background
    small_texts: int  # texts in charts under 11 px
    outside: list[str]  # elements that stick out to the right
    shot: Path

    def problems(self) -> list[str]:
        """Problems that a reader would notice."""
        found = [f"{name} sticks out" for name in self.outside]
        if self.client_px != self.width_px:
            found.append(f"shown {self.client_px} px wide instead of {self.width_px}")
        if self.scroll_px > self.width_px:
            found.append(f"{self.scroll_px} px wide, scrolls sideways")
        if self.small_texts:
            found.append(f"{self.small_texts} texts in charts are too small to read")
        if self.shot.stat().st_size < 50_000:
            found.append("the screenshot is nearly empty")
        return found


def look_at(page: str, folder: Path, width_px: int, theme: str, name: str) -> Seen:
    """Measure and photograph a report.

    A frame of the wanted width holds the page: Chromium's own windows are never as narrow as a phone.
    """
    policy = re.search(r'<meta http-equiv="Content-Security-Policy"[^>]*>', page)
    assert policy
    (folder / "page.html").write_text(
        page.replace(policy[0], "").replace("</body>", MEASURE + "</body>"), encoding="utf-8"
    )
    (folder / "frame.html").write_text(
        f"""<!DOCTYPE html><style>body {{ margin: 0 }} iframe {{ border: 0; display: block }}</style>
        <script>addEventListener('message', m => document.title = m.data)</script>
        <iframe src="page.html" width="{width_px}" height="9000"></iframe>""",
        encoding="utf-8",
    )
    frame = (folder / "frame.html").as_uri()
    dom = open_page(frame, folder / "profile", theme, "--window-size=1400,9000", "--dump-dom")
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title, "the page did not report its widths"
    scroll_px, client_px, colour, too_small, *outside = title[1].split(" ")
    shot = Path(os.environ.get("ADAPTFOCUS_SCREENSHOTS", folder)) / f"{name}-{width_px}-{theme}.png"
    height_px = 6400 if width_px > 1000 else 9000
    size = f"--window-size={max(width_px, 500)},{height_px}"
    open_page(frame, folder / "profile", theme, size, f"--screenshot={shot}")
    assert shot.read_bytes().startswith(b"\x89PNG")
    return Seen(width_px, int(scroll_px), int(client_px), colour, int(too_small), outside, shot)
