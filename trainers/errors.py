"""Errors that training knows how to answer."""

from __future__ import annotations

from adaptfocus.pipelines.errors import AdaptFocusError, StorageError


class StoppedError(AdaptFocusError):
    """The run cannot continue as it is. Every rank is told and stops; starting the ranks again would not help."""


class DrainedError(AdaptFocusError):
    """The worker group was asked to stop. It has committed all that it trained, and may be started again elsewhere."""


class TakenOverError(AdaptFocusError):
    """Another process has claimed the run since then. This one must stop without writing anything more."""


class DamagedStateError(StorageError):
    """The weights of a checkpoint are not the bytes that were written, or are gone."""
