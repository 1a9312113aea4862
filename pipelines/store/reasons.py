"""What a store's errors mean: what is tried again, and what the user is told in the end.

Input: an action on a URL. Does: tries it again with jittered back-off while its error may pass.
Output: its result, or one StorageError that names the place and the mend. No message carries a secret.
"""

from __future__ import annotations

import re
from typing import Any

from adaptfocus.pipelines.errors import ReplacedError, StorageError
from adaptfocus.pipelines.store.urls import redact_url
from adaptfocus.pipelines.url_secrets import redact_secrets

# Eight tries with jittered exponential back-off wait about 16 s in all (means of 0.25, 0.5, 1, 2, 4, 4, 4): longer
# than a rate limiter's bucket takes to refill, shorter than a user's patience with a store that is really down.
RETRY_ATTEMPTS = 8
# Where other reasons are tried less often. A body that broke off is whole the next time, and an object that shrank
# never is; a server that answers ranges wrongly mostly does so always; keys are renewed or they are not.
ATTEMPTS = {"short": 3, "wrong_range": 4, "whole_body": 4, "expired": 4}

THROTTLED = {
    *("SlowDown", "RequestLimitExceeded", "Throttling", "ThrottlingException", "ThrottledException"),
    *("RequestThrottled", "RequestThrottledException", "TooManyRequests", "TooManyRequestsException"),
    *("BandwidthLimitExceeded", "PriorRequestNotComplete", "ServiceUnavailable", "503", "429"),
}
# Keys that may be others by now: the provider chain (environment, shared file, role) is asked for them again.
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "RequestTimeTooSkewed"}
UNKNOWN_KEY = {"InvalidAccessKeyId"}  # a key that was taken back, or one that has never been
# S3's answers that another try cannot change, as s3fs may wrap them into a plain OSError.
FINAL_CODES = {"InvalidRange", "PreconditionFailed", "InvalidBucketName", "416", "412"}
# botocore's, by name: botocore comes with the extra for S3 and may not be there.
NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError"}
_BY_NAME = (  # of aiohttp and botocore, the more special first
    ("truncated", {"ClientPayloadError", "IncompleteReadError", "ResponseStreamingError"}),
    ("timeout", {"TimeoutError", "ReadTimeoutError", "ConnectTimeoutError", "FSTimeoutError", "ServerTimeoutError"}),
    ("reset", {"ConnectionError", "HTTPClientError", "ClientConnectionError", "EndpointConnectionError"}),
)


class ShortReadError(OSError):
    """An object gave fewer bytes than were asked for: a broken connection, or it has been replaced."""


class WrongRangeError(OSError):
    """A store answered a range with another one."""


class WholeBodyError(OSError):
    """A store answered a range with the whole object, which is too large to cut the range out of."""


def reason_of(error: BaseException | None) -> str | None:
    """Why this error may pass (one of RETRY_REASONS); None if another try cannot change it."""
    code, status = error_code(error), _status(error)
    if code in THROTTLED or status in (429, 503):
        return "throttled"
    if code in EXPIRED | UNKNOWN_KEY:
        return "expired"
    final = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError, StorageError)
    if not isinstance(error, Exception) or isinstance(error, final) or type(error).__name__ in NO_CREDENTIALS:
        return None
    if code in FINAL_CODES:
        return None
    own = {ShortReadError: "short", WrongRangeError: "wrong_range", WholeBodyError: "whole_body"}.get(type(error))
    if own:
        return own
    if status >= 500 or code == "InternalError":
        return "server_error"
    names = {each.__name__ for each in type(error).__mro__}
    return next((reason for reason, known in _BY_NAME if names & known), "other")


def error_code(error: BaseException | None) -> str:
    """S3's own code (``NoSuchBucket``, ``SignatureDoesNotMatch``) from anywhere in the chain of causes, or ''."""
    return str(_response(error).get("Error", {}).get("Code", ""))


def _status(error: BaseException | None) -> int:
    """The HTTP status of an S3 answer, or of an HTTP one; 0 if none is known."""
    status = _response(error).get("ResponseMetadata", {}).get("HTTPStatusCode") or getattr(error, "status", 0)
    return status if isinstance(status, int) else 0


def _response(error: BaseException | None) -> dict[str, Any]:
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return response
        error = error.__cause__
    return {}


def replaced_error(url: str, how: str) -> ReplacedError:
    """The error of an object that is not the one that was indexed."""
    keep = "" if "://" in url and not url.startswith("file:") else " with its time of modification (cp -p)"
    return ReplacedError(
        f"{redact_url(url)} has been replaced or removed since it was indexed ({how}); restore it{keep}, or index "
        "again and begin a new run"
    )


def as_storage_error(url: str, error: Exception) -> StorageError:
    """What the user is told of an error that did not pass."""
    return StorageError(_message(url, error))


def _message(url: str, error: Exception) -> str:
    place, code = redact_url(url), error_code(error)
    if code == "NoSuchBucket" or (isinstance(error, FileNotFoundError) and "bucket does not exist" in str(error)):
        bucket = url.split("://", 1)[-1].split("/", 1)[0]
        return f"there is no bucket '{bucket}' ({place}); create it, or correct the URL"
    if isinstance(error, FileNotFoundError):
        return f"there is nothing at {place}; check the URL"
    if code == "RequestTimeTooSkewed":
        return f"{place} was refused by the store ({_reason(error)}); set this machine's clock (NTP)"
    if code in EXPIRED:
        return (
            f"{place} was refused by the store: the credentials have expired ({_reason(error)}); renew them where they "
            "come from (AWS_SESSION_TOKEN and its keys in the environment, the shared credentials file, or the "
            "machine's role), then give the command again: nothing that was committed is lost"
        )
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
    if isinstance(error, WrongRangeError | WholeBodyError):
        return f"{place}: {error}; use a store, or a way to it, that answers ranges with 206 and their bytes"
    if isinstance(error, (IsADirectoryError, NotADirectoryError)):
        return f"{place}: a file stands where a folder is needed, or a folder where a file is; choose another place"
    if reason_of(error) == "throttled":
        return (
            f"{place} was refused by the store for too many requests, {RETRY_ATTEMPTS} times in a row "
            f"({_reason(error)}); use fewer placement.decode_workers, or ask for a higher limit"
        )
    return (
        f"{place} could not be reached ({_reason(error)}); "
        "check the endpoint (AWS_ENDPOINT_URL) and the network, or the disk"
    )


def _reason(error: BaseException) -> str:
    """What an error says, in one short line, without anything that looks like a signature or a key."""
    code, text = error_code(error), str(error).splitlines()[0] if str(error) else ""
    text = redact_secrets(text)
    text = re.sub(r"^\[Errno \d+\] ", "", text)  # a number that s3fs chose
    text = "" if text.endswith("None") else text  # Ceph sends a code and no words
    said: list[Any] = [code or type(error).__name__, text if text != code else ""]
    secret = r"(?i)\b((?:x-amz-)?(?:signature|credential|(?:security-)?token|secret)\w*)\s*[=:]\s*[^&\s]+"
    return re.sub(secret, r"\1=...", ": ".join(filter(None, said)))[:200]
