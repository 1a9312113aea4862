"""What an epoch would cost in requests, bytes and frames to decode, before anything is spent on it."""

from __future__ import annotations

from adaptfocus.infra.running.wording import many
from adaptfocus.pipelines.plan.draw import Planner
from adaptfocus.pipelines.schemas import EpochPlan
from adaptfocus.pipelines.store.ahead import cost_of
from adaptfocus.pipelines.video.packets import packet_count
from adaptfocus.trainers.inputs.time_order import training_index
from adaptfocus.trainers.runs.epochs import draw_plan
from adaptfocus.trainers.runs.unused_videos import describe_unused, find_unused
from adaptfocus.trainers.settings.run import TrainConfig


def first_plan(config: TrainConfig) -> EpochPlan:
    """The plan of the first epoch, identical to the one that training would publish."""
    index = training_index(config)
    planner = Planner.of(index.table, index.classes)
    return draw_plan(config, planner, planner.empty_saliency(config.saliency), epoch=0)


def left_out_line(config: TrainConfig) -> str | None:
    """A line about the videos that the regime leaves out of every plan; None if there are none."""
    table = training_index(config, columns=["labels", "intervals"]).table
    left_out = find_unused(config, table)
    return describe_unused(left_out, table.num_rows) if left_out.rows else None


def summary_of(plan: EpochPlan, config: TrainConfig) -> dict[str, str]:
    """Figures of a plan as texts to show."""
    bags = plan.table.select(["clips", "spans", "access", "shard_url"]).to_pylist()
    clips = sum(len(bag["clips"]) for bag in bags)
    ranged = [bag for bag in bags if bag["access"] == "packets"]
    costs = [cost_of(bag) for bag in ranged]
    size, requests = sum(size for size, _ in costs), sum(count for _, count in costs)
    packets = sum(packet_count(span["packets"]) for bag in ranged for span in bag["spans"])
    frames = sum(len({pts for clip in bag["clips"] for pts in clip["frame_pts"]}) for bag in ranged)
    batches = plan.table.num_rows // config.plan.bags_per_batch
    drawn = {
        "train on": f"{many(plan.table.num_rows, 'video')}, {clips} clips, {many(batches, 'global batch')} of "
        f"{many(config.plan.bags_per_batch, 'bag')}",
        "carry over to epoch 2": many(len(plan.carried), "video"),
    }
    if config.features:
        return drawn | {"read": f"nothing of the videos: features at {config.features}"}
    return drawn | {
        "read": f"{size / 1e6:.1f} MB in {many(requests, 'range request')}",
        "decode": f"{packets} packets for {frames} frames",
        "demux (no usable packet table)": f"{sum(len(b['clips']) for b in bags if b['access'] != 'packets')} clips",
        "all epochs": f"{size * config.epochs / 1e9:.2f} GB, {many(requests * config.epochs, 'request')}",
    }
