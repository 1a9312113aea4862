"""What an export is made of, and the rules that all layouts share: names, times, which videos.

Input: feature sets, and how they are to be laid out.
Does: gives each video a name that every reader takes apart alike; features at other times than those of the steps.
Output: videos one by one; arrays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.names import text_reason
from adaptfocus.pipelines.errors import ConfigError, InputError, as_bad_video
from adaptfocus.pipelines.features.store import FeatureSet, VideoFeatures
from adaptfocus.pipelines.store import strict_json

FACTS = "adaptfocus.json"  # in every export: how it was made
REASONS_SHOWN = 3
Rule = Literal["linear", "nearest"]


@dataclass(frozen=True)
class Given:
    """What is laid out, and how.

    `fps`: of frame-aligned features and labels; frame n is the time from n / fps to (n + 1) / fps, and stands for its
    middle. `align`: how features come to other times: between the two nearest steps, or from the nearest.
    `steps`: of layouts with as many for each video; their own number if None.
    """

    sets: tuple[FeatureSet, ...] = ()
    fps: float = 15.0
    align: Rule = "linear"
    steps: int | None = None
    split_number: int = 1
    background: str = "background"
    segmentation_url: str | None = None
    grounding_url: str | None = None
    activities_url: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.fps <= 1000:
            raise ConfigError(f"--fps is {self.fps:g}; it must be above 0 and at most 1,000")
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"--steps is {self.steps}; it must be at least 1")

    def videos(self) -> Iterator[VideoFeatures]:
        """All videos of all sets, in their order."""
        for each in self.sets:
            yield from each

    def check(self, kind: str, layout: str) -> None:
        """Whether these are sets for a layout.

        Raises:
            ConfigError: they are of the wrong kind, or do not belong together.
            InputError: a video is in two of them.
        """
        wrong = [each.url for each in self.sets if each.kind != kind]
        if wrong:
            have = "maps" if kind == "pooled" else "pooled"
            mend = "extract with --maps" if kind == "maps" else "extract without --maps"
            raise ConfigError(f"{layout} reads {kind} features, and {wrong[0]} has {have} ones; {mend}")
        if not any(len(each) for each in self.sets):
            raise InputError(f"there is no video in {', '.join(each.url for each in self.sets)}")
        for name in ("feature_shape", "stride_seconds", "weights_sha256"):
            found = {each.url: each.facts.get(name) for each in self.sets if len(each)}
            if len(set(map(str, found.values()))) > 1:
                raise ConfigError(f"the feature sets differ in {name}: {found}; export those that belong together")
        names_of([video_id for each in self.sets for video_id in each.video_ids])

    def facts(self, layout: str) -> dict[str, Any]:
        """What FACTS says."""
        named = {"fps": self.fps, "align": self.align, "steps": self.steps, "split_number": self.split_number}
        shape = next(each.facts["feature_shape"] for each in self.sets if len(each))
        return {"layout": layout, **named, "feature_shape": shape, "features": [each.url for each in self.sets]}


def leave_out(done: Counter[str], video_id: str, error: Exception) -> None:
    """Count a video that cannot be laid out; the first ones with their reasons.

    Raises:
        AdaptFocusError: `error` itself, where it is not about the video.
    """
    bad = as_bad_video(error)
    done["left out"] += 1
    if done["left out"] <= REASONS_SHOWN:
        done[f"left out, {video_id}: {bad.kind}: {bad}"] = 1


def check_any(done: Counter[str]) -> dict[str, int]:
    """The counts. Raises InputError if there is no video among them."""
    if not done["videos"]:
        raise InputError("; ".join(name for name in done if name.startswith("left out, ")) or "there is no video")
    return dict(done)


def names_of(video_ids: list[str]) -> dict[str, str]:
    """id -> the name it has in files: without dots and slashes, because MS-TCN cuts a name at its first dot.

    They become -, not _, which takes a name's words apart.

    Raises:
        InputError: an id occurs twice, or two have the same name then.
    """
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    for video_id in video_ids:
        if reason := text_reason(video_id):
            raise InputError(f"the video {video_id!r} cannot name a file because {reason}; index it under another key")
        if video_id in names:
            raise InputError(f"the video {video_id!r} is in two of the feature sets; export one of them")
        name = "".join("-" if c in "./\\" or c.isspace() else c for c in video_id)
        if name in owners:
            raise InputError(
                f"the videos {owners[name]!r} and {video_id!r} would both be named {name!r} (dots, slashes and spaces "
                "become -); rename one of them"
            )
        names[video_id] = owners[name] = name
        owners[name] = video_id
    return names


def frames_in(duration_seconds: float, fps: float) -> int:
    """How many frames a duration has, to the nearest; at least one."""
    return max(1, int(np.floor(duration_seconds * fps + 0.5)))


def at_frames(video: VideoFeatures, frames: int, fps: float, rule: Rule) -> np.ndarray:
    """Features at the middle of each frame, [frames, ...]."""
    return at_times(video, (np.arange(frames) + 0.5) / fps, rule)


def at_times(video: VideoFeatures, times_seconds: np.ndarray, rule: Rule) -> np.ndarray:
    """Features at some times: those of the nearest step (the earlier of two), or between the two around; float32.

    Before the first step's middle and after the last one's they are those steps'.
    """
    centers, features = video.center_seconds, video.features
    after = np.clip(np.searchsorted(centers, times_seconds), 1, max(len(centers) - 1, 1))
    before, after = after - 1, np.minimum(after, len(centers) - 1)
    gap = np.maximum(centers[after] - centers[before], 1e-12)
    share = np.clip((times_seconds - centers[before]) / gap, 0, 1)
    if rule == "nearest":
        return features[np.where(share > 0.5, after, before)]
    share = share.astype(np.float32).reshape(-1, *[1] * (features.ndim - 1))
    return (features[before] * (1 - share) + features[after] * share).astype(np.float32)


def average_steps(features: np.ndarray, steps: int) -> np.ndarray:
    """[T, D] -> [steps, D]: the mean of each of `steps` equal stretches, as the readers of MMN and D3G cut them."""
    edges = np.rint(np.arange(steps + 1, dtype=np.float32) / np.float32(steps) * len(features)).astype(np.int64)
    edges = np.minimum(edges, len(features) - 1)
    return np.stack([features[s:e].mean(axis=0) if s < e else features[s] for s, e in pairwise(edges.tolist())])


def normalise_rows(features: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.maximum(length, 1e-12)).astype(np.float32)


def write_text(url: str, lines: list[str]) -> None:
    """Lines, each with its end: readers drop what comes after the last one."""
    store.write_bytes(url, "".join(f"{line}\n" for line in lines).encode())


def read_lines(url: str) -> list[str]:
    """The lines that readers see: they split at line ends and drop what comes after the last."""
    return store.read_bytes(url).decode(errors="replace").split("\n")[:-1]


def read_facts(url: str) -> dict[str, Any]:
    """What FACTS says of an export; empty where somebody else made it."""
    place = store.join(url, FACTS)
    if not store.exists(place):
        return {}
    return strict_json.read(place, "export again")
