"""Intervals as subtitles: WebVTT and SubRip, and names of files that are safe whatever the video is called."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Iterable

MOST_CHARACTERS = 100  # of a file's name
Cue = tuple[float, float, str]  # start_seconds, end_seconds, text


def webvtt(cues: Iterable[Cue]) -> str:
    """A WebVTT file. Cues may overlap; players show them one above the other."""
    parts = ["WEBVTT\n"]
    for start, end, text in sorted(cues):
        first, last = _milliseconds(start, end)
        parts.append(f"{_clock(first, '.')} --> {_clock(last, '.')}\n{html.escape(_line(text), quote=False)}\n")
    return "\n".join(parts)


def subrip(cues: Iterable[Cue]) -> str:
    """A SubRip (.srt) file."""
    parts = []
    for number, (start, end, text) in enumerate(sorted(cues), start=1):
        first, last = _milliseconds(start, end)
        # An arrow inside a text would end it for some players, also one that is left of a longer arrow.
        shown = re.sub("-{2,}>", "->", _line(text))
        parts.append(f"{number}\n{_clock(first, ',')} --> {_clock(last, ',')}\n{shown}\n")
    return "\n".join(parts)


def safe_name(video_id: str) -> str:
    """A name for a video's files. Different ids have different names, also where a file system ignores case."""
    plain = re.sub(r"[^a-z0-9._-]", "_", video_id)
    if plain == video_id and len(plain) <= MOST_CHARACTERS and re.match(r"[a-z0-9]", plain):
        return plain
    digest = hashlib.sha256(video_id.encode()).hexdigest()[:12]
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", video_id).lstrip("._-")[: MOST_CHARACTERS - len(digest) - 1]
    return f"{readable}-{digest}" if readable else digest


def _line(text: str) -> str:
    return " ".join(text.split())


def _milliseconds(start_seconds: float, end_seconds: float) -> tuple[int, int]:
    """Players leave out a cue without length."""
    first = round(1000 * start_seconds)
    return first, max(round(1000 * end_seconds), first + 1)


def _clock(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{rest:03d}"
