"""What an entry of the log measures, by the names in its `metrics`. Displays of runs need no torch for it."""

from __future__ import annotations

from adaptfocus.pipelines.errors import RETRY_REASONS

# Columns of ClipBatch that a commit reports, summed over its bags and over ranks.
READING = ("read_bytes", "read_requests", "wait_seconds", "decode_seconds", "read_retries")
# The last of these by reason: read_retries_throttled and so on.
RETRIES = tuple(f"read_retries_{reason}" for reason in RETRY_REASONS)
