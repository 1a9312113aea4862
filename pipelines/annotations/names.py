"""Names of videos, files and groups: which are safe, which are the same, which are given twice."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Iterable

from adaptfocus.pipelines.errors import InputError


def normal(text: str) -> str:
    """A label, class or split as it is compared: in NFC, without a byte-order mark, white space as single spaces.

    macOS writes an accent apart from its letter (NFD), other systems do not: both are one name.
    """
    return unicodedata.normalize("NFC", " ".join(text.replace("\ufeff", "").split()))


def normal_id(text: str) -> str:
    """An id as it is compared: in NFC, without white space around it. What is inside stays: ids are file names."""
    return unicodedata.normalize("NFC", text.strip())


def text_reason(text: str) -> str | None:
    """Why text cannot be stored or shown as one line of UTF-8, or None if it can."""
    kinds = {unicodedata.category(c) for c in text}
    if "Cs" in kinds:
        return "it contains half of a surrogate pair, which is no character"
    return "it contains control characters" if "Cc" in kinds else None


def unsafe_reason(name: str) -> str | None:
    """Why `name` must not become a path or a key, or None if it may."""
    if not name:
        return "it is empty"
    if reason := text_reason(name):
        return reason
    if name.startswith("/") or re.match(r"^[A-Za-z]:[\\/]", name) or "://" in name:
        return "it is absolute"
    segments = name.replace("\\", "/").split("/")
    if ".." in segments or "." in segments:
        return "it contains a '.' or '..' segment"
    if "" in segments:
        return "it contains an empty segment"
    return None


def check_id(video_id: str, where: str) -> str:
    """`video_id` in its normal form, if that is safe as a path inside an archive.

    Raises:
        InputError: it is absolute, climbs out of its folder, or contains control characters or empty segments.
    """
    video_id = normal_id(video_id)
    reason = unsafe_reason(video_id)
    if reason:
        raise InputError(
            f"{where}: the video id {video_id!r} cannot be used because {reason}; "
            "use a relative name such as 'kitchen/0001'"
        )
    return video_id


def check_unique(ids_and_places: Iterable[tuple[str, str]], fix: str = "give one of them another id") -> None:
    """Raises InputError naming both places if an id occurs twice."""
    first: dict[str, str] = {}
    for video_id, where in ids_and_places:
        if video_id in first:
            raise InputError(f"the video id {video_id!r} occurs twice: {first[video_id]} and {where}; {fix}")
        first[video_id] = where


VIDEO_EXTENSIONS = frozenset(
    ["mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "mts", "m2ts", "mpg", "mpeg", "flv", "wmv", "3gp", "ogv"]
)


def key_and_extension(name: str) -> tuple[str | None, str]:
    """WebDataset's key rule: the base name up to its first dot, and what follows.

    The same as ``webdataset.tariterators.base_plus_ext`` (a test compares them); importing that brings in torch, 2 s
    for each indexing process.
    """
    match = re.match(r"^((?:.*/|)[^.]+)[.]([^/]*)$", name)
    return (match[1], match[2].lower()) if match else (None, "")


def is_video(extension: str) -> bool:
    """Whether a sample's extension (``mp4``, or ``left.mp4``) is that of a video."""
    return extension.rsplit(".", 1)[-1] in VIDEO_EXTENSIONS


def key_of(video_id: str) -> str:
    """The WebDataset key of an id: dots in its last segment become "_", because a key ends at the first dot."""
    folder, name = posixpath.split(video_id)
    return posixpath.join(folder, name.replace(".", "_"))
