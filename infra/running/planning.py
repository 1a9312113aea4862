"""What an epoch would cost in requests, bytes and frames to decode, before anything is spent on it.

A window is drawn and counted as one task. Nobody holds the plan.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import sqrt
from statistics import stdev
from typing import Any, NamedTuple

from adaptfocus.infra.running.wording import many
from adaptfocus.pipelines.over import Over, in_this_process
from adaptfocus.pipelines.plan.published import (
    BAGS_PER_CHUNK,
    BAGS_PER_PART,
    PlanFacts,
    part_url,
    publish,
    read_bags,
)
from adaptfocus.pipelines.store.ahead import cost_of
from adaptfocus.pipelines.video.packets import packet_count
from adaptfocus.trainers.epochs.mixed_windows import MixedTask, begun, draw_mixed
from adaptfocus.trainers.epochs.planner import Corpus, EpochPlanner
from adaptfocus.trainers.epochs.window_tasks import Drawn, WindowTask, draw_window
from adaptfocus.trainers.inputs.unused_videos import describe_unused, read_unused
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.open import facts_of_run
from adaptfocus.trainers.settings.run import TrainConfig

SAMPLE_BAGS = 2048  # of a window that is sampled: its first ones, which its order makes a random sample

Task = WindowTask | MixedTask
Progress = Callable[[int, int], None]  # windows done, windows in all


class Preview(NamedTuple):
    """The first epoch, and what its bags would cost."""

    plan: PlanFacts  # without `carried`, if windows were sampled
    carried: int  # videos
    counts: Sequence[Counter[str]]  # of each window
    is_sampled: bool


def first_plan(config: TrainConfig, out_url: str, over: Over = in_this_process) -> PlanFacts:
    """Write the plan of the first epoch into a folder, identical to the one that training would publish."""
    return publish(EpochPlanner(config, Corpus.of(config), {}, over).draw(0, (), out_url))


def preview(
    config: TrainConfig,
    out_url: str | None = None,
    sample: int | None = None,
    over: Over = in_this_process,
    progress: Progress = lambda *_: None,
) -> Preview:
    """Draw the first epoch and count what its bags cost, window by window.

    Args:
        out_url: where to write the plan to, as `first_plan` does; None: parts are removed once they are counted.
        sample: the number of windows of which SAMPLE_BAGS bags are counted; None: all bags of all windows.

    Raises:
        ConfigError: there are too few usable videos for one global batch.
    """
    counted = _Counted(over, out_url is not None, sample, progress)
    plan = EpochPlanner(config, Corpus.of(config), {}, counted).draw(0, (), out_url or "")
    if out_url:
        publish(plan)
    return Preview(plan, counted.carried, counted.counts, sample is not None and sample < counted.windows)


@dataclass
class _Counted:
    """An `Over` that counts the bags of each window that is drawn, in the task that draws it."""

    over: Over
    keeps: bool  # the parts of the plan
    sample: int | None
    progress: Progress
    windows: int = 0
    carried: int = 0
    counts: list[Counter[str]] = field(default_factory=list)

    def __call__(self, items: Sequence[Any], function: Callable[[Any], Any]) -> Iterator[Any]:
        if function not in (draw_window, draw_mixed):
            yield from self.over(items, function)
            return
        full = [number for number, task in enumerate(items) if task.slots.end > task.slots.first]
        self.windows, self.carried = len(full), sum(task.slots.last - task.slots.end for task in items)
        chosen, tasks = full, [items[number] for number in full]
        if self.sample and self.sample < len(full):
            chosen = [full[(2 * n + 1) * len(full) // (2 * self.sample)] for n in range(self.sample)]
            tasks = [begun(items[number], SAMPLE_BAGS) for number in chosen]
        results = iter(self.over(tasks, partial(_draw_and_count, draw=function, keeps=self.keeps)))
        for number, task in enumerate(items):
            if number not in chosen:
                yield function(task) if number not in full else Drawn([], None)
                continue
            drawn, counts = next(results)
            self.counts.append(counts)
            self.progress(len(self.counts), len(chosen))
            yield drawn if chosen is full else Drawn([], None)


def _draw_and_count(task: Task, draw: Callable[[Task], Drawn], keeps: bool) -> tuple[Drawn, Counter[str]]:
    """Draw a window -> (what `draw_window` gives, the counts of its bags)."""
    with tempfile.TemporaryDirectory() as folder:
        here = task if keeps else replace(task, plan_url=folder)
        return draw(here), _count(here)


def _count(task: Task) -> Counter[str]:
    """What the bags of a window cost. Some chunks of it are in memory at once."""
    bags = task.slots.end - task.slots.first
    found = Counter(bags=bags)
    if task.config.features:
        return found + Counter(clips=bags * task.config.plan.clips_per_bag)
    for begin in range(0, bags, BAGS_PER_CHUNK):
        part, at = divmod(begin, BAGS_PER_PART)
        end = min(at + BAGS_PER_CHUNK, bags - part * BAGS_PER_PART)
        for bag in read_bags(part_url(task.plan_url, task.number, part), at, end).to_pylist():
            found.update(_counts_of(bag))
    return found


def left_out_line(config: TrainConfig) -> str | None:
    """A line about the videos that the regime leaves out of every plan; None if there are none."""
    index = facts_of_run(Run(config.url), config)
    left_out = read_unused(config, index.fingerprint)
    return describe_unused(left_out, index.videos) if left_out.videos else None


def summary_of(found: Preview, config: TrainConfig) -> dict[str, str]:
    """Figures of a plan as texts to show. Of a sample they are estimates, each with twice its standard error."""
    bags, clips = found.plan.num_bags, found.plan.num_bags * config.plan.clips_per_bag
    batches = bags // config.plan.bags_per_batch
    of_stretch = config.plan.bags_per_epoch is not None  # a video may have several bags, and none is carried over
    drawn = {
        "train on": f"{many(bags, 'bag' if of_stretch else 'video')}, {clips} clips, "
        f"{many(batches, 'global batch')} of {many(config.plan.bags_per_batch, 'bag')}",
    }
    if not of_stretch:
        drawn["carry over to epoch 2"] = many(found.carried, "video")
    if config.features:
        return drawn | {"read": f"nothing of the videos: features at {config.features}"}
    size, requests, packets, frames, demuxed = (
        _in_all(found, name) for name in ("size_bytes", "requests", "packets", "frames", "demuxed_clips")
    )
    all_requests = requests.times(config.epochs)
    drawn |= {
        "read": f"{size.said(1e6, 1)} MB in {requests.said()} range request{'s' * requests.is_many}",
        "decode": f"{packets.said()} packets for {frames.said()} frames",
        "demux (no usable packet table)": f"{demuxed.said()} clips",
        "all epochs": f"{size.times(config.epochs).said(1e9, 2)} GB, "
        f"{all_requests.said()} request{'s' * all_requests.is_many}",
    }
    if found.is_sampled:
        seen = sum(each["bags"] for each in found.counts)
        drawn["estimated from"] = f"{many(seen, 'bag')} of {many(len(found.counts), 'window')}"
    return drawn


class _Total(NamedTuple):
    """A figure of an epoch, and twice its standard error; None if it is exact."""

    value: float
    spread: float | None

    @property
    def is_many(self) -> bool:
        return round(self.value) != 1

    def times(self, factor: float) -> _Total:
        return _Total(self.value * factor, None if self.spread is None else self.spread * factor)

    def said(self, unit: float = 1, digits: int = 0) -> str:
        spread = "" if self.spread is None else f" ± {self.spread / unit:.{digits}f}"
        return f"{self.value / unit:.{digits}f}{spread}"


def _in_all(found: Preview, name: str) -> _Total:
    if not found.is_sampled:
        return _Total(sum(each[name] for each in found.counts), None)
    means = [each[name] / each["bags"] for each in found.counts]
    mean = sum(each[name] for each in found.counts) / sum(each["bags"] for each in found.counts)
    return _Total(mean * found.plan.num_bags, 2 * stdev(means) / sqrt(len(means)) * found.plan.num_bags)


def _counts_of(bag: Mapping[str, Any]) -> dict[str, int]:
    clips = len(bag["clips"])
    if bag["access"] != "packets":
        return {"clips": clips, "demuxed_clips": clips}
    size_bytes, requests = cost_of(dict(bag))
    return {
        "clips": clips,
        "size_bytes": size_bytes,
        "requests": requests,
        "packets": sum(packet_count(span["packets"]) for span in bag["spans"]),
        "frames": len({pts for clip in bag["clips"] for pts in clip["frame_pts"]}),
    }
