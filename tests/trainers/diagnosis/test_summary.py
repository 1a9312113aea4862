"""Without intervals, a summary says by class whether spikes stand out at all. Numbers are computed by hand."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines.plan.labels import is_shown
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.saliency.bins import Bins, spikes
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable, merge
from adaptfocus.pipelines.schemas import INDEX_SCHEMA, LEDGER_SCHEMA
from adaptfocus.pipelines.settings import make
from adaptfocus.trainers.diagnosis import summary
from adaptfocus.trainers.diagnosis.summary import contrasts, diagnose, sum_up, summarise
from adaptfocus.trainers.diagnosis.sums import EpochSums, Histogram
from adaptfocus.trainers.diagnosis.true_moments import TrueMoments
from adaptfocus.trainers.method.focus import focus_weights
from adaptfocus.trainers.settings.run import TrainConfig

CLASSES = ("jump", "run", "sit")
VALUES = {"name": "a", "runs": "/r", "index": "/i", "epochs": 4}


def test_a_spikes_contrast_is_how_far_it_stands_out_of_its_video() -> None:
    """Two bins visited, .8 now and .4 two epochs ago, which has faded by .5 an epoch to .1: .8 - .45 = .35.

    A flat pair has no contrast. A pair that was never visited does not count, and its class is not in the table.
    """
    table = SaliencyTable.empty([[0], [1], [2]], 4)
    for row, bins in enumerate([{1: (0.8, 6), 3: (0.4, 4)}, {0: (0.3, 6), 2: (0.3, 6)}]):
        for b, (score, epoch) in bins.items():
            table.bins.score[row, b], table.bins.epoch[row, b] = score, epoch
    found = contrasts(table, 6, 0.5)
    assert found[:2].tolist() == pytest.approx([0.35, 0.0])
    assert found[2].isnan()
    labels = pa.array([["jump"], ["run"], ["sit"]])
    index = pa.table({"video_id": ["a", "b", "c"], "labels": labels})
    config = make(TrainConfig, VALUES | {"saliency": {"staleness": 0.5}})
    index = index.append_column("duration_seconds", pa.array([9.0] * 3))
    index = index.append_column("intervals", pa.nulls(3, INDEX_SCHEMA.field("intervals").type))
    planner = Planner.of(index, ["jump", "run", "sit"])
    found = diagnose(config, planner, table, table, LEDGER_SCHEMA.empty_table(), 6)
    assert found["spike_contrast_of"] == {"jump": pytest.approx(0.35), "run": pytest.approx(0.0)}
    assert found["spike_contrast"] == pytest.approx(0.175)
    assert found["mean_spike_actionness"] == pytest.approx(0.55)


FOCUS = {"warmup_epochs": 1, "background_weight": 2.0, "background_from": 0.5, "rivalry": 1.0}


def spans_of(random: np.random.Generator, labels: list[str]) -> list[dict] | None:
    """Intervals of some labels, possibly several of one, and of a label that is no class; None: not annotated."""
    if random.random() < 0.25:
        return None
    names = random.choice([*labels, "other"], int(random.integers(0, 5))).tolist()
    starts = random.integers(0, 20, len(names)).tolist()
    return [
        {"label": name, "start_seconds": float(at), "end_seconds": float(at + random.integers(0, 10))}
        for name, at in zip(names, starts, strict=True)
    ]


def index_of(random: np.random.Generator, videos: int) -> Planner:
    rows = []
    for number in range(videos):
        labels = sorted(random.choice(CLASSES, int(random.integers(0, 4)), replace=False).tolist())
        spans = spans_of(random, labels)
        rows.append({"video_id": f"v{number}", "labels": labels, "intervals": spans, "duration_seconds": 24.0 + number})
    names = ("video_id", "labels", "intervals", "duration_seconds")
    return Planner.of(pa.Table.from_pylist(rows, pa.schema([INDEX_SCHEMA.field(n) for n in names])), CLASSES)


def ledger_of(random: np.random.Generator, planner: Planner) -> pa.Table:
    """A bag of each video, and a second one of some; some were not decoded."""
    videos = [*range(planner.table.num_rows), *random.integers(0, planner.table.num_rows, 2).tolist()]
    rows = []
    for slot, video in enumerate(videos):
        labels, clips = planner.label_ids[video], 3
        tau = (random.integers(0, 49, clips) / 48).tolist()  # many lie on the ends of intervals
        p = random.random(clips * len(labels), dtype=np.float32).tolist()
        own = {"tau": tau, "label_ids": list(labels), "probability": p, "clip_id": [*range(clips)]}
        own |= dict.fromkeys(("null_rank", "null_variance"), [-1.0] * len(labels))
        rows.append(
            {"slot": slot, "video_row": video, "ok": bool(random.random() < 0.9), "kind": "", "error": ""} | own
        )
    return pa.Table.from_pylist(rows, LEDGER_SCHEMA)


def one_by_one(config: TrainConfig, planner: Planner, before: SaliencyTable, ledger: pa.Table, epoch: int) -> dict:
    """The shares and precisions of a summary, a bag at a time."""
    sums = dict.fromkeys(("unmasked", "positives", "weight", "true", "background", "right"), 0.0)
    for bag in ledger.filter(ledger.column("ok")).to_pylist():
        video, where = planner.video(bag["video_row"]), before.pairs_of(bag["video_row"])
        if not bag["label_ids"]:
            continue
        p = torch.tensor(bag["probability"]).reshape(1, len(bag["tau"]), -1)
        bins = Bins(*(each[where][None] for each in (before.bins.score, before.bins.tau, before.bins.epoch)))
        tau, seconds = torch.tensor([bag["tau"]], dtype=torch.float64), torch.tensor([video["duration_seconds"]])
        found = focus_weights(p, tau, seconds, bins, epoch, config.focus, config.saliency)
        beta = config.focus.background_at(epoch, epoch / config.epochs)
        weight, background = found.positive[0].numpy(), beta * found.background[0].numpy()
        sums["unmasked"] += (weight > 0).sum()
        sums["positives"] += weight.size
        if video["intervals"] is None:
            continue
        truth = np.array([
            [is_shown(video["intervals"], CLASSES[k], t * video["duration_seconds"]) for k in bag["label_ids"]]
            for t in bag["tau"]
        ])  # fmt: skip
        sums["weight"] += weight.sum()
        sums["true"] += weight[truth].sum()
        sums["background"] += background.sum()
        sums["right"] += background[~truth].sum()
    return {
        "share_unmasked": sums["unmasked"] / sums["positives"] if sums["positives"] else None,
        "precision_of_positives": sums["true"] / sums["weight"] if sums["weight"] else None,
        "precision_of_negatives": sums["right"] / sums["background"] if sums["background"] else None,
    }


def hits_one_by_one(planner: Planner, after: SaliencyTable, epoch: int, staleness: float) -> float | None:
    a, salient = spikes(after.bins, epoch, staleness)
    judged = []
    for pair, (row, label) in enumerate(zip(after.video_row.tolist(), after.label_id.tolist(), strict=True)):
        video = planner.video(row)
        own = [span for span in video["intervals"] or [] if span["label"] == CLASSES[label]]
        if own and a[pair] >= 0:
            judged.append(is_shown(own, CLASSES[label], salient[pair].double().item() * video["duration_seconds"]))
    return sum(judged) / len(judged) if judged else None


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3]))
@settings(max_examples=60, deadline=None)
def test_whole_tables_give_what_one_bag_after_the_other_gives(seed: int, epoch: int) -> None:
    random = np.random.default_rng(seed)
    config = make(TrainConfig, VALUES | {"saliency": {"bins": 6}, "focus": FOCUS})
    planner = index_of(random, 7)
    before = planner.empty_saliency(config.saliency)
    for earlier in range(epoch):
        before = merge(before, ledger_of(random, planner), earlier, config.saliency)
    ledger = ledger_of(random, planner)
    after = merge(before, ledger, epoch, config.saliency)
    with mock.patch.object(summary, "BAGS_AT_ONCE", 2):
        found = diagnose(config, planner, before, after, ledger, epoch)
    wanted = one_by_one(config, planner, before, ledger, epoch)
    wanted["hit_rate"] = hits_one_by_one(planner, after, epoch, config.saliency.staleness)
    for name, value in wanted.items():
        assert found[name] == (None if value is None else pytest.approx(value, rel=1e-5)), name


def part_of(table: SaliencyTable, rows: np.ndarray) -> SaliencyTable:
    inside = np.isin(table.video_row, rows)
    bins = Bins(*(each[inside] for each in (table.bins.score, table.bins.tau, table.bins.epoch)))
    return SaliencyTable(table.video_row[inside], table.label_id[inside], bins)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_three_partitions_have_the_summary_of_the_whole(seed: int) -> None:
    """Videos of three partitions, whose rows are not places in a table. One may have no video, or no trained bag."""
    random = np.random.default_rng(seed)
    config = make(TrainConfig, VALUES | {"saliency": {"bins": 6}, "focus": FOCUS})
    videos = index_of(random, 9)
    rows = np.sort(random.choice([uid << 24 | n for uid in (2, 7, 2**30) for n in range(4)], 9, replace=False))
    table = videos.table.append_column("video_row", pa.array(rows))
    whole = Planner.of(table, CLASSES)
    ledger = ledger_of(random, videos)
    at = ledger.schema.get_field_index("video_row")
    ledger = ledger.set_column(at, "video_row", pa.array(rows[ledger["video_row"].to_numpy()]))
    before = merge(whole.empty_saliency(config.saliency), ledger.slice(0, 5), 1, config.saliency)
    after = merge(before, ledger, 2, config.saliency)
    wanted = diagnose(config, whole, before, after, ledger, 2)
    total = EpochSums.none(len(CLASSES))
    for uid in (2, 7, 2**30):
        inside = rows >> 24 == uid
        planner = Planner.of(table.filter(pa.array(inside)), CLASSES)
        bags = ledger.filter(pa.array(ledger["video_row"].to_numpy() >> 24 == uid))
        first, then = (part_of(each, rows[inside]) for each in (before, after))
        total += sum_up(config, planner, first, then, bags, 2)
    found = summarise(config, CLASSES, total, 2)
    assert_same(found, wanted)
    assert found["temperature_over_p"] == wanted["temperature_over_p"]
    p = ledger.filter(ledger["ok"])["probability"].combine_chunks().flatten().to_numpy()
    exact = config.focus.temperature / float(np.median(p)) if len(p) else None
    assert wanted["temperature_over_p"] == (None if exact is None else pytest.approx(exact, rel=1e-3))


def assert_same(found: dict, wanted: dict) -> None:
    """Counts are equal. torch's exp of a float32 may differ in its last bit with the number's place in its tensor."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if isinstance(value, dict):
            assert_same(found[name], value)
        else:
            assert found[name] == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value), name


@given(st.lists(st.floats(0, 1, width=32), max_size=40), st.integers(0, 40))
@settings(max_examples=100, deadline=None)
def test_a_median_of_counts_is_that_of_the_numbers_to_a_thousandth(values: list[float], cut: int) -> None:
    numbers = np.array(values, np.float32)
    found = (Histogram.of(numbers[:cut]) + Histogram.of(numbers[cut:])).median()
    assert found == pytest.approx(np.median(numbers) if values else 0.0, rel=1e-3, abs=1e-36)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_moments_are_true_where_an_interval_shows_them(seed: int) -> None:
    random = np.random.default_rng(seed)
    planner = index_of(random, 5)
    moments = TrueMoments.of(planner)
    rows, labels = random.integers(0, 5, 30), random.integers(0, 3, 30)
    seconds = random.integers(0, 60, (30, 4)) / 2
    shown, has = moments.show(rows, labels, seconds), moments.has_interval(rows, labels)
    for place, (row, label) in enumerate(zip(rows.tolist(), labels.tolist(), strict=True)):
        spans = planner.video(row)["intervals"] or []
        assert has[place] == any(span["label"] == CLASSES[label] for span in spans)
        assert shown[place].tolist() == [is_shown(spans, CLASSES[label], t) for t in seconds[place]]
    assert moments.is_known.tolist() == [planner.video(row)["intervals"] is not None for row in range(5)]
