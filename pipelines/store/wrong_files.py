"""Recognise files that stand for other files: a Git LFS pointer or a web page that was saved instead of data."""

from __future__ import annotations

HEAD_BYTES = 512

_LFS = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype html", b"<html", b"<head", b'<?xml version="1.0" encoding="utf-8"?><!doctype html')


def describe_wrong_file(data: bytes) -> str | None:
    """`is a Git LFS pointer ...` or `is a web page ...`, to follow a file's name."""
    head = data[:HEAD_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(_LFS):
        return (
            "is a Git LFS pointer and not the file itself: run `git lfs pull` in the clone, or download the file itself"
        )
    if head.lower().startswith(_PAGES):
        return (
            "is a web page (HTML) and not a data file: a log-in, a preview or an error was saved; use the link "
            "that downloads the file itself"
        )
    return None
