"""A page as Chromium shows it: how wide it is, what sticks out of it, a picture of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest

WIDTHS_PX = (1280, 375)  # of a desktop and of a phone
HEIGHT_PX = 9000
MIN_ROWS = 1000  # of pixels, that show something
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
    """A page in a frame of `width_px`."""

    width_px: int
    scroll_px: int  # of the whole page; more than the width, and it scrolls sideways
    client_px: int
    colour: str  # of the background
    small_texts: int  # texts in charts under 11 px
    outside: list[str]  # elements that stick out to the right
    picture: np.ndarray  # uint8 [HEIGHT_PX, width_px, 3]

    def problems(self) -> list[str]:
        """Problems that a reader would notice."""
        found = [f"{name} sticks out" for name in self.outside]
        if self.client_px != self.width_px:
            found.append(f"shown {self.client_px} px wide instead of {self.width_px}")
        if self.scroll_px > self.width_px:
            found.append(f"{self.scroll_px} px wide, scrolls sideways")
        if self.small_texts:
            found.append(f"{self.small_texts} texts in charts are too small to read")
        if np.count_nonzero((self.picture != self.picture[:, :1]).any(axis=(1, 2))) < MIN_ROWS:
            found.append("the screenshot is nearly empty")
        return found


def look_at(page: str, folder: Path, theme: str, name: str) -> list[Seen]:
    """Measure and photograph a report on a desktop and on a phone.

    A frame of each width holds the page: Chromium's own windows are never as narrow as a phone. Both are in one window,
    which is measured and photographed in one go: Chromium takes seconds to start.
    """
    policy = re.search(r'<meta http-equiv="Content-Security-Policy"[^>]*>', page)
    assert policy
    (folder / "page.html").write_text(
        page.replace(policy[0], "").replace("</body>", MEASURE + "</body>"), encoding="utf-8"
    )
    frames = "".join(f'<iframe src="page.html" width="{width}" height="{HEIGHT_PX}"></iframe>' for width in WIDTHS_PX)
    (folder / "frames.html").write_text(
        f"""<!DOCTYPE html><style>body {{ margin: 0; display: flex }} iframe {{ border: 0 }}</style>
        <script>const said = {{}}; addEventListener('message', m => {{
          said[[...document.querySelectorAll('iframe')].findIndex(f => f.contentWindow === m.source)] = m.data;
          document.title = [said[0], said[1]].join(' | ');
        }})</script>{frames}""",
        encoding="utf-8",
    )
    shot = Path(os.environ.get("ADAPTFOCUS_SCREENSHOTS", folder)) / f"{name}-{theme}.png"
    flags = (f"--window-size={sum(WIDTHS_PX)},{HEIGHT_PX}", f"--screenshot={shot}", "--dump-dom")
    dom = open_page((folder / "frames.html").as_uri(), folder / "profile", theme, *flags)
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title, "the page did not report its widths"
    with av.open(str(shot)) as picture:
        pixels = next(picture.decode(video=0)).to_ndarray(format="rgb24")
    assert pixels.shape == (HEIGHT_PX, sum(WIDTHS_PX), 3)
    pictures = np.split(pixels, [WIDTHS_PX[0]], axis=1)
    return [_seen(*each) for each in zip(WIDTHS_PX, title[1].split(" | "), pictures, strict=True)]


def _seen(width_px: int, said: str, picture: np.ndarray) -> Seen:
    scroll_px, client_px, colour, too_small, *outside = said.split(" ")
    return Seen(width_px, int(scroll_px), int(client_px), colour, int(too_small), outside, picture)
