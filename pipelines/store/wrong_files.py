"""Files that only stand in the place of others: what is downloaded or cloned where the real thing was wanted.

Input: the first bytes of a file. Does: looks. Output: what it is and how to get the real file; None if it is neither.
"""

from __future__ import annotations

HEAD_BYTES = 512

_LFS = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype html", b"<html", b"<head", b'<?xml version="1.0" encoding="utf-8"?><!doctype html')


def describe_wrong_file(data: bytes) -> str | None:
    """`is a Git LFS pointer ...` or `is a web page ...`, to follow a file's name."""
    head = data[:HEAD_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(_LFS):
        return (
            "is a Git LFS pointer and not the file that it stands for: run `git lfs pull` where it was cloned, or "
            "download the file itself"
        )
    if head.lower().startswith(_PAGES):
        return (
            "is a web page (HTML) and not a file of data: a log-in, a preview or an error was saved; take the link "
            "that downloads the file itself"
        )
    return None
