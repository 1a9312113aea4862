"""The stream of clips on Ray: in order, across epochs, with first clips of the next epoch before its plan is known."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptfocus.pipelines.plan.published import Stretch, read_plan, write_plan
from adaptfocus.pipelines.schemas import EpochPlan
from adaptfocus.pipelines.stream.batches import DecodedBatch, decode_text
from adaptfocus.pipelines.stream.clips import ClipShape, bags_of, stream
from adaptfocus.pipelines.stream.on_ray import (
    Decoding,
    bags_per_block,
    claim_stream,
    decode_rows,
    mark,
    plan_dataset,
    plan_rows,
)
from adaptfocus.trainers.epochs.publishing import publish_plan
from adaptfocus.trainers.epochs.window_tasks import read_head
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.open import clip_shape
from tests.bad_decoders import bad_members
from tests.worlds import SmallWorld

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture(scope="module", autouse=True)
def bad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file in which a test may name members that decoders fall over; none to begin with."""
    folder = tmp_path_factory.mktemp("bad")
    with pytest.MonkeyPatch.context() as patch:
        bad_members(patch, folder, {})
        yield folder / "bad.json"


@pytest.fixture(scope="module", autouse=True)
def cluster(bad: Path) -> Iterator[None]:
    from adaptfocus.infra.running.cluster import connect

    with connect(None, cpus=4):
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        yield


def test_ray_and_the_plain_loop_give_the_same_batches(small_world: SmallWorld, tmp_path: Path) -> None:
    config = small_world.run_config(tmp_path, "run")
    plan = publish_plan(Run(config.url), config, 0, None)
    assert plan is not None
    shape = clip_shape(config)
    ours = list(plan_dataset(plan, shape, Decoding(), 2).iter_batches(batch_size=4, batch_format="numpy"))
    theirs = list(stream(plan.slices(), shape, 4))
    assert len(ours) == len(theirs) == 4
    for one, other in zip(ours, theirs, strict=True):
        assert DecodedBatch(**one).ok.all()
        for name, values in other.columns().items():
            if not name.endswith("_seconds"):  # except the measured ones
                assert np.array_equal(one[name], values), name


def test_a_decoder_that_hangs_or_crashes_ends_no_task(small_world: SmallWorld, tmp_path: Path, bad: Path) -> None:
    """Otherwise Ray would run the task again elsewhere, and fail the run in the end."""
    config = small_world.run_config(
        tmp_path, "run", "placement.decode_deadline_seconds=2", "placement.isolate_decoding=true"
    )
    plan = publish_plan(Run(config.url), config, 0, None)
    assert plan is not None
    shape = clip_shape(config)
    every = list(bags_of(plan.slices()))
    sizes = [bag["member_size_bytes"] for bag in every if bag]
    bad.write_text(json.dumps({sizes[1]: "hang", sizes[6]: "crash"}))
    try:
        batches = list(plan_dataset(plan, shape, Decoding(), 2).iter_batches(batch_size=16, batch_format="numpy"))
    finally:
        bad.write_text("{}")
    (batch,) = (DecodedBatch(**each) for each in batches)
    errors = {slot: decode_text(batch.kind[slot]) for slot in np.flatnonzero(~batch.ok).tolist()}
    assert errors == {1: "decode_deadline", 6: "decoder_died"}


def test_the_head_of_the_next_epoch_comes_before_its_plan_is_known(small_world: SmallWorld, tmp_path: Path) -> None:
    """Two ranks train epoch 0 to its end and already have clips of epoch 1, whose plan waits for their scores."""
    config = small_world.run_config(tmp_path, "run", "epochs=2")
    run = Run(config.url)
    publish_plan(run, config, 0, None)
    assert read_plan(run.epoch_url(1, "plan")) is None
    head = read_plan(run.epoch_url(1, "head"))
    assert head is not None
    assert head.num_bags == 4
    url = claim_stream(run.url)
    decoding = Decoding(cores=2)
    dataset = decode_rows(plan_rows(url, decoding), clip_shape(config), 2, decoding)
    ranks: Any = dataset.streaming_split(2, equal=True)
    mark(url, Stretch(run.url, 0, 4, 2, config.plan.bags_per_batch, 18 + 4))
    slots: dict[int, list[list[int]]] = {0: [], 1: []}

    def consume(rank: int) -> None:
        for batch in ranks[rank].iter_batches(batch_size=2, batch_format="numpy", prefetch_batches=0):
            slots[rank].append(batch["slot"].tolist())

    threads = [threading.Thread(target=consume, args=(rank,), daemon=True) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    wait_until(lambda: all(len(found) == 4 for found in slots.values()))
    # Batches 1 to 3 of epoch 0, then batch 0 of epoch 1: rank 0 has the first half of each.
    assert slots[0] == [[4, 5], [8, 9], [12, 13], [0, 1]]
    assert slots[1] == [[6, 7], [10, 11], [14, 15], [2, 3]]
    time.sleep(0.5)
    assert len(slots[0]) == 4, "and nothing of what is not drawn yet"
    rows = read_head(run, 1)
    assert rows is not None
    write_plan(EpochPlan.of(rows, (), head.max_labels), run.epoch_url(1, "plan"), 1)
    for thread in threads:
        thread.join(30)
    assert [len(found) for found in slots.values()] == [4, 4], "the stream ends with its last plan"


def wait_until(is_true: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "nothing came"
        time.sleep(0.05)


def test_decoding_stays_on_the_nodes_that_are_named_for_it(small_world: SmallWorld, tmp_path: Path) -> None:
    """Ray places tasks by these arguments; a dataset that waits for such a node would wait for ever here."""
    config = small_world.run_config(tmp_path, "run")
    plan = publish_plan(Run(config.url), config, 0, None)
    assert plan is not None
    decoding = Decoding(cores=2, label_selector=(("role", "decode"),))
    stage: Any = plan_dataset(plan, clip_shape(config), decoding)._logical_plan.dag
    assert stage.ray_remote_args == {"num_cpus": 2 / 3, "label_selector": {"role": "decode"}}
    plain: Any = plan_dataset(plan, clip_shape(config), Decoding())._logical_plan.dag
    assert "label_selector" not in plain.ray_remote_args


def test_a_block_is_a_whole_part_of_a_ranks_share(small_world: SmallWorld, tmp_path: Path) -> None:
    shape = ClipShape(clips=4, frames=32, size_pixels=224)  # 19 MB a bag
    assert bags_per_block(12, shape) == 3
    assert bags_per_block(7, shape) == 1
