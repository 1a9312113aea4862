"""The errors that a user is meant to read: the command line prints one message for each, without a traceback.

A message gives the value, the limit and the fix.
"""

from __future__ import annotations

from adaptfocus.pipelines.url_secrets import redact_secrets

# Why a request was retried. The order is that of ClipBatch.read_retries.
RETRY_REASONS = ("throttled", "reset", "truncated", "timeout", "server_error", "wrong_range", "whole_body", "expired",
                 "short", "other")  # fmt: skip


class AdaptFocusError(Exception):
    """Something the user can fix; the command line prints its message and exits 2, without a traceback.

    Its text shows no credential of a URL, whoever prints it: a wrong value may contain a signature.
    """

    def __str__(self) -> str:
        return redact_secrets(super().__str__())


class ConfigError(AdaptFocusError):
    """A configuration that cannot be used: an unknown key, a value out of range, two settings that conflict."""


class StorageError(AdaptFocusError):
    """A place that cannot be read or written: a missing bucket, a wrong secret, no such object."""


class ReplacedError(StorageError):
    """An object is not the one that was indexed. No retry can fix it: a run that meets it ends."""


class InputError(AdaptFocusError):
    """Annotations, manifests or shards that cannot be used as they are."""


# Ray Data appends this and advice about its own settings to the text of an error of a task.
_RAYS_ADVICE = "\nFailed to apply UDF transform after "


def own_error_in(error: BaseException | None) -> AdaptFocusError | None:
    """The AdaptFocusError inside another error, such as Ray's for a failed task; None if there is none.

    Ray's error is also an instance of its cause's class, but its text is a traceback: the cause itself is wanted.
    """
    while error is not None:
        inside = getattr(error, "cause", None)
        if inside is None and isinstance(error, AdaptFocusError):
            error.args = tuple(a.split(_RAYS_ADVICE)[0] if isinstance(a, str) else a for a in error.args)
            return error
        error = inside or error.__cause__
    return None


class BadVideoError(AdaptFocusError):
    """One video that cannot be used. It never ends a run: the video becomes a refused or quarantined row.

    ``kind`` is a short stable word (``no_video_stream``, ``decode_error``, ...) that tables group by.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type[BadVideoError], tuple[str, str]]:
        """Between processes, both arguments go along: an exception alone would send only its message."""
        return type(self), (self.kind, str(self))


def as_bad_video(error: Exception) -> BadVideoError:
    """Any error with one video, as the reason for leaving it out.

    Raises:
        AdaptFocusError: `error` itself, if it is about the store, the settings or the machine instead of the video.
    """
    if isinstance(error, BadVideoError):
        return error
    if isinstance(error, AdaptFocusError):
        raise error
    if isinstance(error, MemoryError):
        return BadVideoError("out_of_memory", "there was not enough memory for it; use fewer workers, or leave it out")
    lines = str(error).strip().splitlines() or [""]  # the last line of a traceback names the error
    text = ascii(lines[-1])[1:-1] if not lines[-1].isprintable() else lines[-1]
    return BadVideoError("unexpected_error", f"{type(error).__name__}: {text:.500}; leave it out, and report this")
