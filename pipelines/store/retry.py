"""Trying a request again: how often, after how long, and for which reasons."""

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
# A connection that broke says nothing about the store's load: the next is opened sooner.
RECONNECT_FIRST_WAIT_SECONDS = 0.1
EXPIRED_WAIT_SECONDS = 2.0  # and twice as long after that


def with_retries(url: str, action: Callable[[], T], renew: Callable[[], Any] | None = None) -> T:
    """Run `action`, again with jittered back-off while its error may pass, and name the place if it does not.

    Args:
        renew: asks for the credentials again, before the next try of an action that failed because of them.

    Raises:
        StorageError: with the last error as its cause.
        FileExistsError: as it comes; only exclusive creation meets it, and handles it.
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
    """For tenacity's loops, with asyncio and without: which errors may pass, how often and how soon to try again."""
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
    """How often a request that fails so is sent in all."""
    if error_code(error) in UNKNOWN_KEY:
        return 2  # with what the provider chain says now, once
    return min(reasons.RETRY_ATTEMPTS, ATTEMPTS.get(reason_of(error) or "", reasons.RETRY_ATTEMPTS))


def wait_seconds(error: BaseException | None, failures: int) -> float:
    """How long to wait before the try after the n-th failure, which was this one."""
    reason = reason_of(error)
    if reason == "expired":  # new keys may be there already; if not, whoever rotates them may be some seconds late
        return 0.0 if failures == 1 else EXPIRED_WAIT_SECONDS * (failures - 1)
    is_load = reason in ("throttled", "server_error", "other")
    first = RETRY_FIRST_WAIT_SECONDS if is_load else min(RECONNECT_FIRST_WAIT_SECONDS, RETRY_FIRST_WAIT_SECONDS)
    return LIMITS.wait_seconds(failures, first, RETRY_MAX_WAIT_SECONDS)
