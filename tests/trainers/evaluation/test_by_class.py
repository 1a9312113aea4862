"""Scores that no process ranks as a whole are those of the whole, to the last digit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from adaptfocus.pipelines import store
from adaptfocus.pipelines.index.deal import Sizes
from adaptfocus.pipelines.index.load import load_index, open_index, read_partitions
from adaptfocus.pipelines.over import in_this_process
from adaptfocus.trainers.evaluation import class_scores, predictions
from adaptfocus.trainers.evaluation.predictions import PartWriter, Written, in_parts
from adaptfocus.trainers.evaluation.saved import read_resamples
from adaptfocus.trainers.evaluation.scoring import evaluate_checkpoints
from adaptfocus.trainers.metrics import bootstrap
from adaptfocus.trainers.metrics.bootstrap import draws, resampled_map, resamples_for
from adaptfocus.trainers.metrics.video import charades_map, charades_ranked
from adaptfocus.trainers.runs.log import Commit, Run
from benchmarks.scaling.corpus import CLASSES, write_corpus
from benchmarks.scaling.steps import settings
from tests.benchmarks.test_webscale import templates_of
from tests.worlds import SmallWorld

UNDECODABLE = 7
# By (checkpoint, crops): scores, the first resamples and a hash of all 1,000, as the whole was once ranked at once.
SCORES = {
    (0, 1): (0.6537880707676752, 0.6787389952095836, 0.13954111734228847),
    (1, 1): (0.6727501871475084, 0.6396896964399591, 0.10346514331308604),
    (0, 3): (0.6571724515369474, 0.6503568348959631, 0.12528472738166282),
    (1, 3): (0.635053314287383, 0.6603239694284863, 0.09721708766901149),
}
RESAMPLES = {
    (0, 1): ("db6d1bfd94465a36", "0e386cce8df7b3c3", "5663f4f1e696fb2b"),
    (1, 1): ("6e4b786cf71a8625", "680ddd6f95c4bb6a", "193b73afdbbab200"),
    (0, 3): ("8149daa35d653dde", "cca6675cb26c0a6f", "2c55ddf836f8ac84"),
    (1, 3): ("2cd7d5434ab9ea29", "bd8c9d7f37bbf026", "9f0c691a49323162"),
}
FIRST_AP = {
    (0, 1): 0.37236394557823127,
    (1, 1): 0.5228257969854608,
    (0, 3): 0.41758381674348055,
    (1, 3): 0.4005952380952381,
}
POSITIVES = [7, 8, 14, 10, 12, 14]
INTERVAL = (0.5701334915254133, 0.7394091947778956)  # of map_max of the first checkpoint, one crop


def drawn(facts, shape, config, classes: int, commits, write: PartWriter) -> Iterator[Written]:
    """Probabilities that only depend on the slot, in a drawn order."""
    slots = np.random.default_rng(1).permutation(facts.num_bags).tolist()
    found = (
        (
            slot,
            slot != UNDECODABLE,
            np.random.default_rng(slot).random((len(commits), shape.clips, classes), np.float32),
        )
        for slot in slots
    )
    yield from map(write, in_parts(found, facts.num_bags, write.videos_per_part))


def run_on(config, classes: list[str]) -> Run:
    """A run of which only the classes are known."""
    run = Run(config.url)
    store.write_bytes(run.at("index.json"), json.dumps({"classes": classes}).encode())
    return run


def checkpoint(number: int) -> Commit:
    return Commit(number, "checkpoint", "nobody", 1, 0.0)


@pytest.mark.parametrize("how", ["whole", "in pieces"])
def test_scores_are_what_they_always_were(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Literal values of the code that held everything in one array; also from groups of one class, small parts and
    few resamples at once."""
    if how == "in pieces":
        monkeypatch.setattr(class_scores, "WORK_BYTES", 1)
        monkeypatch.setattr(predictions, "VIDEOS_PER_PART", 5)
        monkeypatch.setattr(predictions, "READ_AT_ONCE", 3)
        monkeypatch.setattr(bootstrap, "DRAWN_BYTES", 18 * 4 * 300)
        monkeypatch.setattr(bootstrap, "_CELLS_AT_ONCE", 1000)
    config = small_world.run_config(tmp_path, "run")
    run = run_on(config, open_index(small_world.train_index).classes)
    steps: list[tuple[int, int]] = []
    for crops in (1, 3):
        names = {f"{number}-{crops}": checkpoint(number + 3) for number in (0, 1)}
        found = evaluate_checkpoints(
            run, config, small_world.train_index, 5, names, drawn, crops, progress=lambda *now: steps.append(now)
        )
        for number, (name, scores) in enumerate(found.items()):
            assert (scores.map_max, scores.map_mean, scores.per_time_map) == SCORES[number, crops]
            assert next(iter(scores.per_class_ap.values())) == FIRST_AP[number, crops]
            assert (scores.videos, scores.undecodable, [*scores.class_positives.values()]) == (18, 1, POSITIVES)
            resamples = read_resamples(run, name)
            digests = tuple(hashlib.sha256(values.tobytes()).hexdigest()[:16] for values in resamples.values())
            assert digests == RESAMPLES[number, crops]
            assert not store.list_files(run.at("evaluations", name, "working")), (
                "it is needed until the scores are there"
            )
        if crops == 1:
            assert found["0-1"].intervals["map_max"] == INTERVAL
    done, total = zip(*steps, strict=True)
    assert (steps[-1][0], set(total)) == (steps[-1][1], {20 if how == "whole" else 30})
    assert sorted(done[: len(done) // 2]) == list(done[: len(done) // 2])


def test_an_index_of_many_partitions_is_scored_as_one_table(small_world: SmallWorld, tmp_path: Path) -> None:
    index, videos = str(tmp_path / "index"), 600
    write_corpus(index, videos, templates_of(small_world), in_this_process, Sizes(partition_rows=100))
    assert len(read_partitions(index)) == 6
    config = settings(tmp_path, "run", index)
    run = run_on(config, [*CLASSES])
    scores = evaluate_checkpoints(run, config, index, 4, {"test": checkpoint(1)}, drawn)["test"]
    table = load_index(index).table
    rows = pa.concat_tables(predictions.read(run, "test", videos))
    assert rows["video_id"].to_pylist() == table["video_id"].to_pylist()
    assert rows["slot"].to_pylist() == list(range(videos))
    p = np.array(rows["probability"].to_pylist(), np.float32).reshape(videos, 4, -1)
    p[~rows["ok"].to_numpy()] = -np.inf
    truth = np.array([[name in labels for name in CLASSES] for labels in table["labels"].to_pylist()])
    for name, pooled in (("map_max", p.max(axis=1).astype(float)), ("map_mean", p.mean(axis=1, dtype=float))):
        wanted, per_class = charades_map(pooled, truth)
        assert getattr(scores, name) == wanted
        resamples = resampled_map(
            charades_ranked(pooled, truth), truth, draws(videos, resamples_for(int(truth.sum()), videos))
        )
        assert (read_resamples(run, "test")[name] == resamples).all()
        if name == "map_max":
            assert [*scores.per_class_ap.values()] == [None if np.isnan(ap) else ap for ap in per_class]
    assert (scores.per_time_map, scores.intervals.keys()) == (None, {"map_max", "map_mean"})
    assert sum(scores.class_positives.values()) == truth.sum()
