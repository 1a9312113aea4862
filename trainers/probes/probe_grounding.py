"""The grounding probe: trains one head, which finds the best stretches of a video for each test sentence.

The scores say how often one of the best n stretches overlaps the true moment by enough.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from adaptfocus.pipelines.annotations.tasks import Moment
from adaptfocus.pipelines.errors import InputError
from adaptfocus.trainers.metrics.grounding import ABOVE, AT_LEAST, grounding_scores, moment_iou
from adaptfocus.trainers.probes.grounding import Query, Vocabulary, ground, train_grounding, words_of
from adaptfocus.trainers.probes.inputs import ProbeFeatures
from adaptfocus.trainers.probes.results import Details, SeedOutcome, Span, Strips, evenly
from adaptfocus.trainers.probes.training import Progress, Schedule

HEADLINE = ("R@1,IoU>=0.5", "R@1,IoU>=0.7", "R@5,IoU>=0.5", "mIoU")
WORDS_OF_ORDER = frozenset({"first", "second", "third", "last", "again", "after", "before", "then", "while"})
STRIPS = 6  # test sentences to look at


def run_seed(
    train: Sequence[Moment],
    test: Sequence[Moment],
    found: ProbeFeatures,
    seed: int,
    schedule: Schedule,
    progress: Progress | None = None,
) -> SeedOutcome:
    """Train a head on `train`, and score it on `test`."""
    began = time.monotonic()
    places = {name: place for place, name in enumerate(dict.fromkeys(moment.video_id for moment in train))}
    vocabulary = Vocabulary([moment.sentence for moment in train])
    queries = [_query(moment, found, places[moment.video_id]) for moment in train]
    x = [found.features[name] for name in places]
    head, losses = train_grounding(x, queries, vocabulary, seed, schedule, progress)
    said = []
    for moment in test:
        seconds = found.duration_seconds[moment.video_id]
        shares = ground(head, found.features[moment.video_id], moment.sentence, vocabulary)
        said.append(shares * seconds)
    truth = np.array([(moment.start_seconds, moment.end_seconds) for moment in test])
    metrics = {}
    for edge in (AT_LEAST, ABOVE):  # evaluations disagree about the edge: see metrics/grounding.py
        metrics |= grounding_scores(said, truth, edge).named()
    hit = np.array([moment_iou(best[0], true) for best, true in zip(said, truth, strict=True)])
    predictions = [
        {"video_id": moment.video_id, "sentence": moment.sentence, "stretches": best.round(4).tolist()}
        for moment, best in zip(test, said, strict=True)
    ]
    return SeedOutcome(
        seed, metrics, {"proposal map": losses}, time.monotonic() - began, predictions, [_kinds(hit, test)],
        _strips(said, hit, test, found),
    )  # fmt: skip


def _query(moment: Moment, found: ProbeFeatures, place: int) -> Query:
    seconds = found.duration_seconds[moment.video_id]
    if moment.start_seconds >= seconds:
        raise InputError(
            f"{moment.video_id}: the sentence {moment.sentence!r} begins at {moment.start_seconds:g} s, but the video "
            f"ends at {seconds:g} s; remove it from the annotations"
        )
    return Query(place, moment.sentence, moment.start_seconds / seconds, min(1.0, moment.end_seconds / seconds))


def _kinds(overlaps: np.ndarray, test: Sequence[Moment]) -> Details:
    """Scores of sentences with and without a word of order; `overlaps` [S]: of the best stretch with the true one."""
    has_order = np.array([bool(WORDS_OF_ORDER & set(words_of(moment.sentence))) for moment in test])
    rows = []
    for name, of_kind in (("with a word of order", has_order), ("without", ~has_order)):
        hits = overlaps[of_kind] >= 0.5
        rows.append((name, len(hits), float(hits.mean()) if len(hits) else None))
    return Details("Sentences", ("sentences", "number", "R@1,IoU>=0.5"), rows)


def _strips(
    said: Sequence[np.ndarray], overlaps: np.ndarray, test: Sequence[Moment], found: ProbeFeatures
) -> list[Strips]:
    """Strips of sentences taken evenly from the test split, whatever their scores."""
    strips = []
    for i in evenly(len(test), STRIPS):
        truth = Span(test[i].start_seconds, test[i].end_seconds, "true")
        start, end = said[i][0].tolist()
        best = Span(start, end, "found")
        note = f"{test[i].video_id}; overlap {overlaps[i]:.2f}"
        rows = (("true", [truth]), ("found", [best]))
        strips.append(Strips(test[i].sentence, found.duration_seconds[test[i].video_id], rows, note))
    return strips
