"""The loader that people write today: WebDataset over HTTP, decord, a torch DataLoader.

    python -m benchmarks.reading.dataloader SCALER WORKERS URL...

The tars are streamed (curl), and decord reads 4 random clips of each member: 32 frames, stride 3, scaled to a short
side of 256 and cropped to 224. With SCALER "torch", decord gives whole frames and torch interpolates them, as VideoMAE
and SlowFast do it; with "decord", decord scales while it decodes. The program prints one line of JSON with clips and
seconds, counted from the first batch, so that the start of the workers does not count.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from benchmarks.measuring.pace import paced
from benchmarks.reading.corpus import CLIPS_PER_BAG, FRAMES, SHORT_SIDE_PIXELS, SIZE_PIXELS, STRIDE

ASPECT = 16 / 9  # taken as known, because a second reader to find it would scan the member again


def decoded(samples: Iterable[dict[str, Any]], scaler: str) -> Iterator[np.ndarray]:
    """The `mp4` of each sample -> uint8 [4, 32, 3, 224, 224]."""
    import io

    import decord

    random = np.random.default_rng(0)
    width, height = round(SHORT_SIDE_PIXELS * ASPECT), SHORT_SIDE_PIXELS
    for sample in samples:
        scaled = {"width": width, "height": height} if scaler == "decord" else {}
        reader = decord.VideoReader(io.BytesIO(sample["mp4"]), num_threads=1, **scaled)
        starts = random.integers(max(1, len(reader) - FRAMES * STRIDE), size=CLIPS_PER_BAG)
        clips = (reader.get_batch(_numbers(start, len(reader))).asnumpy() for start in starts)
        yield np.stack([_cropped(clip if scaled else _scaled(clip, width, height)) for clip in clips])


def _numbers(start: int, length: int) -> list[int]:
    return np.minimum(start + np.arange(FRAMES) * STRIDE, length - 1).tolist()


def _scaled(frames_THWC: np.ndarray, width: int, height: int) -> np.ndarray:
    import torch

    frames = torch.from_numpy(frames_THWC).permute(0, 3, 1, 2).float()
    made = torch.nn.functional.interpolate(frames, size=(height, width), mode="bilinear", align_corners=False)
    return made.round().byte().permute(0, 2, 3, 1).numpy()


def _cropped(frames_THWC: np.ndarray) -> np.ndarray:
    top, left = ((side - SIZE_PIXELS) // 2 for side in frames_THWC.shape[1:3])
    return frames_THWC[:, top : top + SIZE_PIXELS, left : left + SIZE_PIXELS].transpose(0, 3, 1, 2)


def main(scaler: str, workers: int, urls: list[str]) -> None:
    from functools import partial

    import torch
    import webdataset as wds  # its names are loaded lazily
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)
    samples = wds.WebDataset(urls, shardshuffle=False)  # type: ignore[attr-defined]
    loader = DataLoader(
        samples.compose(partial(decoded, scaler=scaler)), batch_size=None, num_workers=workers, prefetch_factor=2
    )
    clips, seconds = paced(len(batch) for batch in loader)
    print(json.dumps({"clips": clips, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
