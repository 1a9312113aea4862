"""The errors a user is meant to read.

Input: nothing. Does: names what went wrong so that the command line can print one message instead of a
traceback. Output: exception classes; every message gives the value, the limit and the mend.
"""

from __future__ import annotations

from adaptfocus.pipelines.url_secrets import redact_secrets

# Why a request was tried again. The order is that of ClipBatch.read_retries.
RETRY_REASONS = ("throttled", "reset", "truncated", "timeout", "server_error", "wrong_range", "whole_body", "expired",
                 "short", "other")  # fmt: skip


class AdaptFocusError(Exception):
    """Something the user can mend; the command line prints its message and exits 2, without a traceback.

    Its text shows no credential of a URL, whoever prints it: a value that is wrong may be one with a signature.
    """

    def __str__(self) -> str:
        return redact_secrets(super().__str__())


class ConfigError(AdaptFocusError):
    """A configuration that cannot be used: unknown key, value out of range, two settings that disagree."""


class StorageError(AdaptFocusError):
    """A place that cannot be read or written: missing bucket, wrong secret, no such object."""


class ReplacedError(StorageError):
    """An object is not the one that was indexed. No try can mend it: a run that meets it ends."""


class InputError(AdaptFocusError):
    """Annotations, manifests or shards that cannot be used as they are."""


def own_error_in(error: BaseException | None) -> AdaptFocusError | None:
    """The user's own error inside another's, such as Ray's of a task that failed; None if there is none.

    Ray's error is an instance of its cause's class too, with a traceback for a text: the cause itself is wanted.
    """
    while error is not None:
        inside = getattr(error, "cause", None)
        if inside is None and isinstance(error, AdaptFocusError):
            return error
        error = inside or error.__cause__
    return None


class BadVideoError(AdaptFocusError):
    """One video that cannot be used. Never ends a run: it becomes a refused or quarantined row.

    ``kind`` is a short stable word (``no_video_stream``, ``decode_error``, ...) that tables group by.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def as_bad_video(error: Exception) -> BadVideoError:
    """Whatever went wrong with one video, as the reason for which it is left out.

    Raises:
        AdaptFocusError: `error` itself, where it is about the store, the settings or the machine, not about the video.
    """
    if isinstance(error, BadVideoError):
        return error
    if isinstance(error, AdaptFocusError):
        raise error
    if isinstance(error, MemoryError):
        return BadVideoError("out_of_memory", "there was not enough memory for it; use fewer workers, or leave it out")
    lines = str(error).strip().splitlines() or [""]  # of a traceback the last line says what it was
    text = ascii(lines[-1])[1:-1] if not lines[-1].isprintable() else lines[-1]
    return BadVideoError("unexpected_error", f"{type(error).__name__}: {text:.500}; leave it out, and report this")
