"""Read clips of an index, without a run and without Ray, and save their frames as one picture.

    python examples/look_at_clips.py FOLDER

FOLDER is what train_on_a_world.py wrote. A row of the picture is a clip, from left to right in time.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from adaptfocus.pipelines.index import load_index
from adaptfocus.pipelines.plan import ClipConfig, Planner, plan_views
from adaptfocus.pipelines.stream import ClipShape, read_and_decode

CLIPS = 3  # of each video


def main(folder: str) -> None:
    # 1. The index says where every packet of every video is.
    index = load_index(f"{folder}/world/index/train")
    print(f"{index.table.num_rows} videos of {len(index.classes)} classes")

    # 2. A plan says which clips to read: here some views of each video, evenly apart.
    clip = ClipConfig(frames=8, frame_stride=1, fps=4, size_pixels=64)
    plan = plan_views(Planner.of(index.table, index.classes), clip, num_views=CLIPS)

    # 3. Read and decode the first four videos: uint8 [videos, clips, frames, RGB, height, width].
    shape = ClipShape(clips=CLIPS, frames=clip.frames, size_pixels=64, max_labels=plan.max_labels, bins=1)
    batch = read_and_decode(plan.table.slice(0, 4), shape)
    for row, video in enumerate(plan.table.slice(0, 4).to_pylist()):
        print(f"{video['video_id']}: {batch.read_bytes[row]:,} bytes in {batch.read_requests[row]} requests, "
              f"{1000 * batch.decode_seconds[row]:.0f} ms to decode")  # fmt: skip
    write_png(batch.frames.reshape(-1, *batch.frames.shape[2:]), Path(folder) / "clips.png")
    print(f"{folder}/clips.png")


def write_png(clips: np.ndarray, path: Path) -> None:
    """Save uint8 [clips, frames, 3, H, W], a row a clip."""
    picture = np.concatenate([np.concatenate(list(clip.transpose(0, 2, 3, 1)), axis=1) for clip in clips])
    encoder: Any = av.CodecContext.create("png", "w")
    encoder.height, encoder.width, encoder.pix_fmt = picture.shape[0], picture.shape[1], "rgb24"
    encoder.time_base = Fraction(1, 1)
    packets = encoder.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")) + encoder.encode()
    path.write_bytes(b"".join(bytes(packet) for packet in packets))


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()))
