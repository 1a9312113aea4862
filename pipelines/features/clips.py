"""Clips of features: instead of frames, a clip has the steps of a feature set at its times. Nothing is decoded.

The features of an index's videos are copied to one temporary file per process. Each frame of a clip takes the nearest
step. A bag (the clips of one video) becomes float32 [N, T, D, 1, 1]: a clip of T "frames" of one pixel, with D
channels.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import BadVideoError, InputError
from adaptfocus.pipelines.features.store import FeatureSet, open_features
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.plan.settings import ClipConfig

NO_FEATURES = "no_features"  # the error kind of a bag whose video has no features


@dataclass(frozen=True)
class FeatureSource:
    """Where the features of a plan's videos are; small enough to send to every process that reads them."""

    url: str
    index_url: str
    clip: ClipConfig
    dim: int  # numbers in a step
    sha256: str  # hash of features.json: features that are made again count as different

    @classmethod
    def of(cls, features: FeatureSet, index_url: str, clip: ClipConfig) -> FeatureSource:
        return cls(features.url, index_url, clip, features.dim, _digest(features.url))


@dataclass(frozen=True)
class FeatureTable:
    """The features of all videos of an index, video after video, each in order of time.

    Video v of the index has the steps from first_step[v] to first_step[v + 1] (exclusive); none if it has no features.
    """

    video_rows: np.ndarray  # [videos] int64: the `video_row` of each video of the index, ascending
    features: np.ndarray  # [S, D] float32
    center_seconds: np.ndarray  # [S] float64
    first_step: np.ndarray  # [videos + 1] int64
    stride_seconds: np.ndarray  # [videos] float64: from one frame of a clip to the next
    why_none: dict[int, str]  # place in the index -> why the video has no features

    def write_clips(self, bag: dict, out: np.ndarray) -> None:
        """Write the steps of a bag's clips into `out`, float32 [N, T, D, 1, 1].

        A clip's frame n of T is at center_seconds + (n - (T - 1) / 2) x stride, as with decoded frames. The
        nearest step is taken, and of two equally near the earlier; beyond the video's ends, its first or last step.

        Raises:
            BadVideoError: the video has no features.
        """
        row = int(np.searchsorted(self.video_rows, bag["video_row"]))
        first, end = self.first_step[row : row + 2].tolist()
        if first == end:
            raise BadVideoError(NO_FEATURES, self.why_none.get(row, "it is not among the features"))
        frames = out.shape[1]
        offsets = (np.arange(frames) - (frames - 1) / 2) * self.stride_seconds[row]
        times = np.array([clip["center_seconds"] for clip in bag["clips"]])[:, None] + offsets
        out[..., 0, 0] = self.features[first + nearest(self.center_seconds[first:end], times)]


def nearest(center_seconds: np.ndarray, times: np.ndarray) -> np.ndarray:
    """For each time, the number of the nearest of the ascending centres; of two equally near, the earlier."""
    return np.searchsorted((center_seconds[1:] + center_seconds[:-1]) / 2, times, side="left")


@lru_cache(maxsize=2)  # training and test: an evaluation after training in one process uses both
def open_source(source: FeatureSource) -> FeatureTable:
    """The table of a source, read once a process.

    Raises:
        InputError: the features have changed since `source` was made, or there is no room for them.
        StorageError: they cannot be read.
    """
    if _digest(source.url) != source.sha256:
        raise InputError(f"the features at {source.url} have changed while they were in use; begin again")
    found = open_features(source.url)
    videos = load_index(source.index_url, ["frame_rate_hz"], found.facts["index_fingerprint"]).table
    facts = found.described()
    steps = np.zeros(videos.num_rows, np.int64)
    steps[facts["video_row"].to_numpy()] = [shape[0] for shape in facts["shape"].to_pylist()]
    first_step = np.concatenate([[0], np.cumsum(steps)])
    features = _file_of(int(first_step[-1]), source.dim)
    center_seconds = np.empty(len(features), np.float64)
    for video in found:
        place = slice(*first_step[video.video_row : video.video_row + 2])
        features[place], center_seconds[place] = video.features, video.center_seconds
    return FeatureTable(
        videos["video_row"].to_numpy(),
        features,
        center_seconds,
        first_step,
        np.array([source.clip.stride_seconds(rate) for rate in videos["frame_rate_hz"].to_pylist()]),
        {row["video_row"]: f"{row['kind']}: {row['message']}" for row in found.refused()},
    )


def _file_of(steps: int, dim: int) -> np.ndarray:
    """float32 [steps, dim] in a file that is private to this process and ends with it.

    They are not in memory, because a million steps of 2048 numbers are 8 GB. The system caches what is read.
    """
    size_bytes = steps * dim * 4
    if not size_bytes:
        return np.empty((steps, dim), np.float32)
    with tempfile.TemporaryFile(prefix="adaptfocus-features-") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size_bytes)  # otherwise a full disk would end the process
        except OSError as error:
            raise InputError(
                f"the features take {size_bytes / 1e9:.1f} GB in the temporary folder {tempfile.gettempdir()}, which "
                f"are not available ({error.strerror}); set TMPDIR to a folder with room"
            ) from error
        return np.memmap(file, np.float32, "r+", shape=(steps, dim))


def _digest(url: str) -> str:
    return hashlib.sha256(store.read_bytes(store.join(url, "features.json"))).hexdigest()
