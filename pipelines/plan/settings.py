"""Settings of clips and of plans."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pydantic

from adaptfocus.pipelines.plan.labels import FullLabels
from adaptfocus.pipelines.settings import Settings

SCORES_OF_VIDEOS = ("stale", "unsure", "rare")
SCORES_OF_BINS = ("salient", "unsure", "loss", "coverage")
LEAST_EXPLORED = 0.05  # with a score: the share of clips that are drawn anywhere, whatever it says


class ClipConfig(Settings):
    """One clip: `frames` frames, `frame_stride` frames apart at `fps`, cropped to a square of `size_pixels`.

    `fps` is the rate in which strides are counted. Without it, each video's own mean rate is used.
    """

    frames: int = pydantic.Field(default=8, ge=1, le=1024)
    frame_stride: float = pydantic.Field(default=1, gt=0)
    fps: float | None = pydantic.Field(default=None, gt=0)
    size_pixels: int = pydantic.Field(default=224, ge=1, le=4096)

    def stride_seconds(self, frame_rate_hz: float) -> float:
        return self.frame_stride / (self.fps or frame_rate_hz or 25.0)

    def strides_seconds(self, frame_rates_hz: np.ndarray) -> np.ndarray:
        """`stride_seconds` of many videos, float64 [V]."""
        rates = np.where(frame_rates_hz == 0, 25.0, frame_rates_hz)
        return np.full(len(rates), self.frame_stride / self.fps) if self.fps else self.frame_stride / rates


class PlanConfig(Settings):
    """An epoch: `clips_per_bag` clips of each video, `bags_per_batch` bags in a global batch."""

    clips_per_bag: int = pydantic.Field(default=4, ge=1, le=255)
    bags_per_batch: int = pydantic.Field(default=8, ge=1)
    unlabelled: Literal["negative", "left_out"] = (
        "negative"  # a video without labels: a negative of every class, or unused
    )
    resample: bool = True  # draw around salient times once warm-up is over (only Ours)
    explore_probability: float = pydantic.Field(default=0.5, ge=0, le=1)  # epsilon
    # How a clip that does not explore is drawn: "salient" (around a salient time), or by the score of a bin: "unsure",
    # "loss", "coverage", or "package.module:function" of a score of one's own (pipelines/saliency/bin_scores.py).
    resample_by: str = "salient"
    # Exponent of class balance in focus: among its video's actions, a clip is drawn around action k with a probability
    # proportional to n_k^-this. 0: all equal.
    focus_balance: float = pydantic.Field(default=0.0, ge=0, le=2)
    # Exponent of repeat-factor sampling for long tails: a video is drawn in proportion to max_k (n_mean / n_k)^this
    # over its labels k. The number of clips an epoch stays the same. 0: every video once.
    repeat_factor: float = pydantic.Field(default=0.0, ge=0, le=2)
    # Batches at the beginning of an epoch that are drawn one epoch earlier, so that they can be read while that epoch
    # still trains; at most a quarter of an epoch. New scores reach the draws of their videos one epoch later.
    lead_batches: int = pydantic.Field(default=2, ge=0)
    # Bags in an epoch, a multiple of bags_per_batch. An epoch is then the next stretch of an endless sequence of
    # passes, each of which has every video once. None: an epoch is one pass.
    bags_per_epoch: int | None = pydantic.Field(default=None, ge=1)
    # The share of an epoch's bags that goes to videos by priority, the rest to the passes. It needs bags_per_epoch.
    priority_share: float = pydantic.Field(default=0.0, ge=0, le=0.5)
    # What raises a video's priority: "stale" (epochs since its last bag), "unsure" (its probabilities are near 0.5),
    # "rare" (its rarest class), or "package.module:function" of a score of one's own (pipelines/saliency/scores.py).
    priority: str = "stale"
    # The least number of videos that are put in order together: a window has 8 partitions of the index, and more until
    # it has as many. Only an index that grew by small steps has partitions of far less than 8,192 videos.
    window_videos: int = pydantic.Field(default=32768, ge=1)

    # The most labels that a bag carries, the same for all of a run. Of a video with more, those of the fewest videos
    # are taken; the others then count as negatives. Without it, as many as any video has when the run begins.
    max_labels: int | None = pydantic.Field(default=None, ge=1, le=65_536)

    @pydantic.model_validator(mode="after")
    def _check_stretch(self) -> PlanConfig:
        if self.bags_per_epoch is None:
            if self.priority_share:
                raise ValueError("plan.priority_share needs plan.bags_per_epoch, of which it is a share; set both")
            return self
        if self.bags_per_epoch % self.bags_per_batch:
            nearest = max(1, round(self.bags_per_epoch / self.bags_per_batch)) * self.bags_per_batch
            raise ValueError(
                f"plan.bags_per_epoch = {self.bags_per_epoch} is no multiple of plan.bags_per_batch = "
                f"{self.bags_per_batch}; the nearest is {nearest}"
            )
        if self.repeat_factor:
            raise ValueError(
                "plan.repeat_factor draws a whole pass at once, so it needs plan.bags_per_epoch = none; or set "
                "plan.priority=rare"
            )
        return self

    @pydantic.field_validator("priority", "resample_by")
    @classmethod
    def _is_a_score(cls, score: str, field: pydantic.ValidationInfo) -> str:
        built_in = SCORES_OF_VIDEOS if field.field_name == "priority" else SCORES_OF_BINS
        if score not in built_in and not re.fullmatch(r"[\w.]+:\w+", score):
            raise ValueError(f"{score!r} is none of {', '.join(built_in)} and no package.module:function")
        return score

    @pydantic.model_validator(mode="after")
    def _check_exploration(self) -> PlanConfig:
        if self.resample_by != "salient" and self.explore_probability < LEAST_EXPLORED:
            raise ValueError(
                f"plan.explore_probability = {self.explore_probability} with plan.resample_by = {self.resample_by}: a "
                f"bin whose score is 0 would not be seen again; give at least {LEAST_EXPLORED}"
            )
        return self

    def head_bags(self, num_bags: int) -> int:
        """The number of bags in the head of the next epoch, if this epoch has `num_bags`."""
        return min(self.lead_batches, num_bags // self.bags_per_batch // 4) * self.bags_per_batch


@dataclass(frozen=True)
class DrawRules:
    """How clips are drawn. Everything that the regime decides is filled in."""

    clips_per_bag: int
    bags_per_batch: int
    explore_probability: float = 1.0
    delta: float = 0.15  # clips are drawn within salient time +- delta, a fraction of the video
    delta_seconds: float | None = None  # instead of `delta`, for long videos
    focus_from_epoch: int | None = None  # None: every clip explores
    full_labels: FullLabels | None = None  # positives from intervals; None: all of the video's labels
    focus_balance: float = 0.0
    repeat_factor: float = 0.0
    resample_by: str = "salient"
