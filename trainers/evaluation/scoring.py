"""Scores checkpoints of a run on a test index: multi-view video-level mAP, and per-time mAP where intervals are known.

Each video is seen in N uniform views of one crop or three, which go through the same stages as in training and then
through the model of each checkpoint. However many checkpoints are scored, the views are decoded once, and each frame
once for all its crops. The scores are saved with the run in `evaluations/NAME/` (trainers/evaluation/saved.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.load import IndexFacts, load_index, open_index
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.published import PlanFacts, write_plan
from adaptfocus.pipelines.plan.views import plan_views
from adaptfocus.pipelines.store.strict_json import json_text
from adaptfocus.pipelines.stream.batches import DecodedBatch
from adaptfocus.pipelines.stream.clips import ClipShape, stream
from adaptfocus.trainers.evaluation import predictions
from adaptfocus.trainers.evaluation.predictions import Prediction, Predictions, truth_at
from adaptfocus.trainers.evaluation.saved import (
    CROPS,
    Looked,
    check_views,
    forget_scores,
    refuse_other,
    save_resamples,
    scores_url,
)
from adaptfocus.trainers.inputs.model_input import build_adapted, to_model_input
from adaptfocus.trainers.metrics.bootstrap import draws, interval_of_score, resampled_map, resamples_for
from adaptfocus.trainers.metrics.video import charades_map, charades_ranked, max_and_mean_over_views, per_time_map
from adaptfocus.trainers.runs.growth import weights_of_classes
from adaptfocus.trainers.runs.log import Commit, Run
from adaptfocus.trainers.runs.on_features import test_source
from adaptfocus.trainers.runs.open import classes_of
from adaptfocus.trainers.settings.run import TrainConfig

# (plan, shape, settings of the run, number of classes, checkpoints) -> all videos, in any order
Predict = Callable[[PlanFacts, ClipShape, TrainConfig, int, Sequence[Commit]], Iterable[Prediction]]


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
) -> Scores:
    """Score the run's newest checkpoint on an index, or the one at the end of an epoch (counted from 0).

    Raises:
        ConfigError: there cannot be so many crops or views.
        InputError: the run has no such checkpoint, the test index has classes that the run was not trained on, or the
            name belongs to an evaluation of something else and `overwrite` is off.
    """
    commits = {name: commit_of(run, epoch)}
    how = (crops, size_pixels, overwrite, features)
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
) -> dict[str, Scores]:
    """Score several checkpoints of a run on the same views, which are read and decoded once.

    All models are in memory at once, and one video's views at a time.

    Args:
        commits: checkpoints by the name of their evaluation; at least one.
        crops: of each view: 1 (the centred square) or 3 (squares at the beginning, middle and end of the long side).
        size_pixels: the size that crops are scaled to, instead of the one that the run was trained on.
        overwrite: replace evaluations of these names, whatever they are of.
        features: URL of features of the test index, for a run on features.

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
    classes = classes_of(config)
    check_scorable(config, classes, open_index(index_url), index_url)
    index = load_index(index_url)
    source = test_source(run, config, features, index_url, index.fingerprint)
    planner = Planner.of(index.table, classes)
    plan = plan_views(planner, config.clip, views, crops)
    facts = write_plan(plan, run.at("evaluations", next(iter(commits)), "plan"), 0)
    shape = ClipShape(
        views * crops,
        config.clip.frames,
        looked.size_pixels,
        config.decode.model_copy(update={"crop_place": CROPS[crops]}),
        config.read,
        config.placement.isolation,
        source,
    )
    found = Predictions.gather(predict(facts, shape, config, len(classes), [*commits.values()]), facts.num_bags)
    centers_seconds = predictions.view_centers(planner, config.clip, views)
    scores = {}
    for (name, commit), probability in zip(commits.items(), found.probability, strict=True):
        _check_finite(run, commit, probability)
        forget_scores(run.url, name)
        predictions.forget(run, name)
        predictions.save(run, name, planner, centers_seconds, crops, shape.decode, found.ok, probability)
        scores[name], resampled = _scores(planner, centers_seconds, found.ok, probability, looked, commit)
        save_resamples(run, name, resampled)
        store.write_bytes(scores_url(run.url, name), json_text(asdict(scores[name]), indent=1).encode())
    return scores


def check_scorable(config: TrainConfig, classes: Sequence[str], index: IndexFacts, index_url: str) -> None:
    """Check that a run can be scored on an index, before anything is decoded.

    Raises:
        InputError: it has classes that the run was not trained on, or none of its videos has a label.
    """
    if strange := sorted(set(index.classes) - set(classes)):
        what = "no class of the run" if not set(index.classes) & set(classes) else "classes the run was not trained on"
        raise InputError(
            f"{index_url} cannot be scored: it has {what} (such as {strange[:5]}; the run has {list(classes[:5])}); "
            f"index it with the class list of {config.index} (--classes)"
        )
    if index.unlabelled == index.videos:
        raise InputError(
            f"{index_url} cannot be scored: none of its {index.videos} videos has a label, so there is no "
            "positive of any class; index it with labels (`adaptfocus index --labels`). `extract` needs no labels"
        )


def _check_finite(run: Run, commit: Commit, probability: np.ndarray) -> None:
    for video, own in enumerate(probability):
        if not np.isfinite(own).all():
            raise InputError(
                f"the scores of checkpoint {commit.number} of {run.url} are not finite (video {video} of the index): "
                "its weights have grown without bound. Evaluate the end of an earlier epoch (--epoch), or train again "
                "with a lower optim.learning_rate"
            )


def predict_here(
    facts: PlanFacts, shape: ClipShape, config: TrainConfig, num_classes: int, commits: Sequence[Commit]
) -> Iterable[Prediction]:
    """Prediction in this process."""
    predictor = Predictor(config, num_classes, commits)
    for batch in stream(facts.slices(0), shape, bags_per_batch=1):
        yield from predictor(batch)


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
    planner: Planner,
    centers_seconds: np.ndarray,
    ok: np.ndarray,
    probability: np.ndarray,
    looked: Looked,
    commit: Commit,
) -> tuple[Scores, dict[str, np.ndarray]]:
    """The scores of one checkpoint, and those on resamples.

    Args:
        probability: [V, views x crops, K]. It is overwritten: videos that are not ok rank last.
    """
    classes, videos = planner.classes, len(ok)
    probability[~ok] = -np.inf
    truth = np.zeros((videos, len(classes)), bool)
    for row, ids in enumerate(planner.label_ids):
        truth[row, list(ids)] = True
    by_max, by_mean = (charades_ranked(by, truth) for by in max_and_mean_over_views(probability))
    map_max, per_class = charades_map(by_max, truth)
    maps = {"map_max": map_max, "map_mean": charades_map(by_mean, truth)[0]}
    resampled = {"map_max": _resampled(by_max, truth), "map_mean": _resampled(by_mean, truth)}
    del by_max, by_mean
    times = truth_at(planner, centers_seconds)
    if times is not None:
        at_once = probability.reshape(videos, looked.views, looked.crops, len(classes))
        at_once = at_once[:, :, 0] if looked.crops == 1 else at_once.max(axis=2)  # over the crops of a time
        maps["per_time_map"], _ = per_time_map(at_once, times)
        resampled["per_time_map"] = _resampled(at_once, times)
    positives = {name: int(n) for name, n in zip(classes, truth.sum(axis=0), strict=True)}
    return Scores(
        videos=videos,
        undecodable=int((~ok).sum()),
        views=looked.views,
        checkpoint=commit.number,
        epoch=commit.epoch,
        map_max=_known(map_max),
        map_mean=_known(maps["map_mean"]),
        per_time_map=_known(maps.get("per_time_map")),
        per_class_ap={name: _known(value) for name, value in zip(classes, per_class, strict=True)},
        crops=looked.crops,
        size_pixels=looked.size_pixels,
        index=looked.index,
        index_fingerprint=looked.index_fingerprint,
        classes_with_positives=sum(n > 0 for n in positives.values()),
        class_positives=positives,
        intervals={name: interval_of_score(maps[name], values) for name, values in resampled.items()},
        resamples=len(resampled["map_max"]),
    ), resampled


def _resampled(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return resampled_map(values, truth, draws(len(truth), resamples_for(truth, len(truth))))


def _known(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)
