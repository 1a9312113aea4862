"""What an epoch would cost, before anything is spent on it.

Input: a TrainConfig. Does: draws the first epoch's plan. Output: requests, bytes and frames to decode.
"""

from __future__ import annotations

from pipelines.clip_plan import Planner
from pipelines.clip_reader import cost_of
from pipelines.records import EpochPlan
from pipelines.shard_index import load_index
from trainers.config import TrainConfig
from trainers.epochs import draw_plan
from trainers.full_labels import said_of, without_times


def first_plan(config: TrainConfig) -> EpochPlan:
    """The plan of the first epoch: the very one that training would publish."""
    index = load_index(config.index)
    planner = Planner.of(index.table, index.classes)
    return draw_plan(config, planner, planner.empty_saliency(config.saliency), epoch=0)


def left_out_line(config: TrainConfig) -> str | None:
    """What is said of the videos that the regime leaves out of every plan; None if there are none."""
    table = load_index(config.index, columns=["labels", "intervals"]).table
    left_out = without_times(config, table)
    return said_of(left_out, table.num_rows) if left_out.rows else None


def summary_of(plan: EpochPlan, config: TrainConfig) -> dict[str, str]:
    """Figures of a plan, fit to be shown."""
    bags = plan.table.select(["clips", "spans", "access", "shard_url"]).to_pylist()
    clips = sum(len(bag["clips"]) for bag in bags)
    ranged = [bag for bag in bags if bag["access"] == "packets"]
    costs = [cost_of(bag) for bag in ranged]
    size, requests = sum(size for size, _ in costs), sum(count for _, count in costs)
    packets = sum(len(span["packet_pts"]) for bag in ranged for span in bag["spans"])
    frames = sum(len({pts for clip in bag["clips"] for pts in clip["frame_pts"]}) for bag in ranged)
    batches = plan.table.num_rows // config.plan.bags_per_batch
    drawn = {
        "train on": f"{plan.table.num_rows} videos, {clips} clips, {batches} global batches of "
        f"{config.plan.bags_per_batch} bags",
        "carry over to epoch 2": f"{len(plan.carried)} videos",
    }
    if config.features:
        return drawn | {"read": f"nothing of the videos: features at {config.features}"}
    return drawn | {
        "read": f"{size / 1e6:.1f} MB in {requests} range requests",
        "decode": f"{packets} packets for {frames} frames",
        "demux (no usable packet table)": f"{sum(len(b['clips']) for b in bags if b['access'] != 'packets')} clips",
        "all epochs": f"{size * config.epochs / 1e9:.2f} GB, {requests * config.epochs} requests",
    }
