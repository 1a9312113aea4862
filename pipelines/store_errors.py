"""What a store's errors mean: what is tried again, and what the user is told in the end.

Input: an action on a URL. Does: tries it again with jittered back-off while its error may pass.
Output: its result, or one StorageError that names the place and the mend. No message carries a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import tenacity

from pipelines.errors import StorageError

T = TypeVar("T")

# Eight tries with jittered exponential back-off wait about 16 s in all (means of 0.25, 0.5, 1, 2, 4, 4, 4): longer
# than a rate limiter's bucket takes to refill, shorter than a user's patience with a store that is really down.
RETRY_ATTEMPTS = 8
RETRY_FIRST_WAIT_SECONDS = 0.5
RETRY_MAX_WAIT_SECONDS = 8.0
SHORT_READ_ATTEMPTS = 3  # a connection that broke is whole again the next time; an object that shrank never is
# S3's answers that another try cannot change, as s3fs may wrap them into a plain OSError.
FINAL_CODES = {"InvalidRange", "PreconditionFailed", "InvalidBucketName", "416", "412"}
# botocore's, by name: botocore comes with the extra for S3 and may not be there.
NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError"}


class ShortReadError(OSError):
    """An object gave fewer bytes than were asked for: a broken connection, or it has been replaced."""


def tried(url: str, action: Callable[[], T]) -> T:
    """Run `action`, again with jittered back-off while its error may pass, and name the place if it does not.

    Raises:
        StorageError: with the last error as its cause.
        FileExistsError: as it comes; only exclusive creation meets it, and handles it.
    """
    retry = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        stop=_enough,
        wait=tenacity.wait_random_exponential(multiplier=RETRY_FIRST_WAIT_SECONDS, max=RETRY_MAX_WAIT_SECONDS),
        reraise=True,
    )
    try:
        return retry(action)
    except (StorageError, FileExistsError):
        raise
    except Exception as error:
        raise StorageError(_message(url, error)) from error


def error_code(error: BaseException | None) -> str:
    """S3's own code (``NoSuchBucket``, ``SignatureDoesNotMatch``) from anywhere in the chain of causes, or ''."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__
    return ""


def shown(url: str) -> str:
    """A URL fit for messages: no query, since presigned URLs carry their signature there, and no user."""
    return re.sub(r"^([a-z0-9+.-]+://)[^/]*@", r"\1", url.split("?", 1)[0], flags=re.IGNORECASE)


def _may_pass(error: BaseException) -> bool:
    final = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError, StorageError)
    if not isinstance(error, Exception) or isinstance(error, final) or type(error).__name__ in NO_CREDENTIALS:
        return False
    return error_code(error) not in FINAL_CODES


def _enough(state: tenacity.RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    return state.attempt_number >= (SHORT_READ_ATTEMPTS if isinstance(error, ShortReadError) else RETRY_ATTEMPTS)


def _message(url: str, error: Exception) -> str:
    place, code = shown(url), error_code(error)
    if code == "NoSuchBucket" or (isinstance(error, FileNotFoundError) and "bucket does not exist" in str(error)):
        bucket = url.split("://", 1)[-1].split("/", 1)[0]
        return f"there is no bucket '{bucket}' ({place}); create it, or correct the URL"
    if isinstance(error, FileNotFoundError):
        return f"there is nothing at {place}; check the URL"
    if isinstance(error, PermissionError) or type(error).__name__ in NO_CREDENTIALS:
        return (
            f"{place} was refused by the store ({_reason(error)}); check the credentials in the environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or the file's permissions"
        )
    if isinstance(error, ShortReadError) or code in ("InvalidRange", "416"):
        return (
            f"{place} ends before the range that was asked for ({_reason(error)}); it is not the object that was "
            "indexed: restore it, or index it again"
        )
    if isinstance(error, (IsADirectoryError, NotADirectoryError)):
        return f"{place}: a file stands where a folder is needed, or a folder where a file is; choose another place"
    return (
        f"{place} could not be reached ({_reason(error)}); "
        "check the endpoint (AWS_ENDPOINT_URL) and the network, or the disk"
    )


def _reason(error: BaseException) -> str:
    """What an error says, in one short line, without anything that looks like a signature or a key."""
    code, text = error_code(error), str(error).splitlines()[0] if str(error) else ""
    text = "" if text.endswith("None") else text  # Ceph sends a code and no words
    said: list[Any] = [code or type(error).__name__, text if text != code else ""]
    secret = r"(?i)\b((?:x-amz-)?(?:signature|credential|(?:security-)?token|secret)\w*)\s*[=:]\s*[^&\s]+"
    return re.sub(secret, r"\1=...", ": ".join(filter(None, said)))[:200]
