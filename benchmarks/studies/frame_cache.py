"""Trains from frames that were decoded once: for ablations, which look at the same world a hundred times.

Every frame of every video is decoded and kept in one memory-mapped file. Batches then follow the plans of a run as the
stream does, but take the frames of each clip from that file. They equal those of `trainers.loop.engine.LocalEngine` bit
for bit, except the columns of what reading and decoding cost, which are 0. Published figures never come from here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from adaptfocus.pipelines.decode.bag import decode_clips
from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.errors import BadVideoError, InputError
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.index.packets import with_packets
from adaptfocus.pipelines.plan.published import Stretch, follow
from adaptfocus.pipelines.plan.resolve import bare_bag
from adaptfocus.pipelines.store.ahead import read_ahead
from adaptfocus.pipelines.stream.batches import DecodedBatch
from adaptfocus.pipelines.stream.clips import ClipShape, Slices, assemble_batches, bags_of
from adaptfocus.pipelines.stream.threads import ahead
from adaptfocus.pipelines.video.spans import find_clips, packets_of, shown_pts
from adaptfocus.trainers.batches import ClipBatch, LabelShape, decode_and_join
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.settings.run import TrainConfig


@dataclass(frozen=True)
class FrameCache:
    """All frames of the videos of an index, one video after the other, each in order of time.

    Frames first_frame[v] to first_frame[v + 1] (not included) are those of row v of the index.
    """

    frames: np.ndarray  # [F, C, H, W] uint8, memory-mapped
    pts: np.ndarray  # [F] int64, in each stream's own time base
    first_frame: np.ndarray  # [videos + 1] int64

    def write_clips(self, bag: dict, out: np.ndarray) -> None:
        """Copy the frames of a bag's clips into `out` uint8 [N, T, C, H, W]."""
        first, end = self.first_frame[bag["video_row"] : bag["video_row"] + 2].tolist()
        wanted = np.array([clip["frame_pts"] for clip in bag["clips"]])
        places = np.searchsorted(self.pts[first:end], wanted)
        if not np.array_equal(self.pts[first:end].take(places, mode="clip"), wanted):
            raise InputError(f"{bag['video_id']}: the plan names frames that the cache lacks; remove the cache")
        out[:] = self.frames[first + places]


class CachedEngine(LocalEngine):
    """One rank in this process, which reads and decodes nothing."""

    def __init__(self, cache: FrameCache, bags_per_batch: int, device: torch.device | None = None) -> None:
        super().__init__(bags_per_batch, device)
        self.cache = cache

    def batches(self, stretch: Stretch, shape: ClipShape, labels: LabelShape) -> Iterator[ClipBatch]:
        return ahead(decode_and_join(follow(stretch), partial(self._decoded, shape=shape), labels))

    def _decoded(self, slices: Slices, shape: ClipShape) -> Iterator[DecodedBatch]:
        bags = (bag for bag in bags_of(slices) if bag)  # None only says that the next is not known yet
        return assemble_batches(bags, shape, self.bags_per_batch, self._fill)

    def _fill(self, batch: DecodedBatch, place: int, bag: dict, shape: ClipShape) -> None:
        """Like `pipelines.stream.clips.fill`, with the cache instead of fetching and decoding."""
        batch.slot[place] = bag["slot"]
        self.cache.write_clips(bag, batch.frames[place])


def frame_cache(config: TrainConfig, folder: str | Path) -> FrameCache:
    """Open the cache of a run's training index in `folder`, or make it if it is missing.

    240 videos of 90 s at 4 frames a second and 20 x 20 pixels are 104 MB, and take 10 s of one core.

    Raises:
        InputError: a video does not decode. The stream would continue without it; a cache is for intact worlds.
    """
    index = load_index(config.index)
    size_pixels, decode = config.clip.size_pixels, config.decode
    made_from = f"{index.fingerprint}/{size_pixels}/{decode.model_dump_json()}"
    stem = f"frames-{hashlib.sha256(made_from.encode()).hexdigest()[:16]}"
    frames_path, facts_path = Path(folder) / f"{stem}.npy", Path(folder) / f"{stem}.npz"
    if not facts_path.exists():
        Path(folder).mkdir(parents=True, exist_ok=True)
        _make(with_packets(index.table).to_pylist(), size_pixels, decode, frames_path, facts_path)
    with np.load(facts_path) as facts:
        return FrameCache(np.load(frames_path, mmap_mode="r"), facts["pts"], facts["first_frame"])


def make_cache(config: TrainConfig, folder: str | Path) -> None:
    """Make the cache now, for later processes."""
    frame_cache(config, folder)


def _make(videos: list[dict], size_pixels: int, decode: DecodeConfig, frames_path: Path, facts_path: Path) -> None:
    """Decode all videos. The facts are written last, and renamed into place, so that a cache is complete or absent."""
    shown = [shown_pts(video, packets_of(video)) for video in videos]
    first_frame = np.cumsum([0, *map(len, shown)])
    part = frames_path.with_suffix(f".{os.getpid()}.part")  # two processes that make the same cache do not collide
    shape = (int(first_frame[-1]), *decode.frame_shape(size_pixels))
    frames = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
    for number, (bag, data, _) in enumerate(read_ahead(_whole(videos, shown))):
        out = frames[first_frame[number] : first_frame[number + 1]]
        try:
            decode_clips(bag, data, size_pixels, decode, out[None])
        except BadVideoError as error:
            part.unlink()
            raise InputError(f"{bag['video_id']} does not decode ({error}); train without the cache") from error
    frames.flush()
    part.replace(frames_path)
    facts = facts_path.with_suffix(f".{os.getpid()}.part")
    with facts.open("wb") as out:
        np.savez(out, pts=np.concatenate(shown), first_frame=first_frame)
    facts.replace(facts_path)


def _whole(videos: Iterable[dict], shown: Iterable[np.ndarray]) -> Iterator[dict]:
    """A bag of each video, whose only clip is the whole video."""
    for video, pts in zip(videos, shown, strict=True):
        tick = video["time_base_numerator"] / video["time_base_denominator"]
        frame_pts, spans = find_clips(video, packets_of(video), pts, [(pts - pts[0]) * tick])
        assert frame_pts == [pts.tolist()]
        yield bare_bag(video, frame_pts, spans)
