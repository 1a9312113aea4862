"""One video as the runs of a page see it, laid out for the template: a timeline an action, a lane a run."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adaptfocus.infra.report.charts import Style, clock
from adaptfocus.infra.report.data import ActionTimeline, VideoSample
from adaptfocus.infra.report.timeline import SHORT_SECONDS, Seen, Timeline, timeline


@dataclass(frozen=True)
class Picture:
    """A frame; `uri` is empty if its bytes are not a picture."""

    caption: str
    at: str
    uri: str


@dataclass(frozen=True)
class Outcome:
    """What one run says about one action, in words."""

    run: str
    style: Style
    spike: str
    hit: bool | None
    clips: str
    picture: Picture | None


@dataclass(frozen=True)
class ActionView:
    """One action of the video."""

    label: str
    truth: str
    outcomes: list[Outcome]
    timeline: Timeline

    @property
    def description(self) -> str:
        said = [f"{o.run}: {o.spike}, {hit_or_miss(o.hit)}; {o.clips}" for o in self.outcomes]
        return "; ".join([self.truth, *said])


@dataclass(frozen=True)
class SampleView:
    """One video."""

    video_id: str
    length: str
    why: str
    summary: str
    actions: list[ActionView]
    strip: list[Picture]
    others: list[Picture]  # frames that belong to no action of the video


def hit_or_miss(hit: bool | None) -> str:
    """A hit or a miss as a sign and words, so that colour is not the only difference."""
    if hit is None:
        return "hit or miss not known"
    return "✓ hit: inside a true interval" if hit else "✗ miss: outside every true interval"


def sample_view(samples: Sequence[VideoSample], styles: Mapping[str, Style]) -> SampleView:
    """`samples` are of one video, one for each run."""
    first = samples[0]
    labels = list(dict.fromkeys(action.label for sample in samples for action in sample.actions))
    actions = [_action(label, samples, styles) for label in labels]
    known = [o.hit for action in actions for o in action.outcomes if o.hit is not None]
    tenths = first.duration_seconds < SHORT_SECONDS
    return SampleView(
        video_id=first.video_id,
        length=clock(first.duration_seconds, tenths),
        why=first.why,
        summary=f"{sum(known)} of {len(known)} spikes inside a true interval" if known else "true intervals not known",
        actions=actions,
        strip=[Picture("", clock(at, tenths), data_uri(image)) for at, image in first.strip],
        others=[
            Picture(label, clock(at, tenths), data_uri(image))
            for sample in samples
            for label, at, image in sample.thumbnails
            if label not in labels
        ],
    )


def data_uri(image: bytes) -> str:
    """An image as a data URI; empty for bytes that are neither JPEG nor PNG."""
    for magic, kind in ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\n", "png")):
        if image.startswith(magic):
            return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
    return ""


def _action(label: str, samples: Sequence[VideoSample], styles: Mapping[str, Style]) -> ActionView:
    """The view of one action, with the clips that explore those that focus on it and those drawn by a score."""
    duration = samples[0].duration_seconds
    seen, outcomes, truth = [], [], None
    for sample in samples:
        action = next((a for a in sample.actions if a.label == label), None)
        if action is None:
            continue
        truth = action.intervals_seconds if truth is None else truth
        clips = [(c[0], c[1], c[2], c[4], c[5]) for c in sample.drawn_clips if c[2] != "focus" or c[3] == label]
        style = styles[sample.run]
        seen.append(
            Seen(sample.run, style, action.score_bins, action.tau_bins, action.spike_tau, action.salient_seconds, clips)
        )
        outcomes.append(_outcome(sample, action, style, clips))
    return ActionView(label, _truth(truth, duration), outcomes, timeline(duration, truth, seen))


def _outcome(sample: VideoSample, action: ActionTimeline, style: Style, clips: Sequence[tuple]) -> Outcome:
    tenths = sample.duration_seconds < SHORT_SECONDS
    spike = "no spike yet"
    if action.salient_seconds is not None:
        score = "" if action.spike_score is None else f"{action.spike_score:.2f} "
        spike = f"spike {score}at {clock(action.salient_seconds, tenths)}"
    focused, scored = (sum(c[2] == reason for c in clips) for reason in ("focus", "score"))
    by_score = f", {scored} drawn by a score" if scored else ""
    exploring = f"{len(clips) - focused - scored} exploring"
    drawn = f"{focused} clip{'' if focused == 1 else 's'} focused on it{by_score}, {exploring}" if clips else ""
    picture = next((p for p in sample.thumbnails if p.label == action.label), None)
    shown = None if picture is None else Picture("", clock(picture.seconds, tenths), data_uri(picture.image))
    return Outcome(sample.run, style, spike, action.hit, drawn, shown)


def _truth(intervals: Sequence[tuple[float, float]] | None, duration: float) -> str:
    if intervals is None:
        return "true intervals not known"
    if not intervals:
        return "no true interval in this video"
    tenths = duration < SHORT_SECONDS
    return "true " + ", ".join(f"{clock(start, tenths)}–{clock(end, tenths)}" for start, end in intervals)
