"""Where the centres of clips may lie in their videos. It does without torch, which drawing from saliency needs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.plan.settings import ClipConfig


def center_ranges_seconds(table: pa.Table, places: np.ndarray, clip: ClipConfig) -> tuple[np.ndarray, np.ndarray]:
    """The earliest and latest centres of clips that lie inside their videos, [V]; the middle if a video is shorter."""
    duration = table.column("duration_seconds").to_numpy()[places]
    half = (clip.frames - 1) / 2 * clip.strides_seconds(table.column("frame_rate_hz").to_numpy()[places])
    return np.minimum(half, duration / 2), np.maximum(duration - half, duration / 2)
