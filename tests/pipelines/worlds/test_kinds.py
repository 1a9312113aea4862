"""The promises of each kind and option. If one were broken, a benchmark would not measure what its name says."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptfocus.pipelines.worlds.config import KINDS, WORLDS, WorldConfig, world_of
from adaptfocus.pipelines.worlds.labels import (
    class_ranks,
    draw_tailed_labels,
    inclusion_probabilities,
    scene_preferences,
)
from adaptfocus.pipelines.worlds.render import APPEARANCES, LOOKS, SPRITE_PIXELS, decoys, draw_sprite
from adaptfocus.pipelines.worlds.trimmed import LABELS, MOVEMENTS
from adaptfocus.pipelines.worlds.video import make_video


def color_of(name: str) -> np.ndarray:
    """RGB of a look, as it is drawn."""
    frames = np.zeros((1, SPRITE_PIXELS, SPRITE_PIXELS, 3), np.uint8)
    draw_sprite(frames, LOOKS.index(name), np.zeros(1, int), np.zeros(1, int))
    return frames[0].reshape(-1, 3).max(axis=0)


def movement_of(frames: np.ndarray, color: np.ndarray) -> str:
    """How the only thing of a colour moves in frames [T, H, W, 3]; other things may hide parts of it."""
    _, rows, columns = np.nonzero((frames == color).all(axis=-1))
    far_down, far_across = (int(np.ptp(places)) >= SPRITE_PIXELS for places in (rows, columns))
    return {(0, 0): "still", (0, 1): "horizontal", (1, 0): "vertical", (1, 1): "both"}[far_down, far_across]


def test_in_world_c_what_a_thing_does_says_nothing_of_its_class():
    """Each class stands still, runs horizontally or runs vertically, each in a third of its intervals."""
    config = world_of("c", distractors=0.0)
    colors = {name: color_of(name) for name in config.classes}
    seen: dict[str, Counter[str]] = {name: Counter() for name in config.classes}
    for index in range(200):
        video = make_video(config, "train", index)
        one_of_a_color = Counter(name.split("_")[0] for name in video.labels)
        for label, start, end in video.intervals:
            if one_of_a_color[label.split("_")[0]] == 1:
                shown = video.frames[round(start * config.fps) : round(end * config.fps)]
                seen[label][movement_of(shown, colors[label])] += 1
    movements = sum(seen.values(), Counter())
    assert set(movements) == {"still", "horizontal", "vertical"}
    assert all(count / movements.total() == pytest.approx(1 / 3, abs=0.06) for count in movements.values()), movements
    assert all(len(each) == 3 for each in seen.values())


def test_in_world_c_neither_colour_nor_shape_alone_tells_a_class():
    in_grey, in_other_shapes = ({LOOKS[place] for place in places} for places in decoys(world_of("c").classes))
    assert len(set(APPEARANCES)) == 12
    for name in APPEARANCES:
        color, shape = name.split("_")
        assert f"grey_{shape}" in in_grey
        assert any(other.endswith(f"_{shape}") for other in in_other_shapes), "its shape in other colours"
        assert any(other.startswith(f"{color}_") for other in in_other_shapes), "its colour in other shapes"


@pytest.mark.parametrize("num_sprites", range(1, 7))
def test_no_decoy_is_a_class(num_sprites):
    """A decoy that is a class would be an action without its label."""
    classes = WorldConfig("c", num_sprites=num_sprites).classes
    in_grey, in_other_shapes = decoys(classes)
    assert len(classes) == 2 * num_sprites
    assert in_grey
    assert in_other_shapes
    assert not {LOOKS[place] for place in in_grey + in_other_shapes} & set(classes)


def test_the_decoys_of_world_c_blink_and_move_and_stand():
    """If they only blinked, blinking would distinguish them from the classes."""
    config = world_of("c", distractors=1.0)
    plain = world_of("c", distractors=0.0)
    grey, ways = color_of("grey_square"), Counter()
    for index in range(60):
        frames = make_video(config, "train", index).frames
        assert not (make_video(plain, "train", index).frames == grey).all(axis=-1).any()
        is_shown = (frames == grey).all(axis=-1).any(axis=(1, 2))
        edges = np.flatnonzero(np.diff(is_shown.astype(int), prepend=0, append=0))
        for start, end in edges.reshape(-1, 2):
            ways["blinks" if end - start <= 3 else movement_of(frames[start:end], grey)] += 1
    assert {"blinks", "still", "horizontal", "vertical"} <= set(ways), ways


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "pretrain"])
def test_no_class_of_any_world_is_a_label_of_the_pretraining(kind):
    """If one were, the start would hold an answer to the test."""
    assert not set(LABELS) & set(world_of(kind).classes)


def test_a_trimmed_clip_has_its_labels_from_beginning_to_end():
    config = world_of("pretrain")
    assert (config.num_train_videos, config.classes) == (4000, LABELS)
    counts = Counter()
    for index in range(300):
        video = make_video(config, "train", index)
        seconds = len(video.frames) / config.fps
        assert 2.5 <= seconds <= 3.5
        assert video.intervals == tuple((label, 0.0, seconds) for label in video.labels)
        assert 1 <= sum(label not in MOVEMENTS for label in video.labels) <= 3
        assert 1 <= sum(label in MOVEMENTS for label in video.labels) <= 3
        counts.update(video.labels)
    assert min(counts[label] for label in LABELS) > 45, "every label is seen often"


@pytest.mark.parametrize("kind", ["a", "c"])
def test_a_long_tail_has_frequencies_of_one_over_rank(kind):
    config = world_of(kind, long_tail=True, seed=3)
    counts = np.zeros(12)
    for index in range(3000):
        labels, _ = draw_tailed_labels(np.random.default_rng([1, index]), config)
        assert len(set(labels)) == len(labels)
        counts[labels] += 1
    frequency = counts[np.argsort(class_ranks(config))] / 3000
    assert frequency.sum() == pytest.approx(3.5, abs=0.1), "as many labels a video as in the balanced world"
    assert frequency[0] == pytest.approx(0.90, abs=0.02), "no video can show it twice"
    wanted = frequency[1:].sum() / np.sum(1 / np.arange(2, 13)) / np.arange(2, 13)
    assert np.abs(frequency[1:] - wanted).max() < 0.03


def test_only_the_training_videos_have_a_long_tail():
    tailed, balanced = world_of("a", long_tail=True), world_of("a")
    for index in range(3):
        ours, theirs = (make_video(config, "test", index) for config in (tailed, balanced))
        assert ours.labels == theirs.labels
        assert np.array_equal(ours.frames, theirs.frames)
    labels = [[make_video(config, "train", index).labels for index in range(40)] for config in (tailed, balanced)]
    head = tailed.classes[int(np.argmin(class_ranks(tailed)))]
    assert [sum(head in each for each in videos) > 30 for videos in labels] == [True, False]


def test_in_a_long_tail_the_background_still_misleads():
    config = world_of("a", long_tail=True)
    preferences = scene_preferences(config)
    drawn = [draw_tailed_labels(np.random.default_rng([2, index]), config) for index in range(1000)]
    from_scene = sum(np.isin(labels, preferences[scene]).sum() for labels, scene in drawn)
    assert 0.4 < from_scene / sum(len(labels) for labels, _ in drawn) < 0.7
    assert {scene for _, scene in drawn} == set(range(6))


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=20), st.data())
def test_inclusion_probabilities_are_proportional_up_to_one(weights, data):
    count = data.draw(st.integers(1, len(weights)))
    w = np.array(weights)
    p = inclusion_probabilities(w, count)
    assert p.sum() == pytest.approx(count)
    assert (p > 0).all()
    assert (p <= 1).all()
    below = p < 1 - 1e-9
    if below.any():
        assert np.allclose(p[below] / w[below], (p[below] / w[below])[0])
        assert (w[~below] >= w[below].max() - 1e-9).all(), "only the most frequent reach one"


def test_worlds_have_their_kinds_own_sizes_and_take_changes():
    assert set(WORLDS) == set(KINDS)
    assert all(config.kind == kind for kind, config in WORLDS.items())
    changed = world_of("demo", seed=5, num_train_videos=None, num_test_videos=7)
    assert (changed.seed, changed.num_train_videos, changed.num_test_videos) == (5, 128, 7)
