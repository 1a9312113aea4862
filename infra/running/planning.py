"""What an epoch would cost in requests, bytes and frames to decode, before anything is spent on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from adaptfocus.infra.running.wording import many
from adaptfocus.pipelines.over import in_this_process
from adaptfocus.pipelines.plan.published import BAGS_PER_CHUNK, PlanFacts, publish, read_bags
from adaptfocus.pipelines.store.ahead import cost_of
from adaptfocus.pipelines.video.packets import packet_count
from adaptfocus.trainers.epochs.planner import Corpus, EpochPlanner
from adaptfocus.trainers.inputs.unused_videos import describe_unused, read_unused
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.open import facts_of_run
from adaptfocus.trainers.settings.run import TrainConfig


def first_plan(config: TrainConfig, out_url: str) -> PlanFacts:
    """Write the plan of the first epoch into a folder, identical to the one that training would publish."""
    return publish(EpochPlanner(config, Corpus.of(config), {}, in_this_process).draw(0, (), out_url))


def left_out_line(config: TrainConfig) -> str | None:
    """A line about the videos that the regime leaves out of every plan; None if there are none."""
    index = facts_of_run(Run(config.url), config)
    left_out = read_unused(config, index.fingerprint)
    return describe_unused(left_out, index.videos) if left_out.videos else None


def summary_of(plan: PlanFacts, config: TrainConfig) -> dict[str, str]:
    """Figures of a plan as texts to show."""
    in_all: Counter[str] = Counter()
    for url, start, stop in plan.slices():
        for at in range(start, stop, BAGS_PER_CHUNK):
            for bag in read_bags(url, at, min(at + BAGS_PER_CHUNK, stop)).to_pylist():
                in_all.update(_counts_of(bag))
    clips, size, requests = in_all["clips"], in_all["size_bytes"], in_all["requests"]
    batches = plan.num_bags // config.plan.bags_per_batch
    drawn = {
        "train on": f"{many(plan.num_bags, 'video')}, {clips} clips, {many(batches, 'global batch')} of "
        f"{many(config.plan.bags_per_batch, 'bag')}",
        "carry over to epoch 2": many(len(plan.carried), "video"),
    }
    if config.features:
        return drawn | {"read": f"nothing of the videos: features at {config.features}"}
    return drawn | {
        "read": f"{size / 1e6:.1f} MB in {many(requests, 'range request')}",
        "decode": f"{in_all['packets']} packets for {in_all['frames']} frames",
        "demux (no usable packet table)": f"{in_all['demuxed_clips']} clips",
        "all epochs": f"{size * config.epochs / 1e9:.2f} GB, {many(requests * config.epochs, 'request')}",
    }


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
