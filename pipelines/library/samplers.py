"""Ready samplers: clips drawn anywhere in each video, and clips that cover each video.

Both go through the index by partitions, so that no process holds the videos of more than one window. An order is a
function of (seed, epoch), and a draw of (seed, epoch, video id), as in training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.decode.window_jobs import number_of_hops
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.library.index import Index
from adaptfocus.pipelines.library.moments import InPieces, Moments, Piece, Sampler, digest
from adaptfocus.pipelines.plan.centers import center_ranges_seconds
from adaptfocus.pipelines.plan.order import keys_of_draws, order_of_epoch
from adaptfocus.pipelines.plan.philox import uniforms
from adaptfocus.pipelines.plan.settings import ClipConfig
from adaptfocus.pipelines.plan.windows import windows_in_order

WINDOW_VIDEOS = 65_536  # whose order is mixed
_COLUMNS = ["video_id", "duration_seconds", "frame_rate_hz"]


def uniform(index: Index, clip: ClipConfig, clips_per_video: int = 1, seed: int = 0) -> Sampler:
    """A sampler of clips at random times of every video, in a random order; other ones in each epoch.

    The clips of one video follow each other, which costs fewer requests. A clip lies inside its video if that is long
    enough.

    Args:
        clip: the length of the clips.

    Raises:
        ConfigError: a number is out of range.
    """
    if not 1 <= clips_per_video <= 4096 or not 0 <= seed < 1 << 32:
        raise ConfigError(f"{clips_per_video} clips of each video, seed {seed}: take 1 to 4096, and 0 to 4294967295")
    return _Uniform(index, clip, clips_per_video, seed)


def dense(index: Index, hop_seconds: float) -> Moments:
    """The moments in the middle of each hop of every video, in the order of the index; a last hop may be shorter.

    The durations of all videos are read once. `windows` reads one video densely at less cost.

    Raises:
        ConfigError: the hop is not above 0.
    """
    if not hop_seconds > 0:
        raise ConfigError(f"a hop of {hop_seconds} s: it must be above 0")
    counts = [int(_hops(table, hop_seconds).sum()) for table in index.tables(["duration_seconds"])]
    said = digest("dense", index.fingerprint, hop_seconds)
    return InPieces(counts, _Dense(index, tuple(index.partitions), hop_seconds).piece, said)


@dataclass(frozen=True)
class _Uniform:
    index: Index
    clip: ClipConfig
    clips_per_video: int
    seed: int

    def __call__(self, epoch: int) -> Moments:
        videos = {uid: each.rows for uid, each in self.index.partitions.items()}
        windows = windows_in_order(videos, self.seed, epoch, WINDOW_VIDEOS)
        counts = [self.clips_per_video * sum(videos[uid] for uid in window) for window in windows]
        said = digest("uniform", self.index.fingerprint, self.clip, self.clips_per_video, self.seed, epoch)
        return InPieces(counts, _Drawn(self, epoch, tuple(windows)).piece, said)


@dataclass(frozen=True)
class _Drawn:
    sampler: _Uniform
    epoch: int
    windows: tuple[tuple[int, ...], ...]

    def piece(self, number: int) -> Piece:
        """The clips of one window of partitions."""
        own, epoch = self.sampler, self.epoch
        parts = [own.index.read(uid, _COLUMNS) for uid in self.windows[number]]
        table = pa.concat_tables(parts).combine_chunks()
        ids = table.column("video_id").to_pylist()
        order = np.array(order_of_epoch(ids, own.seed, epoch), np.int64)
        keys = keys_of_draws([ids[at] for at in order.tolist()], np.zeros(len(ids), np.int64), own.seed, epoch)
        low, high = (each[:, None] for each in center_ranges_seconds(table, order, own.clip))
        seconds = low + uniforms(keys, own.clips_per_video) * (high - low)
        rows = table.column("video_row").to_numpy()[order]
        return Piece(np.repeat(rows, own.clips_per_video), seconds.ravel())


@dataclass(frozen=True)
class _Dense:
    index: Index
    uids: tuple[int, ...]
    hop_seconds: float

    def piece(self, number: int) -> Piece:
        """The clips of one partition."""
        table = self.index.read(self.uids[number], ["duration_seconds"])
        hops = _hops(table, self.hop_seconds)
        edges = self.hop_seconds * (np.arange(hops.sum()) - np.repeat(np.cumsum(hops) - hops, hops))
        until = np.repeat(table.column("duration_seconds").to_numpy(), hops)
        rows = np.repeat(table.column("video_row").to_numpy(), hops)
        return Piece(rows, (edges + np.minimum(edges + self.hop_seconds, until)) / 2)


def _hops(table: pa.Table, hop_seconds: float) -> np.ndarray:
    durations = table.column("duration_seconds").to_pylist()
    return np.array([number_of_hops(max(each, 0.0), hop_seconds) for each in durations], np.int64)
