"""Counters and gauges of a run in training, for whatever collects them: each rank passes on its own, step by step.

What they are is said here, once. `trainers/on_ray/gauges.py` gives them to Ray's exporter, under `ray_` and their name;
Prometheus adds `_total` to a counter. A step costs some 20 us, and nothing if nobody collects (a run without Ray).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from adaptfocus.pipelines.errors import RETRY_REASONS
from adaptfocus.trainers.runs.log import Commit


class Metric(NamedTuple):
    """One quantity. Each has the labels `run` and `rank`, and those of `labels`."""

    kind: str  # counter or gauge
    says: str
    labels: tuple[str, ...] = ()


METRICS = {
    "adaptfocus_clips": Metric("counter", "Clips that were decoded and trained."),
    "adaptfocus_clips_lost": Metric("counter", "Clips that could not be decoded."),
    "adaptfocus_read_bytes": Metric("counter", "Bytes of clips read from the store."),
    "adaptfocus_read_requests": Metric("counter", "Requests to the store for clips."),
    "adaptfocus_read_retries": Metric("counter", "Requests that were sent again.", ("reason",)),
    "adaptfocus_store_wait_seconds": Metric("counter", "Seconds for which decoders waited for the store."),
    "adaptfocus_decode_seconds": Metric("counter", "Seconds of decoding."),
    "adaptfocus_input_wait_seconds": Metric("counter", "Seconds for which the rank waited for its next batch."),
    "adaptfocus_commits": Metric("counter", "Commits of the run; only rank 0."),
    "adaptfocus_commit_stall_seconds": Metric("counter", "Seconds of training standing still for commits; rank 0."),
    "adaptfocus_commit_write_seconds": Metric("counter", "Seconds of writing commits beside training; rank 0."),
    "adaptfocus_last_commit_timestamp_seconds": Metric("gauge", "When the newest commit was made, since 1970; rank 0."),
    "adaptfocus_loss": Metric("gauge", "Mean loss since the commit before; rank 0."),
    "adaptfocus_bags_trained": Metric("gauge", "Bags of the whole run that are committed; rank 0."),
    "adaptfocus_videos_left_out": Metric("gauge", "Videos in quarantine after the newest merged epoch; rank 0."),
}
# The quantity's name, its value (to add to a counter, to set a gauge to), and the values of its own labels.
Export = Callable[[str, float, Mapping[str, str]], None]
_OF_A_STEP = {
    "adaptfocus_read_bytes": "read_bytes",
    "adaptfocus_read_requests": "read_requests",
    "adaptfocus_store_wait_seconds": "wait_seconds",
    "adaptfocus_decode_seconds": "decode_seconds",
}


class Meter:
    """One rank's counters and gauges."""

    def __init__(self, export: Export) -> None:
        self._export = export
        self._waited_seconds = 0.0  # since the last commit, as far as it is passed on

    def add_step(self, columns: Mapping[str, np.ndarray], waited_seconds: float, is_first: bool) -> None:
        """Pass on a step.

        Args:
            columns: of its batch, one value a bag: `ok`, `clip_id` [B, N], `read_retries` [B, reasons] and READING.
            waited_seconds: for batches, since the last commit.
            is_first: whether it is the first step since then.
        """
        clips, bags = columns["clip_id"].shape[1], len(columns["ok"])
        trained = int(columns["ok"].sum())
        self._export("adaptfocus_clips", clips * trained, {})
        if trained < bags:
            self._export("adaptfocus_clips_lost", clips * (bags - trained), {})
        for name, column in _OF_A_STEP.items():
            self._export(name, float(columns[column].sum()), {})
        if columns["read_retries"].any():
            for reason, count in zip(RETRY_REASONS, columns["read_retries"].sum(axis=0).tolist(), strict=True):
                if count:
                    self._export("adaptfocus_read_retries", count, {"reason": reason})
        before = 0.0 if is_first else self._waited_seconds
        self._export("adaptfocus_input_wait_seconds", waited_seconds - before, {})
        self._waited_seconds = waited_seconds

    def add_commit(self, commit: Commit) -> None:
        """Pass on a commit."""
        self._export("adaptfocus_commits", 1, {})
        self._export("adaptfocus_last_commit_timestamp_seconds", commit.seconds, {})
        for name in ("commit_stall_seconds", "commit_write_seconds"):
            self._export(f"adaptfocus_{name}", commit.metrics.get(name, 0.0), {})
        self._export("adaptfocus_loss", commit.metrics["loss"], {})
        if commit.bags is not None:
            self._export("adaptfocus_bags_trained", commit.bags, {})

    def add_epoch(self, videos_left_out: float | None) -> None:
        """Pass on what a merged epoch shows."""
        if videos_left_out is not None:
            self._export("adaptfocus_videos_left_out", videos_left_out, {})
