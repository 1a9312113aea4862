"""Whether an answer to a range is an answer to it, and from the object that was indexed. Pure: no store is asked here.

Input: the range, and the status and headers of an answer. Does: compares. Output: where the range lies in the body, or
an error that says what came instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from adaptfocus.pipelines.store.ranges import Range
from adaptfocus.pipelines.store.reads import Version
from adaptfocus.pipelines.store.reasons import ShortReadError, WrongRangeError, replaced_error

# S3's answers to a request for an object of a version that is gone.
GONE_CODES = ("PreconditionFailed", "412", "NoSuchKey", "404", "InvalidRange", "416")


def request_of(wanted: Range, version: Version | None) -> dict[str, str]:
    """The parameters of GetObject for a range, and for that version alone if it is known."""
    asked = {"Range": f"bytes={wanted.offset_bytes}-{wanted.offset_bytes + wanted.size_bytes - 1}"}
    if version and version.tag and not version.tag.startswith("W/"):  # If-Match never matches a weak tag
        asked["IfMatch"] = f'"{version.tag}"'
    return asked


def is_whole(status: int, headers: Mapping[str, str]) -> bool:
    """Whether the body is the whole object. rclone's server sends ranges with 200, and says so in Content-Range."""
    return status == 200 and "content-range" not in headers


def place_in_body(wanted: Range, status: int, headers: Mapping[str, str]) -> tuple[int | None, int]:
    """(size of the object if it is said, bytes of the body before the range): none before it, or a whole object's.

    Raises:
        WrongRangeError: the answer is to another question.
        ShortReadError: the object ends before the range does.
    """
    end = wanted.offset_bytes + wanted.size_bytes
    length = int(headers["content-length"]) if headers.get("content-length", "").isdigit() else None
    if is_whole(status, headers):
        if length is not None and end > length:
            raise ShortReadError(f"it has {length} bytes")
        return length, wanted.offset_bytes
    said = headers.get("content-range", "").strip()
    asked = f"bytes {wanted.offset_bytes}-{end - 1}"
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", said)
    if status not in (200, 206) or found is None:
        raise WrongRangeError(f"the store answered '{asked}' with status {status} and '{said}'")
    first, last = int(found[1]), int(found[2])
    size = None if found[3] == "*" else int(found[3])
    if first == wanted.offset_bytes and size is not None and last == size - 1 < end - 1:
        raise ShortReadError(f"asked for {wanted.size_bytes} bytes from {first}, it has {size}")
    if (first, last) != (wanted.offset_bytes, end - 1):
        raise WrongRangeError(f"the store answered '{asked}' with '{said}'")
    if length is not None and length != wanted.size_bytes:
        raise WrongRangeError(f"the store answered '{asked}' with {length} bytes")
    return size, 0


def check_version(url: str, version: Version, size_bytes: int | None, headers: Mapping[str, str]) -> None:
    """Raises ReplacedError if an answer comes from another object than `version`: not every store heeds If-Match."""
    tag = headers.get("etag", "").removeprefix("W/").strip('"')
    is_other = bool(tag and version.tag and tag != version.tag.removeprefix("W/").strip('"'))
    if is_other or (size_bytes is not None and size_bytes != version.size_bytes):
        now = "" if size_bytes is None else f"{size_bytes} bytes, "
        raise replaced_error(url, f"it had {version_text(version)}; it has {now}tag {tag or 'unknown'}")


def version_text(version: Version) -> str:
    """A version for a message."""
    return f"{version.size_bytes} bytes, tag {version.tag or 'unknown'}"
