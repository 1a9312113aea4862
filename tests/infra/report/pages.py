"""What stands on a page of the tests, and a page as its elements and its text."""

from __future__ import annotations

import html.parser
import struct
import zlib

import numpy as np

from adaptfocus.infra.report.data import ActionTimeline, DrawnClip, Thumbnail, VideoSample
from adaptfocus.infra.running.run_warnings import warnings_of
from tests.infra.running.test_found import config_of, evidence, told

ACTIONS = [
    "putting a notebook somewhere",
    "opening a refrigerator",
    "washing a window",
    "someone is laughing",
]
# Six classes are found, five are not, one has too few videos.
_EVIDENCE = {
    **{name: evidence(5.0) for name in (*ACTIONS, "class 0", "class 1")},
    **{f"class {n}": evidence(0.3) for n in range(2, 7)},
    "class 7": evidence(0.2, 1.0),
}
FOUND = told(_EVIDENCE)
WARNINGS = warnings_of([{"epoch": epoch, "evidence": _EVIDENCE} for epoch in (3, 4, 5)], config_of())


def png(hue: int) -> bytes:
    """A 160 x 90 picture with a bright square, as PNG."""
    y, x = np.mgrid[0:90, 0:160]
    pixels = np.stack([(x + hue) % 160 + 40, y + 80, 200 - (x // 2)], axis=-1).astype(np.uint8)
    pixels[30:54, 20 + hue : 44 + hue] = (250, 240, 120)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 160, 90, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def action(label: str, peak: float, hit: bool | None, rng: np.random.Generator) -> ActionTimeline:
    """Twenty bins around a peak, two of them never visited."""
    taus = (np.arange(20) + rng.uniform(0.1, 0.9, 20)) / 20
    scores = np.clip(0.08 + 0.75 * np.exp(-(((taus - peak) / 0.07) ** 2)) + rng.normal(0, 0.04, 20), 0.01, 1)
    spike = int(scores.argmax())
    score_bins: list[float | None] = [float(s) for s in scores]
    tau_bins: list[float | None] = [float(t) for t in taus]
    for b in (3, 17):
        if b != spike:
            score_bins[b] = tau_bins[b] = None
    at = float(taus[spike])
    true_at = at if hit else (at + 0.4) % 0.9
    intervals = None if hit is None else [(90 * true_at - 5, 90 * true_at + 6)]
    return ActionTimeline(label, score_bins, tau_bins, float(scores[spike]), at, 90 * at, intervals, hit)


def sample(run: str, video_id: str, rng: np.random.Generator) -> VideoSample:
    actions = [
        action(ACTIONS[0], 0.3, True, rng),
        action(ACTIONS[1], 0.93, False, rng),
        action(ACTIONS[3], 0.02, None, rng),
    ]
    clips = []
    for epoch in range(30):
        for _ in range(3):
            chosen = actions[int(rng.integers(3))]
            if epoch < 2 or rng.random() < 0.5:
                clips.append(DrawnClip(float(rng.uniform(1, 89)), 1.0, "explore", None, epoch))
            else:
                center = float(np.clip((chosen.salient_seconds or 0) + rng.uniform(-13, 13), 1, 89))
                clips.append(DrawnClip(center, 1.0, "focus", chosen.label, epoch))
    pictures = [Thumbnail(a.label, a.salient_seconds or 0.0, png(20 * i)) for i, a in enumerate(actions)]
    return VideoSample(run, video_id, 90.0, [a.label for a in actions], actions, clips, pictures)


class Page(html.parser.HTMLParser):
    """All elements with their attributes, and all text by the element around it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, list[str]] = {}
        self._stack: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in {"meta", "link", "img", "br", "wbr"}:
            self._stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._stack.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, text: str) -> None:
        self.text.setdefault(self._stack[-1] if self._stack else "", []).append(text.strip())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.elements if name == tag]
