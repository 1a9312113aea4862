"""Errors that training handles itself."""

from __future__ import annotations

from adaptfocus.pipelines.errors import AdaptFocusError, StorageError


class StoppedError(AdaptFocusError):
    """The run cannot continue as it is. Every rank gets this error and stops; a restart would not help."""


class DrainedError(AdaptFocusError):
    """The worker group was asked to stop and has committed all that it trained. It may be started again elsewhere."""


class TakenOverError(AdaptFocusError):
    """Another process has claimed the run. This process must stop without writing anything more."""


class DamagedStateError(StorageError):
    """The weights of a checkpoint differ from the bytes that were written, or are gone."""
