"""Retrying a request: how often, after how long, and for which reasons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import tenacity

from adaptfocus.pipelines.errors import StorageError
from adaptfocus.pipelines.store import reasons
from adaptfocus.pipelines.store.limits import LIMITS
from adaptfocus.pipelines.store.reasons import (
    ATTEMPTS,
    UNKNOWN_KEY,
    as_storage_error,
    error_code,
    reason_of,
)

T = TypeVar("T")
RETRY_FIRST_WAIT_SECONDS = 0.5
RETRY_MAX_WAIT_SECONDS = 8.0
# A broken connection says nothing about the store's load, so the next is opened sooner.
RECONNECT_FIRST_WAIT_SECONDS = 0.1
EXPIRED_WAIT_SECONDS = 2.0  # doubled after that


def with_retries(url: str, action: Callable[[], T], renew: Callable[[], Any] | None = None) -> T:
    """Run `action`, and retry it with jittered back-off while its error may pass.

    Args:
        renew: asks for the credentials again, before the retry of an action that failed because of them.

    Raises:
        StorageError: the error did not pass; it names the place, and the last error is its cause.
        FileExistsError: unchanged; only exclusive creation meets and handles it.
    """

    def before_sleep(state: tenacity.RetryCallState) -> None:
        if renew and reason_of(error_of(state)) == "expired":
            renew()

    try:
        result = tenacity.Retrying(**rules(before_sleep))(action)
    except (StorageError, FileExistsError):
        raise
    except Exception as error:
        raise as_storage_error(url, error) from error
    LIMITS.budget.succeeded()
    return result


def rules(before_sleep: Callable[[tenacity.RetryCallState], Any]) -> dict[str, Any]:
    """Arguments of tenacity's loops, with or without asyncio: which errors to retry, how often and how soon."""
    return {
        "retry": tenacity.retry_if_exception(lambda error: reason_of(error) is not None),
        "stop": lambda state: state.attempt_number >= attempts_for(error_of(state)),
        "wait": lambda state: wait_seconds(error_of(state), state.attempt_number),
        "before_sleep": before_sleep,
        "reraise": True,
    }


def error_of(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def attempts_for(error: BaseException | None) -> int:
    """How often a request with this failure is sent in total."""
    if error_code(error) in UNKNOWN_KEY:
        return 2  # one retry, with the provider chain's current credentials
    return min(reasons.RETRY_ATTEMPTS, ATTEMPTS.get(reason_of(error) or "", reasons.RETRY_ATTEMPTS))


def wait_seconds(error: BaseException | None, failures: int) -> float:
    """Seconds to wait before the retry after the n-th failure, which was `error`."""
    reason = reason_of(error)
    if reason == "expired":  # new keys may already exist, or come some seconds late
        return 0.0 if failures == 1 else EXPIRED_WAIT_SECONDS * (failures - 1)
    is_load = reason in ("throttled", "server_error", "other")
    first = RETRY_FIRST_WAIT_SECONDS if is_load else min(RECONNECT_FIRST_WAIT_SECONDS, RETRY_FIRST_WAIT_SECONDS)
    return LIMITS.wait_seconds(failures, first, RETRY_MAX_WAIT_SECONDS)
