"""Reads the features of annotated videos for a probe, checks them, and brings them to one scale.

Each feature set is read once, part by part. Sets that cannot be compared are refused. Each dimension is standardised by
its mean and standard deviation over the training videos. Annotated videos without features are listed by split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.features.store import FeatureSet, VideoFeatures, open_features
from adaptfocus.trainers.probes.training import Progress

TRAIN, TEST = "train", "test"
LEAST_SCALE = 1e-6  # smallest divisor, for a dimension that hardly changes


@dataclass(frozen=True)
class ProbeFeatures:
    """Features of annotated videos, by id."""

    features: Mapping[str, torch.Tensor]  # float32 [T, D], standardised
    center_seconds: Mapping[str, np.ndarray]  # float64 [T]
    duration_seconds: Mapping[str, float]
    missing: Mapping[str, list[str]]  # split -> annotated videos that no set has
    dim: int
    stride_seconds: float


def read_features(
    urls: Sequence[str], wanted: Mapping[str, Sequence[str]], progress: Progress | None = None
) -> ProbeFeatures:
    """Read the features of the wanted videos.

    Args:
        urls: feature sets of one kind, such as those of the training and of the test index.
        wanted: video ids by split, `train` and `test`.
        progress: called with (videos read, videos in the sets).

    Raises:
        InputError: the sets differ in dimension or stride, or are not pooled vectors; a video is in two of them; a
            video has values that are not finite; no training or no test video has features.
        StorageError: they cannot be read.
    """
    sets = [open_features(url) for url in urls]
    _check_alike(sets)
    ids = {video_id for of_split in wanted.values() for video_id in of_split}
    videos: dict[str, VideoFeatures] = {}
    done, total = 0, sum(map(len, sets))
    for each in sets:
        for video in each:
            done += 1
            if video.video_id in videos:
                raise InputError(f"{each.url} and another set both have features of {video.video_id!r}; give only one")
            if video.video_id in ids:
                videos[video.video_id] = _checked(video, each)
            if progress is not None:
                progress(done, total)
    missing = {split: [v for v in of_split if v not in videos] for split, of_split in wanted.items()}
    for split, of_split in wanted.items():
        if len(missing[split]) == len(of_split):
            raise InputError(
                f"none of the {len(of_split)} annotated videos of split '{split}' (such as {of_split[0]}) has features "
                f"in {', '.join(urls)} (such as {', '.join(sets[0].video_ids[:1])}); extract them, or make the ids "
                "the same"
            )
    mean, scale = _moments([videos[v].features for v in wanted[TRAIN] if v in videos])
    return ProbeFeatures(
        {name: torch.from_numpy(((each.features - mean) / scale).astype(np.float32)) for name, each in videos.items()},
        {name: each.center_seconds for name, each in videos.items()},
        {name: each.duration_seconds for name, each in videos.items()},
        missing,
        sets[0].dim,
        sets[0].stride_seconds,
    )


def _check_alike(sets: Sequence[FeatureSet]) -> None:
    first = sets[0]
    for each in sets:
        if each.kind != "pooled":
            raise InputError(f"{each.url} has features of kind {each.kind!r}; a probe takes pooled vectors, [T, D]")
        if (each.dim, each.stride_seconds) != (first.dim, first.stride_seconds):
            raise InputError(
                f"{each.url} has features of {each.dim} dimensions every {each.stride_seconds:g} s, {first.url} of "
                f"{first.dim} every {first.stride_seconds:g} s; a head needs features of one kind"
            )


def _checked(video: VideoFeatures, of: FeatureSet) -> VideoFeatures:
    if video.features.ndim != 2 or video.features.shape[1] != of.dim or not len(video.features):
        raise InputError(
            f"{of.url}: the features of {video.video_id!r} are {list(video.features.shape)}, not [T, {of.dim}] with at "
            "least one step; extract it again"
        )
    if not np.isfinite(video.features).all():
        raise InputError(
            f"{of.url}: {int((~np.isfinite(video.features)).sum())} values of the features of {video.video_id!r} are "
            "not finite; extract it again"
        )
    return video


def _moments(features: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each dimension over all steps of all videos: float64 [D]."""
    count = sum(map(len, features))
    mean = np.sum([each.sum(axis=0, dtype=np.float64) for each in features], axis=0) / count
    square = np.sum([np.square(each - mean).sum(axis=0) for each in features], axis=0) / count
    return mean, np.maximum(np.sqrt(square), LEAST_SCALE)
