"""One clip of a run, from its number: what was drawn, what is read for it, and what the model said.

All of it is in the store: the plan has the clip, the index its video's packets, the ledger its scores. So a clip can be
looked at whenever, also in the middle of the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from adaptfocus.pipelines.decode.bag import decode_clips
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.plan.published import PlanFacts, find_packets, read_drawn, read_plan
from adaptfocus.pipelines.plan.resolve import RESOLVE_SCHEMA, moved_packets
from adaptfocus.pipelines.saliency.bins import Bins, spikes
from adaptfocus.pipelines.schemas import STEP_SCHEMA, ClipPlace, place_of_clip
from adaptfocus.pipelines.store.ahead import read_ahead
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.pipelines.video.packets import decode_packets
from adaptfocus.trainers.runs.ledger import last_commits
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.open import classes_of, clip_shape
from adaptfocus.trainers.settings.run import TrainConfig


@dataclass(frozen=True)
class LabelOfClip:
    """One of the video's labels, as it stood when the clip was planned, and as the clip was scored."""

    name: str
    may_be_positive: bool  # False only with focus.regime=full: the intervals say that the clip does not show it
    spike: float | None  # spike-actionness at the beginning of the epoch; None: no clip of the video was scored yet
    salient_seconds: float | None
    probability: float | None  # in the training step; None: not trained yet, or not decoded


@dataclass(frozen=True)
class OneClip:
    """A clip of a run."""

    place: ClipPlace
    bag: dict[str, Any]  # a row of DECODE_SCHEMA with this clip alone; without `spans` if features are trained on
    step: dict[str, Any]  # the bag's row of STEP_SCHEMA
    labels: list[LabelOfClip]
    outcome: str  # "trained", "not trained yet", or why it was not decoded
    time_base_seconds: float

    @property
    def clip(self) -> dict[str, Any]:
        """The clip itself, of CLIP_TYPE."""
        return self.step["clips"][self.place.draw] | self.bag["clips"][0]

    @property
    def packets(self) -> int:
        """The number of packets that are read."""
        return sum(len(decode_packets(span["packets"]).pts) for span in self.bag.get("spans", ()))

    @property
    def keyframe_seconds(self) -> list[float]:
        """The times, in the video's own clock, of the keyframes from which decoding begins."""
        starts = (span for span in self.bag.get("spans", ()) if not span["continues"])
        return [int(decode_packets(span["packets"]).pts[0]) * self.time_base_seconds for span in starts]


def find_clip(run: Run, config: TrainConfig, clip_id: int) -> OneClip:
    """A clip of a run.

    Raises:
        InputError: the run has planned no such clip; or the plan, the index or the ledger is damaged.
        StorageError: one of them cannot be read.
    """
    place = place_of_clip(clip_id)
    plan = read_plan(run.epoch_url(place.epoch, "plan"))
    if plan is None or not 0 <= place.slot < plan.num_bags or place.draw >= config.plan.clips_per_bag or clip_id < 0:
        raise InputError(_not_there(run, config, clip_id, plan))
    ((url, row, _),) = plan.slices(place.slot, place.slot + 1)
    step = read_drawn(url, STEP_SCHEMA, row, row + 1).to_pylist()[0]
    bag, time_base = _bag(config, url, row, place.draw)
    labels, outcome = _labels(run, config, place, step)
    return OneClip(place, bag, step, labels, outcome, time_base)


def _not_there(run: Run, config: TrainConfig, clip_id: int, plan: PlanFacts | None) -> str:
    epoch, slot, draw = place_of_clip(clip_id)
    where = f"clip {clip_id} is draw {draw} of slot {slot} of epoch {epoch + 1}"
    if clip_id < 0:
        return f"clip {clip_id} is no number of a clip: they are at least 0"
    if plan is None:
        return f"{where}, and {run.url} has not planned that epoch"
    return (
        f"{where}, and in {run.url} that epoch has slots 0 to {plan.num_bags - 1} of {config.plan.clips_per_bag} "
        "draws each"
    )


def _bag(config: TrainConfig, url: str, row: int, draw: int) -> tuple[dict[str, Any], float]:
    """The bag with one of its clips: its frames, and the packets that they need; and the seconds of a tick."""
    rows = read_table(url, RESOLVE_SCHEMA, row, row + 1)
    clips = pa.array([[rows.column("clips")[0].as_py()[draw]]], RESOLVE_SCHEMA.field("clips").type)
    rows = rows.set_column(rows.schema.get_field_index("clips"), RESOLVE_SCHEMA.field("clips"), clips)
    drawn = rows.to_pylist()[0]
    time_base = drawn["time_base_numerator"] / drawn["time_base_denominator"]
    if config.features:
        return drawn, time_base
    return find_packets(moved_packets(rows, config.index_urls)).to_pylist()[0], time_base


def _labels(run: Run, config: TrainConfig, place: ClipPlace, step: dict[str, Any]) -> tuple[list[LabelOfClip], str]:
    """The labels of the clip's bag, and what became of the clip."""
    ids, clips = step["label_ids"], len(step["clips"])
    commit = last_commits(run.entries()).get(place.epoch)
    scored = run.ledger_of(commit, place.slot, place.slot + 1).to_pylist() if commit else []
    probability: list[float | None] = [None] * len(ids)
    outcome = "not trained yet"
    if scored and scored[0]["ok"]:
        outcome = "trained"
        own = dict(zip(scored[0]["label_ids"], _rows_of(scored[0]["probability"], clips)[place.draw], strict=True))
        probability = [own.get(each) for each in ids]
    elif scored:
        outcome = f"not decoded: {scored[0]['kind']}: {scored[0]['error']}"
    classes = classes_of(config)
    positive = _rows_of(step["clip_positive"], clips)[place.draw]
    spots = _spots(step, len(ids), place.epoch, config.saliency.staleness)
    return [
        LabelOfClip(classes[k], bool(is_positive), spike, salient, p)
        for k, is_positive, (spike, salient), p in zip(ids, positive, spots, probability, strict=True)
    ], outcome


def _rows_of(values: list, rows: int) -> list[list]:
    """A matrix that was written row by row."""
    width = len(values) // rows
    return [values[at * width : (at + 1) * width] for at in range(rows)]


def _spots(
    step: dict[str, Any], labels: int, epoch: int, staleness: float
) -> Iterator[tuple[float | None, float | None]]:
    """(spike-actionness, salient time in seconds) of each label at the beginning of the epoch."""
    if not labels or not step["saliency_score"]:
        yield from [(None, None)] * labels
        return
    names = ("saliency_score", "saliency_tau", "saliency_epoch")
    score, tau, visited = (torch.tensor(step[name]).reshape(labels, -1) for name in names)
    found = spikes(Bins(score, tau, visited.int()), epoch, staleness)
    for a, salient in zip(*(each.tolist() for each in found), strict=True):
        yield (a, salient * step["duration_seconds"]) if a >= 0 else (None, None)


def frames_of_clip(found: OneClip, config: TrainConfig, size_pixels: int | None = None) -> tuple[np.ndarray, int, int]:
    """Read and decode a clip as in training -> uint8 RGB [F, 3, H, W], the bytes and the requests that it took.

    Args:
        size_pixels: of the frames; None: as in training.

    What a run changes after decoding (augmentation, faded backgrounds) is not done.

    Raises:
        BadVideoError: it does not decode. StorageError: it cannot be read.
        ConfigError: the run is trained on features, so no frames belong to its clips.
    """
    if config.features:
        raise ConfigError(f"{config.url} is trained on features of {config.features}: its clips have no frames")
    shape = clip_shape(config)
    decode = shape.decode_of(found.bag).model_copy(update={"pixel_format": "rgb"})
    own = found.bag if decode.backend == "packets" else found.bag | {"spans": []}
    ((bag, data, reading),) = read_ahead([own], config=config.read)
    size_pixels = size_pixels or shape.size_pixels
    out = np.empty((1, shape.frames, *decode.frame_shape(size_pixels)), np.uint8)
    decode_clips(bag, data, size_pixels, decode, out)
    return out[0], reading.size_bytes, reading.requests
