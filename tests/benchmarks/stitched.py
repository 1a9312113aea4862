"""Trimmed clips to stitch long videos from: each has one grey, which identifies its class and person."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

CLASSES, PEOPLE = ("jump", "rest", "wave"), ("ann", "bob", "eve")


def grey_of(label: str, person: str) -> int:
    return 20 + 25 * (3 * CLASSES.index(label) + PEOPLE.index(person))


def write_clip(path: Path, grey: int, seconds: float = 2.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 64, "yuv420p"
        for _ in range(round(10 * seconds)):
            image = np.full((64, 48, 3), grey, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))
