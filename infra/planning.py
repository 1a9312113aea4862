"""What an epoch would cost, before anything is spent on it.

Input: a TrainConfig. Does: draws the first epoch's plan. Output: requests, bytes and frames to decode.
"""

from __future__ import annotations

from pipelines.clip_plan import Planner
from pipelines.records import EpochPlan
from pipelines.shard_index import load_index
from trainers.config import TrainConfig
from trainers.epochs import draw_plan


def first_plan(config: TrainConfig) -> EpochPlan:
    """The plan of epoch 0: the very one that training would publish."""
    index = load_index(config.index)
    planner = Planner.of(index.table, index.classes)
    return draw_plan(config, planner, planner.empty_saliency(config.saliency), epoch=0)


def summary_of(plan: EpochPlan, config: TrainConfig) -> dict[str, str]:
    """Figures of a plan, fit to be shown."""
    clips = [clip for bag in plan.table.column("clips").to_pylist() for clip in bag]
    ranged = [clip for clip in clips if clip["packet_pts"]]
    size = sum(clip["size_bytes"] for clip in ranged)
    packets = sum(len(clip["packet_pts"]) for clip in ranged)
    batches = plan.table.num_rows // config.plan.bags_per_batch
    return {
        "train on": f"{plan.table.num_rows} videos, {len(clips)} clips, {batches} global batches of "
        f"{config.plan.bags_per_batch} bags",
        "carry over to epoch 1": f"{len(plan.carried)} videos",
        "read": f"{size / 1e6:.1f} MB in {len(ranged)} range requests",
        "decode": f"{packets} packets for {sum(len(set(c['frame_pts'])) for c in ranged)} frames",
        "demux (no usable packet table)": f"{len(clips) - len(ranged)} clips",
        "all epochs": f"{size * config.epochs / 1e9:.2f} GB, {len(ranged) * config.epochs} requests",
    }
