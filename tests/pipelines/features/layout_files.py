"""Features of four videos, exported in each layout, and the exports changed: what the tests of layouts share."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adaptfocus.pipelines.features.layouts import LAYOUTS, export
from adaptfocus.pipelines.features.layouts.given import Given
from adaptfocus.pipelines.features.layouts.pickles import dump_array
from adaptfocus.pipelines.features.store import FeatureSet, VideoFeatures, claim, finish, open_features, write_part

DIM, STRIDE, FPS = 6, 0.5, 15
# Their lengths are neither whole steps nor whole frames; an id has a dot.
DURATIONS = {"P03_cam01_P03_tea": 7.3, "P04_webcam_P04_milk": 4.02, "P05_v1.5_P05_tea": 9.97, "P06_a_P06_milk": 5.0}
TEST = "P06_a_P06_milk"
COUNTS = {"packets_decoded": 0, "frames_converted": 0, "read_bytes": 0}
MATRICES = [name for name in LAYOUTS if name != "timeception"]
SEGMENTATION = ("mstcn", "asformer", "ltcontext", "poc")


def feature_set(url: Path, split: str, maps: bool = False) -> FeatureSet:
    claim(str(url), {"kind": "maps" if maps else "pooled", "stride_seconds": STRIDE, "split": split, "index": "none",
                     "weights_sha256": "1f"})  # fmt: skip
    videos = []
    for row, (video_id, duration) in enumerate(DURATIONS.items()):
        if (video_id == TEST) != (split == "test"):
            continue
        steps = int(np.ceil(duration / STRIDE))
        edges = np.minimum(np.arange(steps + 1) * STRIDE, duration)
        shape = (steps, 3, 3, DIM) if maps else (steps, DIM)
        values = np.random.default_rng(row).standard_normal(shape, np.float32)
        videos.append(
            (VideoFeatures(video_id, row, split, ("make",), duration, (edges[1:] + edges[:-1]) / 2, values), COUNTS)
        )
    write_part(str(url), "000000", videos, [])
    finish(str(url), ["000000"])
    return open_features(str(url))


def segments(duration: float) -> tuple[tuple[float, float, str], ...]:
    return ((0.0, 1.7, "SIL"), (1.7, duration - 1.1, "pour milk"), (duration - 1.1, duration, "SIL"))


def exported(layout: str, given: Given, maps: Given, tmp_path: Path) -> tuple[Path, Given]:
    of = maps if layout == "timeception" else given
    export(layout, of, str(tmp_path / "out"))
    return tmp_path / "out", of


def ids_of(given: Given) -> list[str]:
    return [video_id for each in given.sets for video_id in each.video_ids]


def original(given: Given, video_id: str) -> VideoFeatures:
    return next(each.video(video_id) for each in given.sets if video_id in each.video_ids)


def by_hand(video: VideoFeatures, seconds: float) -> np.ndarray:
    """The features at a moment, between the steps around it, one number at a time."""
    return np.array([np.interp(seconds, video.center_seconds, column) for column in video.features.T])


def rewritten(out: Path, layout: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change every array of an export."""
    if layout in ("cpl", "mmn", "d3g"):
        h5py = pytest.importorskip("h5py")
        with h5py.File(out / "features.hdf5", "r+") as file:
            for name in [*file]:
                array = change(file[name][:])
                del file[name]
                file[name] = array
    for path in out.rglob("*.npy"):
        np.save(path, change(np.load(path)))
    for path in out.rglob("*.pkl"):
        path.write_bytes(dump_array(change(pickle.loads(path.read_bytes()))))
