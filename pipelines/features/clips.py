"""Clips of features: the steps of a feature set at a clip's times, in the place of its frames.

Input: a feature set of an index's videos, and bags of a plan on that index.
Does: copies the features to one temporary file, once a process; takes the nearest step for each frame of a clip.
Output: float32 [N, T, D, 1, 1] a bag: a clip of T "frames" of one pixel, with D channels. Nothing is decoded.
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

NO_FEATURES = "no_features"  # the kind of a bag whose video has none


@dataclass(frozen=True)
class FeatureSource:
    """Where the features of a plan's videos are; small enough to be sent to every process that reads them."""

    url: str
    index_url: str
    clip: ClipConfig
    dim: int  # numbers of a step
    sha256: str  # of features.json: features that are made anew are others

    @classmethod
    def of(cls, features: FeatureSet, index_url: str, clip: ClipConfig) -> FeatureSource:
        return cls(features.url, index_url, clip, features.dim, _digest(features.url))


@dataclass(frozen=True)
class FeatureTable:
    """The features of all videos of an index, one video after the other, each in order of time.

    Steps first_step[v] to first_step[v + 1] (not included) are those of row v of the index; none if it has no features.
    """

    features: np.ndarray  # [S, D] float32
    center_seconds: np.ndarray  # [S] float64
    first_step: np.ndarray  # [videos + 1] int64
    stride_seconds: np.ndarray  # [videos] float64: from one frame of a clip to the next
    why_none: dict[int, str]  # row -> why the video has no features

    def write_clips(self, bag: dict, out: np.ndarray) -> None:
        """Write the steps of a bag's clips into `out`, float32 [N, T, D, 1, 1].

        A clip's frame n of T is at center_seconds + (n - (T - 1) / 2) x stride, as where frames are decoded; the
        nearest step is taken, the earlier of two that are equally near, the video's first or last beyond its ends.

        Raises:
            BadVideoError: the video has no features.
        """
        row = bag["video_row"]
        first, end = self.first_step[row : row + 2].tolist()
        if first == end:
            raise BadVideoError(NO_FEATURES, self.why_none.get(row, "it is not among the features"))
        frames = out.shape[1]
        offsets = (np.arange(frames) - (frames - 1) / 2) * self.stride_seconds[row]
        times = np.array([clip["center_seconds"] for clip in bag["clips"]])[:, None] + offsets
        out[..., 0, 0] = self.features[first + nearest(self.center_seconds[first:end], times)]


def nearest(center_seconds: np.ndarray, times: np.ndarray) -> np.ndarray:
    """For each time, the number of the nearest of some ascending centres; of two equally near the earlier."""
    return np.searchsorted((center_seconds[1:] + center_seconds[:-1]) / 2, times, side="left")


@lru_cache(maxsize=2)  # of training and of a test; an evaluation after a training in one process has both
def open_source(source: FeatureSource) -> FeatureTable:
    """The table of a source, read once a process.

    Raises:
        InputError: the features have changed since the source was named, or there is no room for them.
        StorageError: they cannot be read.
    """
    if _digest(source.url) != source.sha256:
        raise InputError(f"the features at {source.url} have changed while they were in use; begin again")
    found, videos = open_features(source.url), load_index(source.index_url, ["frame_rate_hz"]).table
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
        features,
        center_seconds,
        first_step,
        np.array([source.clip.stride_seconds(rate) for rate in videos["frame_rate_hz"].to_pylist()]),
        {row["video_row"]: f"{row['kind']}: {row['message']}" for row in found.refused()},
    )


def _file_of(steps: int, dim: int) -> np.ndarray:
    """float32 [steps, dim] in a file that nobody else sees, and that ends with this process.

    Not in memory: a million steps of 2048 numbers are 8 GB, of which the system keeps what is read.
    """
    size_bytes = steps * dim * 4
    if not size_bytes:
        return np.empty((steps, dim), np.float32)
    with tempfile.TemporaryFile(prefix="adaptfocus-features-") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size_bytes)  # a full disk would else end the process as it writes
        except OSError as error:
            raise InputError(
                f"the features take {size_bytes / 1e9:.1f} GB of the temporary folder {tempfile.gettempdir()}, which "
                f"cannot be had ({error.strerror}); set TMPDIR to a folder with room"
            ) from error
        return np.memmap(file, np.float32, "r+", shape=(steps, dim))


def _digest(url: str) -> str:
    return hashlib.sha256(store.read_bytes(store.join(url, "features.json"))).hexdigest()
