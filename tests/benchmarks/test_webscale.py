"""Corpora of the scale benchmark are real indexes: dealt, planned, committed, merged and audited by the product."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from adaptfocus.pipelines import store
from adaptfocus.pipelines.index import load_index, with_packets
from adaptfocus.pipelines.index.deal import Sizes
from adaptfocus.pipelines.over import in_this_process
from adaptfocus.pipelines.plan.published import read_bags, read_plan
from adaptfocus.pipelines.video.packets import packet_count
from adaptfocus.trainers.epochs.publishing import Planning
from adaptfocus.trainers.runs.log import Run
from benchmarks.scaling.corpus import CLASSES, Templates, write_corpus
from benchmarks.scaling.steps import audited, settings, trained
from tests.worlds import SmallWorld

VIDEOS = 2400


def templates_of(world: SmallWorld) -> Templates:
    """The videos of the small world's first tar."""
    rows = load_index(world.train_index).table.drop_columns(["video_row"])
    url = rows["packets_url"][0].as_py()
    return Templates(rows.filter(pc.field("packets_url") == url), url.rsplit("/", 1)[-1], store.read_bytes(url))


def test_a_corpus_of_templates_goes_through_a_whole_epoch(small_world: SmallWorld, tmp_path: Path) -> None:
    made_of = templates_of(small_world)
    index = str(tmp_path / "index")
    write_corpus(index, VIDEOS, made_of, in_this_process, Sizes(partition_rows=100))
    table = load_index(index).table
    labels = np.array([len(names) for names in table["labels"].to_pylist()])
    assert len(set(table["video_id"].to_pylist())) == VIDEOS
    assert len(set((table["video_row"].to_numpy() >> 24).tolist())) == 24
    assert 3.2 < labels.mean() < 3.8
    counts = np.bincount([CLASSES.index(name) for names in table["labels"].to_pylist() for name in names])
    assert counts[0] > 5 * counts[-1], "the tail is long"
    some = with_packets(table.slice(0, 20))
    assert [packet_count(each) for each in some["packets"].to_pylist()] == some["packet_count"].to_pylist()

    config = settings(tmp_path, "run", index)
    run = Run(config.url)
    planning = Planning(run, config, in_this_process)
    planning.publish(0, None)
    plan = read_plan(run.epoch_url(0, "plan"))
    assert plan is not None
    assert len(plan.windows) == 1 + 3, "the lead, and 24 partitions in windows of 8"
    bags = [read_bags(*part) for part in plan.slices(0, 64)]
    assert sum(len(spans) > 0 for each in bags for spans in each["spans"].to_pylist()) == 64
    trained(config, 0)
    found = audited(config).result
    assert (found.clips_planned, found.clips_lost, found.clips_twice) == (plan.num_bags * 4, 0, 0)
    after = planning.publish(1, run.newest()[1])
    assert after is not None
    summary = json.loads(store.read_bytes(run.epoch_url(0, "summary.json")))
    assert summary["excluded"] == found.clips_undecodable / 4
