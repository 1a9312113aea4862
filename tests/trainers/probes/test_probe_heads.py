"""Small heads learn what features hold. Where features lose their order, heads lose what depends on it."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch

from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.trainers.metrics.grounding import moment_iou
from adaptfocus.trainers.probes import activity, grounding, segmentation
from adaptfocus.trainers.probes.activity import activity_probabilities, train_activity
from adaptfocus.trainers.probes.grounding import CLIPS, Query, Vocabulary, ground, overlaps, train_grounding, words_of
from adaptfocus.trainers.probes.segmentation import IGNORED, MultiStage, segment, segmentation_loss, train_segmentation
from adaptfocus.trainers.probes.training import Schedule, fit, fresh, pad_sequences, resample_features

DIM = 6


def sequence(rng: np.random.Generator, classes: np.ndarray) -> torch.Tensor:
    """Features [T, DIM]: the unit vector of each moment's class, and noise."""
    x = np.eye(DIM)[classes] + 0.3 * rng.standard_normal((len(classes), DIM))
    return torch.from_numpy(x.astype(np.float32))


def timelines(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Three actions (1, 2, 3) in a random order, background (0) between."""
    found = []
    for _ in range(count):
        pieces = [np.zeros(int(rng.integers(3, 9)), int)]
        for k in rng.permutation([1, 2, 3]):
            pieces += [np.full(int(rng.integers(8, 20)), k), np.zeros(int(rng.integers(3, 9)), int)]
        found.append(np.concatenate(pieces))
    return found


def shuffled(videos: list[torch.Tensor]) -> list[torch.Tensor]:
    """Each sequence in another random order."""
    return [x[np.random.default_rng(number).permutation(len(x))] for number, x in enumerate(videos)]


def test_segmentation_learns_a_tiny_set_and_finds_the_same_in_new_videos() -> None:
    rng = np.random.default_rng(0)
    truth, new = timelines(rng, 12), timelines(rng, 4)
    x = [sequence(rng, each) for each in truth]
    schedule = replace(segmentation.SCHEDULE, epochs=12, batch_items=4)
    seen: list[tuple[int, int]] = []
    head, losses = train_segmentation(x, truth, 4, seed=1, schedule=schedule, progress=lambda *at: seen.append(at))
    assert losses[-1] < losses[0] / 3
    assert seen[-1] == (36, 36)
    y = [sequence(rng, each) for each in new]
    right = np.mean([np.mean(segment(head, each) == wanted) for each, wanted in zip(y, new, strict=True)])
    assert right > 0.9
    lost = np.mean([np.mean(segment(head, each) == wanted) for each, wanted in zip(shuffled(y), new, strict=True)])
    assert lost < 0.6, "moments in another order are not the true ones"
    short = replace(schedule, epochs=1)
    first, again, other = (train_segmentation(x, truth, 4, seed, short)[1] for seed in (1, 1, 2))
    assert first == again != other, "a seed is a head"


def test_padding_is_never_seen() -> None:
    """A video in a batch of longer ones is segmented as it is alone, and places after its end have no weight."""
    head = fresh(lambda: MultiStage(DIM, 4), seed=0).eval()
    short, long = torch.randn(20, DIM), torch.randn(50, DIM)
    x, is_real = pad_sequences([short, long])
    with torch.inference_mode():
        together, alone = head(x, is_real)[:, 0, :, :20], head(short[None], is_real[:1, :20])[:, 0]
        wanted = torch.randint(4, (1, 20))
        behind = torch.nn.functional.pad(wanted, (0, 30), value=IGNORED)
        assert torch.allclose(together, alone, atol=1e-5)
        losses = [
            segmentation_loss(head(x[:1], is_real[:1]), behind),
            segmentation_loss(head(short[None], is_real[:1, :20]), wanted),
        ]
    assert torch.allclose(*losses, atol=1e-5)


def test_only_the_head_that_sees_order_tells_an_activity_from_its_reverse() -> None:
    rng = np.random.default_rng(0)
    orders = [np.repeat([1, 2, 3, 4], 20), np.repeat([4, 3, 2, 1], 20)]

    def videos(count: int) -> tuple[list[torch.Tensor], np.ndarray]:
        truth = np.eye(2, dtype=bool)[rng.integers(2, size=count)]
        return [sequence(rng, orders[row.argmax()]) for row in truth], truth

    (x, truth), (y, wanted) = videos(40), videos(30)
    schedule = replace(activity.SCHEDULE, epochs=20)
    right, lost = {}, {}
    for name in activity.HEADS:
        head, _ = train_activity(x, truth, name, seed=0, schedule=schedule)
        said, mixed = (activity_probabilities(head, each, one_each=True) for each in (y, shuffled(y)))
        assert np.allclose(said.sum(axis=1), 1)
        right[name] = np.mean(said.argmax(axis=1) == wanted.argmax(axis=1))
        lost[name] = np.mean(mixed.argmax(axis=1) == wanted.argmax(axis=1))
    assert right["temporal"] > 0.95
    assert 0.2 < right["mlp"] < 0.8, "mean and maximum are the same in either order"
    assert 0.2 < lost["temporal"] < 0.8, "shuffled, there is nothing to tell them by"


def test_videos_with_several_activities_get_probabilities_by_themselves() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((40, 3)) < 0.5
    x = [sequence(rng, np.repeat([4, *(k for k in range(3) if row[k])], 20)) for row in truth]
    head, _ = train_activity(x, truth, "mlp", seed=0, schedule=replace(activity.SCHEDULE, epochs=40))
    said = activity_probabilities(head, x, one_each=False)
    assert ((said > 0.5) == truth).mean() > 0.95


def test_grounding_finds_the_time_that_a_word_of_order_names() -> None:
    """The same action twice: features say where it is, words which one is meant."""
    rng = np.random.default_rng(0)

    def videos(count: int) -> tuple[list[torch.Tensor], list[Query]]:
        x, queries = [], []
        for video in range(count):
            gaps = rng.integers(8, 24, size=3)
            classes = np.concatenate([np.zeros(gaps[0], int), np.ones(16, int), np.zeros(gaps[1], int),
                                      np.ones(16, int), np.zeros(gaps[2], int)])  # fmt: skip
            x.append(sequence(rng, classes))
            starts = (gaps[0], gaps[0] + 16 + gaps[1])
            queries += [
                Query(video, f"It runs for the {word} time.", start / len(classes), (start + 16) / len(classes))
                for word, start in zip(("first", "second"), starts, strict=True)
            ]
        return x, queries

    (x, queries), (y, asked) = videos(40), videos(12)
    vocabulary = Vocabulary([query.sentence for query in queries])
    schedule = replace(grounding.SCHEDULE, epochs=20, batch_items=8)
    head, _ = train_grounding(x, queries, vocabulary, seed=0, schedule=schedule)

    def share_found(features: list[torch.Tensor], words: dict[str, str]) -> float:
        hits = []
        for query in asked:
            sentence = " ".join(words.get(word, word) for word in query.sentence.split())
            best = ground(head, features[query.video], sentence, vocabulary)
            assert len(best) > 1
            assert all(0 <= start < end <= 1 for start, end in best)
            hits.append(moment_iou(best[0], np.array([query.start_share, query.end_share])) >= 0.5)
        return float(np.mean(hits))

    assert share_found(y, {}) > 0.85
    assert share_found(y, {"first": "second", "second": "first"}) < 0.2, "the words decide"
    assert share_found(shuffled(y), {}) < 0.4, "and the features"


def test_overlaps_are_those_of_the_stretches() -> None:
    grid = overlaps(0.25, 0.5)
    assert grid[CLIPS // 4, CLIPS // 2 - 1] == 1
    assert grid[0, CLIPS - 1] == 0.25
    assert grid[CLIPS // 4, CLIPS - 1] == pytest.approx(0.25 / 0.75)
    assert grid[CLIPS - 1, 0] == 0, "a stretch does not end before it begins"


def test_words_that_training_never_saw_are_one_word() -> None:
    vocabulary = Vocabulary(["The cat's first run.", "the CAT sat"])
    assert words_of("The cat's run, again!") == ["the", "cat's", "run", "again"]
    assert vocabulary.encoded("the dog").tolist()[1] == 1
    assert vocabulary.encoded("the")[0] == vocabulary.encoded("THE!")[0] > 1
    assert vocabulary.encoded("?!").tolist() == [1], "a sentence without words is no empty tensor"


def test_resampling_keeps_order_and_takes_means() -> None:
    x = torch.arange(12.0)[:, None]
    assert resample_features(x, 4).flatten().tolist() == [1, 4, 7, 10]
    assert resample_features(x[:2], 4).flatten().tolist() == [0, 0, 1, 1]


def test_what_cannot_be_trained_is_said() -> None:
    head = torch.nn.Linear(1, 1)
    schedule = Schedule(epochs=2, batch_items=2, learning_rate=0.1)
    with pytest.raises(InputError, match="the loss is inf in epoch 1: the features have values that are too large"):
        fit(head, lambda items: head(torch.ones(1, 1)).square().sum() * torch.inf, 4, schedule, seed=0)
    with pytest.raises(InputError, match="nothing to train a head on"):
        fit(head, lambda items: head(torch.ones(1, 1)).sum(), 0, schedule, seed=0)
    with pytest.raises(ConfigError, match="epochs 0, batch_items 2"):
        replace(schedule, epochs=0)


def test_each_item_is_seen_once_an_epoch_in_an_order_of_the_seed() -> None:
    def orders(seed: int) -> list[list[int]]:
        head, batches = torch.nn.Linear(1, 1), []

        def loss_of(items):
            batches.append(list(items))
            return head(torch.ones(1, 1)).square().sum()

        fit(head, loss_of, 10, Schedule(epochs=2, batch_items=4, learning_rate=0.1), seed)
        return batches

    first = orders(0)
    assert [sorted(chain(*part)) for part in (first[:3], first[3:])] == [list(range(10))] * 2
    assert first[:3] != first[3:]
    assert orders(0) == first
    assert orders(1) != first
