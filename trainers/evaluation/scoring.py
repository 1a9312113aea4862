"""Scores checkpoints of a run on a test index: multi-view video-level mAP, and per-time mAP where intervals are known.

Each video is seen in N uniform views of one crop or three, which go through the same stages as in training and then
through the model of each checkpoint. However many checkpoints are scored, the views are decoded once, and each frame
once for all its crops. The scores are saved with the run in `evaluations/NAME/` (trainers/evaluation/saved.py).

No process holds the index or the probabilities of all videos: views are planned by partition, whoever predicts writes
parts, and classes are scored in groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from adaptfocus.pipelines import store
from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.load import IndexFacts, open_index, read_partitions
from adaptfocus.pipelines.over import Over, in_this_process
from adaptfocus.pipelines.plan.published import PlanFacts
from adaptfocus.pipelines.store.strict_json import json_text
from adaptfocus.pipelines.stream.batches import DecodedBatch
from adaptfocus.pipelines.stream.clips import ClipShape, stream
from adaptfocus.trainers.evaluation import predictions
from adaptfocus.trainers.evaluation.class_scores import MOMENTS, MeanScores, Scoring, score_all
from adaptfocus.trainers.evaluation.predictions import PartWriter, Prediction, Written, in_parts
from adaptfocus.trainers.evaluation.saved import (
    CROPS,
    Looked,
    check_views,
    forget_scores,
    refuse_other,
    save_resamples,
    scores_url,
)
from adaptfocus.trainers.evaluation.view_plans import Truth, Views, plan_all
from adaptfocus.trainers.inputs.model_input import build_adapted, to_model_input
from adaptfocus.trainers.inputs.run_index import describe_sources
from adaptfocus.trainers.metrics.bootstrap import interval_of_score
from adaptfocus.trainers.runs.growth import weights_of_classes
from adaptfocus.trainers.runs.log import Commit, Run
from adaptfocus.trainers.runs.on_features import test_source
from adaptfocus.trainers.runs.open import classes_of
from adaptfocus.trainers.settings.run import TrainConfig

# (plan, shape, settings of the run, number of classes, checkpoints, what writes a part) -> each part once, in any order
Predict = Callable[[PlanFacts, ClipShape, TrainConfig, int, Sequence[Commit], PartWriter], Iterable[Written]]
Progress = Callable[[int, int], None]  # videos predicted and groups of classes scored: done, in all


@dataclass(frozen=True)
class Scores:
    """Scores as fractions in [0, 1]; None where there is no truth to compare with."""

    videos: int
    undecodable: int  # videos whose views did not decode; they rank last for every class
    views: int
    checkpoint: int  # number of the commit
    epoch: int  # of the commit, counted from 0
    map_max: float | None  # over views and crops
    map_mean: float | None
    per_time_map: float | None
    per_class_ap: dict[str, float | None]
    crops: int  # of each view
    size_pixels: int
    index: str  # URL of the test index
    index_fingerprint: str
    classes_with_positives: int  # the others have no AP, and mAP leaves them out
    class_positives: dict[str, int]  # test videos that show the class
    intervals: dict[str, tuple[float, float] | None]  # of each mAP: 95 % over test videos, by bootstrap
    resamples: int


def evaluate(
    run: Run,
    config: TrainConfig,
    index_url: str,
    views: int,
    name: str,
    predict: Predict,
    epoch: int | None = None,
    crops: int = 1,
    size_pixels: int | None = None,
    overwrite: bool = False,
    features: str | None = None,
    over: Over = in_this_process,
    progress: Progress | None = None,
) -> Scores:
    """Score the run's newest checkpoint on an index, or the one at the end of an epoch (counted from 0).

    Raises:
        ConfigError: there cannot be so many crops or views.
        InputError: the run has no such checkpoint, the test index has classes that the run was not trained on, or the
            name belongs to an evaluation of something else and `overwrite` is off.
    """
    commits = {name: commit_of(run, epoch)}
    how = (crops, size_pixels, overwrite, features, over, progress)
    return evaluate_checkpoints(run, config, index_url, views, commits, predict, *how)[name]


def commit_of(run: Run, epoch: int | None) -> Commit:
    """The newest checkpoint, or the one at the end of an epoch. Raises InputError: there is none."""
    commit = run.newest()[1] if epoch is None else run.end_of_epoch(epoch)
    if commit is None:
        raise InputError(f"{run.url} has no checkpoint yet; train it first")
    return commit


def evaluate_checkpoints(
    run: Run,
    config: TrainConfig,
    index_url: str,
    views: int,
    commits: Mapping[str, Commit],
    predict: Predict,
    crops: int = 1,
    size_pixels: int | None = None,
    overwrite: bool = False,
    features: str | None = None,
    over: Over = in_this_process,
    progress: Progress | None = None,
) -> dict[str, Scores]:
    """Score several checkpoints of a run on the same views, which are read and decoded once.

    All models are in memory at once, one video's views at a time, and the predictions of a part of 128 videos.

    Args:
        commits: checkpoints by the name of their evaluation; at least one.
        crops: of each view: 1 (the centred square) or 3 (squares at the beginning, middle and end of the long side).
        size_pixels: the size that crops are scaled to, instead of the one that the run was trained on.
        overwrite: replace evaluations of these names, whatever they are of.
        features: URL of features of the test index, for a run on features.
        over: what plans views and scores classes.
        progress: told how many videos are predicted, and groups of classes scored.

    Raises:
        ConfigError: there cannot be so many crops or views, the backbone does not take that size, or the run needs
            other features.
        InputError: the test index has no labels or classes that the run was not trained on, the scores of a checkpoint
            are not finite, or a name belongs to an evaluation of something else.
    """
    looked = check_views(config, index_url, views, crops, size_pixels)
    for name, commit in commits.items():
        if not overwrite:
            refuse_other(run, name, looked.at(commit))
    classes, test = classes_of(config), open_index(index_url, looked.index_fingerprint)
    check_scorable(config, classes, test, index_url)
    source = test_source(run, config, features, index_url, test.fingerprint)
    for name in commits:
        forget_scores(run.url, name)
        predictions.forget(run, name)
    decode = config.decode.model_copy(update={"crop_place": CROPS[crops]})
    scoring, truth = _planned(run, config, looked, test, commits, decode, over)
    clips, frames, size = views * crops, config.clip.frames, looked.size_pixels
    shape = ClipShape(clips, frames, size, decode, config.read, config.placement.isolation, source)
    steps = _Steps(truth.videos + len(scoring.groups()) * len(commits), progress)
    undecodable = 0
    for part in predict(scoring.parts.plan, shape, config, len(classes), [*commits.values()], scoring.parts):
        steps.add(part.videos)
        undecodable += part.undecodable
    if steps.done != truth.videos:
        raise RuntimeError(f"{steps.done} of {truth.videos} videos came back from prediction")
    found = score_all(scoring, [*commits], over, steps.add)
    scores = {}
    for name, commit in commits.items():
        scores[name] = _scores(found[name], truth, undecodable, classes, looked, commit)
        save_resamples(run, name, found[name].resampled)
        store.write_bytes(scores_url(run.url, name), json_text(asdict(scores[name]), indent=1).encode())
    for name in commits:
        predictions.forget_working(run, name)
    return scores


def _planned(
    run: Run,
    config: TrainConfig,
    looked: Looked,
    test: IndexFacts,
    commits: Mapping[str, Commit],
    decode: DecodeConfig,
    over: Over,
) -> tuple[Scoring, Truth]:
    """Plan the views of the test index -> what writes and scores their predictions, and what is true of the videos."""
    folder = run.at("evaluations", next(iter(commits)))
    views = Views(looked.index, tuple(classes_of(config)), config.clip, looked.views, looked.crops, folder)
    partitions = read_partitions(looked.index, looked.index_fingerprint)
    plan, truth = plan_all(views, partitions, test.max_labels, over)
    named = tuple((name, commit.number) for name, commit in commits.items())
    size = predictions.VIDEOS_PER_PART
    writer = PartWriter(run.url, plan, named, looked.views, looked.crops, decode, truth.is_known, size)
    return Scoring.of(views, len(partitions), writer, truth), truth


class _Steps:
    """Counts what is done, for a bar."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def add(self, steps: int = 1) -> None:
        self.done += steps
        if self.progress:
            self.progress(self.done, self.total)


def check_scorable(config: TrainConfig, classes: Sequence[str], index: IndexFacts, index_url: str) -> None:
    """Check that a run can be scored on an index, before anything is decoded.

    Raises:
        InputError: it has classes that the run was not trained on, or none of its videos has a label.
    """
    if strange := sorted(set(index.classes) - set(classes)):
        what = "no class of the run" if not set(index.classes) & set(classes) else "classes the run was not trained on"
        names = {theirs: ours for each in config.mixture.more for theirs, ours in each.labels.items()}
        known = [f". The run calls {each!r} {names[each]!r}: give it that name" for each in strange if each in names]
        raise InputError(
            f"{index_url} cannot be scored: it has {what} (such as {strange[:5]}; the run has {list(classes[:5])}); "
            f"index it with the class list of {describe_sources(config)} (--classes){(*known, '')[0]}"
        )
    if index.unlabelled == index.videos:
        raise InputError(
            f"{index_url} cannot be scored: none of its {index.videos} videos has a label, so there is no "
            "positive of any class; index it with labels (`adaptfocus index --labels`). `extract` needs no labels"
        )


def predict_here(
    facts: PlanFacts,
    shape: ClipShape,
    config: TrainConfig,
    num_classes: int,
    commits: Sequence[Commit],
    write: PartWriter,
) -> Iterator[Written]:
    """Prediction in this process."""
    predictor = Predictor(config, num_classes, commits)
    found = (each for batch in stream(facts.slices(0), shape, bags_per_batch=1) for each in predictor(batch))
    yield from map(write, in_parts(found, facts.num_bags, write.videos_per_part))


class Predictor:
    """The weights of some checkpoints of a run, ready to score batches of views."""

    def __init__(self, config: TrainConfig, num_classes: int, commits: Sequence[Commit]) -> None:
        run = Run(config.url)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.input = config.input
        self.models = [build_adapted(config.backbone, num_classes, config.input) for _ in commits]
        for model, commit in zip(self.models, commits, strict=True):
            model.load_state_dict(weights_of_classes(run, commit, num_classes))
            model.to(self.device).eval()

    @torch.inference_mode()
    def __call__(self, batch: DecodedBatch) -> Iterable[Prediction]:
        for bag in range(batch.num_bags):
            clips = to_model_input(torch.from_numpy(batch.frames[bag]).to(self.device), self.models[0], self.input)
            probability = torch.stack([torch.sigmoid(model(clips)).float() for model in self.models])
            yield int(batch.slot[bag]), bool(batch.ok[bag]), probability.cpu().numpy()


def _scores(
    found: MeanScores, truth: Truth, undecodable: int, classes: Sequence[str], looked: Looked, commit: Commit
) -> Scores:
    """The scores of one checkpoint, as they are saved."""
    positives = dict(zip(classes, truth.positives.tolist(), strict=True))
    return Scores(
        videos=truth.videos,
        undecodable=undecodable,
        views=looked.views,
        checkpoint=commit.number,
        epoch=commit.epoch,
        map_max=_known(found.mean["map_max"]),
        map_mean=_known(found.mean["map_mean"]),
        per_time_map=_known(found.mean.get(MOMENTS)),
        per_class_ap={name: _known(value) for name, value in zip(classes, found.ap["map_max"], strict=True)},
        crops=looked.crops,
        size_pixels=looked.size_pixels,
        index=looked.index,
        index_fingerprint=looked.index_fingerprint,
        classes_with_positives=sum(n > 0 for n in positives.values()),
        class_positives=positives,
        intervals={name: interval_of_score(found.mean[name], values) for name, values in found.resampled.items()},
        resamples=len(found.resampled["map_max"]),
    )


def _known(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)
