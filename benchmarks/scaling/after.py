"""What comes after training, at scale: an evaluation and an extraction with a model that is a hash of the slot.

Views and windows are planned, written, joined and scored by the product. Only decoding and the network are replaced, in
this process or as tasks of Ray. Each function is called in a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.data import TaskPoolStrategy

from adaptfocus.infra.running.cluster import connect
from adaptfocus.pipelines import store
from adaptfocus.pipelines.index.load import read_light_rows
from adaptfocus.pipelines.over import in_this_process
from adaptfocus.pipelines.plan.published import BAGS_PER_CHUNK, PlanFacts
from adaptfocus.pipelines.stream.clips import ClipShape
from adaptfocus.pipelines.stream.windows import VideoRange
from adaptfocus.trainers.evaluation.extraction import Extraction, extract
from adaptfocus.trainers.evaluation.feature_model import Weights
from adaptfocus.trainers.evaluation.fragments import FeatureParts, Made
from adaptfocus.trainers.evaluation.predictions import PartWriter, Written, in_parts
from adaptfocus.trainers.evaluation.scoring import Scores, evaluate_checkpoints
from adaptfocus.trainers.on_ray.datasets import quiet_data
from adaptfocus.trainers.on_ray.extraction import columns_of, made_of
from adaptfocus.trainers.on_ray.over import OnRay
from adaptfocus.trainers.on_ray.predict import write_on_cluster
from adaptfocus.trainers.runs.log import Commit, Run
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.scaling.corpus import CLASSES
from benchmarks.scaling.steps import Step, measured
from benchmarks.scaling.synthetic import prediction, synthetic_windows
from benchmarks.scaling.tasks import Measured

EVALUATION = "test"
VIEWS, DIM, STRIDE_SECONDS = 20, 128, 4.0
RANGES_PER_TASK = 16  # a task of the product decodes one, for tens of seconds


@dataclass(frozen=True)
class Extracted:
    """What an extraction gave, and what came to the process that waits for it."""

    videos: int
    windows: int
    feature_bytes: int  # of arrays with features that the process was given
    made: int  # windows that were made


def evaluated(config: TrainConfig, tasks: int) -> Step:
    """Score a run that nobody has trained on its own index; the result is its scores."""
    run = Run(config.url)
    store.write_bytes(run.at("index.json"), json.dumps({"classes": list(CLASSES)}).encode())
    commits = {EVALUATION: Commit(1, "checkpoint", "nobody", 1, 0.0)}
    with _over(tasks) as over:
        predict = partial(_predict_on_ray, tasks=tasks) if tasks else _predict_here

        def scores() -> Scores:
            return evaluate_checkpoints(run, config, config.index, VIEWS, commits, predict, over=over)[EVALUATION]

        return measured(scores, over)


def extracted(config: TrainConfig, out_url: str, tasks: int, stop_after: int | None = None) -> Step:
    """Extract features of a whole index; the result is an `Extracted`.

    Args:
        stop_after: kill this process after so many ranges; how many windows it had made is then in OUT_URL.made.
    """
    weights = Weights("0" * 64, url="nobody's")
    job = Extraction(config, 1, weights, config.index, "pooled", STRIDE_SECONDS, has_run=False)
    counts = {"bytes": 0, "made": 0}

    def counted(job: Extraction, ranges: Sequence[VideoRange], write: FeatureParts) -> Iterator[Sequence[Made]]:
        make = partial(_make_on_ray, tasks=tasks) if tasks else _make_here
        for number, (made, features) in enumerate(make(job, ranges, write)):
            counts["bytes"] += features
            counts["made"] += sum(each.windows for each in made)
            if number == stop_after:
                Path(f"{out_url}.made").write_text(str(counts["made"]))
                os.kill(os.getpid(), signal.SIGKILL)
            yield made

    def whole() -> Extracted:
        facts = extract(job, out_url, counted, over=over)
        return Extracted(facts["videos"], facts["steps"], counts["bytes"], counts["made"])

    with _over(tasks, cpus_per_task=0.0) as over:
        return measured(whole, over)


@contextlib.contextmanager
def _over(tasks: int, cpus_per_task: float = 1.0) -> Iterator[Measured]:
    if not tasks:
        yield Measured(in_this_process)
        return
    with connect(None, cpus=tasks + 1):
        over = OnRay(tasks, cpus_per_task)
        over.ran.set()  # nothing is done by the process that is measured
        yield Measured(over)


def _predict_here(
    facts: PlanFacts, shape: ClipShape, config: TrainConfig, classes: int, commits: Any, write: PartWriter
) -> Iterator[Written]:
    found = (prediction(slot, VIEWS, classes) for slot in range(facts.num_bags))
    yield from map(write, in_parts(found, facts.num_bags, write.videos_per_part))


def _predict_on_ray(
    facts: PlanFacts, shape: ClipShape, config: TrainConfig, classes: int, commits: Any, write: PartWriter, tasks: int
) -> Iterator[Written]:
    """As many blocks as the product has: chunks of the plan become blocks of one video."""
    quiet_data()
    chunks = [
        {"first": at, "end": min(at + BAGS_PER_CHUNK, facts.num_bags)}
        for at in range(0, facts.num_bags, BAGS_PER_CHUNK)
    ]
    found = ray.data.from_items(chunks).repartition(target_num_rows_per_block=1)
    found = found.map_batches(
        partial(_predicted, classes=classes), batch_size=1, num_cpus=1, compute=TaskPoolStrategy(size=tasks)
    )
    yield from write_on_cluster(found, write)


def _predicted(chunk: Any, classes: int) -> dict[str, np.ndarray]:
    (first,), (end,) = chunk["first"], chunk["end"]
    slots, ok, probability = zip(*(prediction(slot, VIEWS, classes) for slot in range(first, end)), strict=True)
    return {"slot": np.array(slots), "ok": np.array(ok), "probability": np.stack(probability)}


def _of_range(each: VideoRange, shape: Any) -> dict[str, np.ndarray]:
    """All windows of a range of videos."""
    seconds = read_light_rows(each.index_url, each.start, each.stop, each.fingerprint)["duration_seconds"].to_pylist()
    own = [synthetic_windows(each.start + n, shape.steps(duration), DIM) for n, duration in enumerate(seconds)]
    return {name: np.concatenate([columns[name] for columns in own]) for name in own[0]}


def _make_here(
    job: Extraction, ranges: Sequence[VideoRange], write: FeatureParts
) -> Iterator[tuple[Sequence[Made], int]]:
    for each in ranges:
        columns = _of_range(each, job.shape)
        yield write.write(columns), columns["features"].nbytes


def _make_on_ray(
    job: Extraction, ranges: Sequence[VideoRange], write: FeatureParts, tasks: int
) -> Iterator[tuple[Sequence[Made], int]]:
    if not ranges:
        return
    quiet_data()
    some = [ranges[at : at + RANGES_PER_TASK] for at in range(0, len(ranges), RANGES_PER_TASK)]
    items = [{"starts": [each.start for each in own], "stops": [each.stop for each in own]} for own in some]
    found = ray.data.from_items(items).repartition(target_num_rows_per_block=1)
    made = found.map_batches(
        partial(_written, first=replace(ranges[0], left_out=()), write=write), batch_size=1, num_cpus=1,
        compute=TaskPoolStrategy(size=tasks),
    )  # fmt: skip
    for columns in made.iter_batches(batch_size=None, batch_format="numpy"):
        strange = [values.nbytes for name, values in columns.items() if name not in Made._fields]
        yield made_of(columns), sum(strange)


def _written(item: Any, first: VideoRange, write: FeatureParts) -> dict[str, np.ndarray]:
    places = zip(item["starts"][0], item["stops"][0], strict=True)
    ranges = [replace(first, start=int(start), stop=int(stop)) for start, stop in places]
    return columns_of([made for each in ranges for made in write.write(_of_range(each, write.shape))])
