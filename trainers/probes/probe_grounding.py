"""The grounding probe: one head, sentences in, moments out.

Input: moments of both splits, features of their videos. Does: trains; finds the best stretches for each test sentence.
Output: a SeedOutcome: how often one of the best n overlaps the true moment by enough.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from pipelines.datasets.tasks import Moment
from pipelines.errors import InputError
from trainers.probes.grounding import Query, Vocabulary, ground, train_grounding
from trainers.probes.inputs import ProbeFeatures
from trainers.probes.results import Details, SeedOutcome, Span, Strips
from trainers.probes.training import Progress, Schedule

HEADLINE = ("R@1, IoU=0.5", "R@1, IoU=0.7", "R@5, IoU=0.5")
RANKS, OVERLAPS = (1, 5), (0.3, 0.5, 0.7)
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
    """Train on `train`, score on `test`."""
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
        said.append([(start * seconds, end * seconds) for start, end in shares])
    predictions = [
        {"video_id": m.video_id, "sentence": m.sentence, "stretches": [[round(t, 4) for t in each] for each in best]}
        for m, best in zip(test, said, strict=True)
    ]
    return SeedOutcome(
        seed, scores_of(said, test), {"proposal map": losses}, time.monotonic() - began, predictions,
        [_kinds(said, test)], _strips(said, test, found),
    )  # fmt: skip


def overlap(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Intersection over union of two stretches, edges as real numbers."""
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return shared / (max(a[1], b[1]) - min(a[0], b[0]))


def _query(moment: Moment, found: ProbeFeatures, place: int) -> Query:
    seconds = found.duration_seconds[moment.video_id]
    if moment.start_seconds >= seconds:
        raise InputError(
            f"{moment.video_id}: the sentence {moment.sentence!r} begins at {moment.start_seconds:g} s, and the video ends "
            f"at {seconds:g} s; leave it out of the annotations"
        )
    return Query(place, moment.sentence, moment.start_seconds / seconds, min(1.0, moment.end_seconds / seconds))


def _kinds(said: Sequence[Sequence[tuple[float, float]]], test: Sequence[Moment]) -> Details:
    """Sentences with and without a word of order."""
    has_order = [bool(WORDS_OF_ORDER & set(m.sentence.lower().split())) for m in test]
    hits = [overlap(best[0], (m.start_seconds, m.end_seconds)) >= 0.5 for best, m in zip(said, test, strict=True)]
    rows = []
    for name, kind in (("with a word of order", True), ("without", False)):
        of_kind = [hit for hit, order in zip(hits, has_order, strict=True) if order is kind]
        rows.append((name, len(of_kind), float(np.mean(of_kind)) if of_kind else None))
    return Details("Sentences", ("sentences", "number", "R@1, IoU=0.5"), rows)


def _strips(
    said: Sequence[Sequence[tuple[float, float]]], test: Sequence[Moment], found: ProbeFeatures
) -> list[Strips]:
    """Sentences taken evenly from the test split, whatever their scores."""
    count = min(STRIPS, len(test))
    strips = []
    for i in ((2 * n + 1) * len(test) // (2 * count) for n in range(count)):
        truth = (test[i].start_seconds, test[i].end_seconds)
        rows = (("true", [Span(*truth, "true")]), ("found", [Span(*said[i][0], "found")]))
        note = f"{test[i].video_id}; overlap {overlap(said[i][0], truth):.2f}"
        strips.append(Strips(test[i].sentence, found.duration_seconds[test[i].video_id], rows, note))
    return strips
