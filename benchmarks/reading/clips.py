"""The clips of one file that all candidates decode. The file is packed and indexed; clips are planned one by one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adaptfocus.pipelines.errors import AdaptFocusError
from adaptfocus.pipelines.store.ahead import read_ahead
from adaptfocus.pipelines.video.packets import Packets
from adaptfocus.pipelines.video.spans import packets_of, shown_pts
from benchmarks.measuring.figures import say
from benchmarks.reading.candidates import Request, VideoFile
from benchmarks.reading.corpus import indexed, planned_bags, write_shards
from benchmarks.reading.minimal import needed_run


@dataclass(frozen=True)
class Clips:
    """A file and the clips drawn from it."""

    video: VideoFile
    requests: list[Request]


def clips_of(name: str, path: Path, folder: Path, count: int) -> Clips | None:
    """`count` clips of a file, drawn as in training; None, and a line on stderr, where it cannot be read."""
    shards, index = str(folder / f"{name}-shards"), str(folder / f"{name}-index")
    try:
        write_shards({name: path}, shards, shard_size_bytes=1 << 40)
        planner = indexed(shards, index)
    except AdaptFocusError as error:
        say(f"{path}: left out: {error}")
        return None
    row = planner.table.slice(0, 1).to_pylist()[0]
    if row["access"] != "packets":
        say(f"{path}: left out: it has no packet table, so there is no floor to compare with")
        return None
    packets = packets_of(row)
    shown = shown_pts(row, packets)
    bags = planned_bags(planner, 1, range(count))  # of its only video
    media = np.memmap(path, np.uint8, "r")
    requests = [_request(each.bag, each.data, packets, shown, media) for each in read_ahead(bags)]
    return Clips(VideoFile(str(path), row["codec"], row["extradata"], row["width"], row["height"]), requests)


def _request(bag: dict, data: list[bytes], packets: Packets, shown: np.ndarray, media: np.ndarray) -> Request:
    wanted = bag["clips"][0]["frame_pts"]
    first, last = needed_run(packets, wanted)
    cut = []
    for number in range(first, last + 1):
        start = int(packets.offset_bytes[number])
        body = media[start : start + int(packets.size_bytes[number])].tobytes()
        cut.append((body, int(packets.pts[number]), int(packets.dts[number])))
    return Request(bag, data, cut, wanted, np.searchsorted(shown, wanted).tolist())
