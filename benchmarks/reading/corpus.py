"""Turns videos into the shards, index and plans that the benchmarks read, by the same calls as a user's.

Clips have 32 frames, stride 3, and 224 pixels from a short side of 256.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa

from adaptfocus.pipelines.annotations.rows import AnnotatedVideo
from adaptfocus.pipelines.decode.settings import DEFAULT_ISOLATION, DecodeConfig, Isolation
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.index.packets import with_packets
from adaptfocus.pipelines.plan.draw import plan_clips
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.published import PlanFacts, find_packets, write_plan
from adaptfocus.pipelines.plan.settings import ClipConfig, DrawRules
from adaptfocus.pipelines.saliency.settings import SaliencyConfig
from adaptfocus.pipelines.schemas import EpochPlan
from adaptfocus.pipelines.shards.packing import pack
from adaptfocus.pipelines.stream.clips import ClipShape
from benchmarks.measuring.figures import say

FRAMES, STRIDE, SIZE_PIXELS, SHORT_SIDE_PIXELS = 32, 3, 224, 256
CLIP = ClipConfig(frames=FRAMES, frame_stride=STRIDE, size_pixels=SIZE_PIXELS)
DECODE = DecodeConfig(crop_fraction=SIZE_PIXELS / SHORT_SIDE_PIXELS)
LABEL = "video"
CLIPS_PER_BAG = 4  # of each 10-minute video
BAGS_PER_BATCH = 2


def default_work_folder() -> Path:
    """The folder where videos are kept between runs: the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adaptfocus-benchmarks"


def shape_of(clips_per_bag: int, isolation: Isolation | None = DEFAULT_ISOLATION) -> ClipShape:
    """The shape of the clips of all figures, decoded as in training: in another process."""
    return ClipShape(clips_per_bag, FRAMES, SIZE_PIXELS, decode=DECODE, isolation=isolation)


def write_shards(files: Mapping[str, Path], out_url: str, shard_size_bytes: int) -> None:
    """Write tars of the files, under their ids, each with one label."""
    videos = [AnnotatedVideo(name, str(path.resolve()), (LABEL,)) for name, path in files.items()]
    pack(videos, out_url, classes=[LABEL], shard_size_bytes=shard_size_bytes, overwrite=True)


def indexed(shards_url: str, index_url: str) -> Planner:
    """Index some shards -> a planner for them."""
    summary = build_index([shards_url], index_url, classes=[LABEL], workers=1)
    if summary.refused:
        say(f"not indexed: {summary.refused}; see {index_url}/refused")
    index = load_index(index_url)
    return Planner.of(with_packets(index.table), index.classes)


def planned(planner: Planner, clips_per_bag: int, epoch: int, bags_per_batch: int = 1) -> pa.Table:
    """An epoch's plan: `clips_per_bag` clips of each video, drawn at random."""
    saliency = planner.empty_saliency(SaliencyConfig())
    rules = DrawRules(clips_per_bag, bags_per_batch)
    return plan_clips(planner, saliency, seed=0, epoch=epoch, clip=CLIP, rules=rules, staleness=1.0).table


def planned_bags(planner: Planner, clips_per_bag: int, epochs: Iterable[int]) -> list[dict]:
    """The bags of some epochs, with the packets of their clips."""
    return [bag for epoch in epochs for bag in find_packets(planned(planner, clips_per_bag, epoch)).to_pylist()]


def stored_plan(planner: Planner, folder: Path, epochs: range, bags_per_batch: int = BAGS_PER_BATCH) -> PlanFacts:
    """Some epochs as one plan on this machine's disk, because reading a plan is not part of the measurement."""
    tables = [planned(planner, CLIPS_PER_BAG, epoch, bags_per_batch) for epoch in epochs]
    table = pa.concat_tables(tables)
    slots = pa.array(range(table.num_rows), pa.int64())
    table = table.set_column(table.schema.get_field_index("slot"), table.schema.field("slot"), slots)
    return write_plan(EpochPlan.of(table, (), 1), str(folder), epochs[0])


def name_of(path: Path) -> str:
    """The name of a file, fit for an id and for a part of a figure's name."""
    return re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_") or "video"
