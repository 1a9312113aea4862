"""Videos with more labels than a bag carries."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from adaptfocus.pipelines import store
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.plan.published import read_plan
from adaptfocus.pipelines.schemas import PLAN_SCHEMA
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.preparation import prepare
from adaptfocus.trainers.runs.snapshots import read_saliency
from tests.trainers.runs.growing import Growing, Watched
from tests.worlds import SmallWorld


@pytest.mark.parametrize("regime", ["ours", "full"])
def test_of_a_video_with_too_many_labels_the_rarest_are_trained(
    small_world: SmallWorld, tmp_path: Path, regime: str
) -> None:
    """Two places, and videos with up to five labels: bags, ledger and snapshot have the two of the fewest videos."""
    growing = Growing(small_world, tmp_path)
    growing.add(12)
    config = growing.config("epochs=3", "plan.max_labels=2", f"focus.regime={regime}", "plan.lead_batches=0")
    assert "have up to 5 labels, and a bag carries 2" in prepare(config).said[0]
    train(config, Watched({}))
    run, index = Run(config.url), load_index(growing.url)
    videos_of = Counter(label for labels in index.table["labels"].to_pylist() for label in labels)
    kept = {}
    left_out = 0
    for row, labels in zip(*(index.table[name].to_pylist() for name in ("video_row", "labels")), strict=True):
        ids = [index.classes.index(label) for label in labels]
        kept[row] = sorted(sorted(ids, key=lambda k: (videos_of[index.classes[k]], k))[:2])
        left_out += len(labels) - len(kept[row])
    plan = read_plan(run.epoch_url(2, "plan"))
    assert plan is not None
    assert plan.max_labels == 2
    bags = [bag for url, *part in plan.slices() for bag in read_table(url, PLAN_SCHEMA, *part).to_pylist()]
    assert all(bag["label_ids"] == kept[bag["video_row"]] for bag in bags)
    saliency = read_saliency(run, 2)
    for bag in bags:
        pairs = saliency.pairs_of(bag["video_row"])
        own = np.isin(saliency.label_id[pairs], kept[bag["video_row"]])
        seen = saliency.bins.epoch[pairs].numpy()
        assert ((seen >= 0).any(axis=1) == own).all(), "scores reach the pairs of the labels that were trained"
        assert np.array_equal(bag["saliency_epoch"], seen[own].ravel())
    assert any(clip["focus_label_id"] >= 0 for bag in bags for clip in bag["clips"]) == (regime == "ours")
    (first, *_) = (json.loads(store.read_bytes(run.epoch_url(epoch, "summary.json"))) for epoch in range(3))
    assert first["labels_left_out"] == left_out
    assert audit(run).clips_lost == 0
