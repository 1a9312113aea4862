"""World e is not at the ceiling: each thing that makes it hard is there, and the truth stays known."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from adaptfocus.pipelines.worlds.config import WorldConfig, world_of
from adaptfocus.pipelines.worlds.filmed import (
    BRIGHTEST,
    DARKEST,
    LOOKALIKES,
    MARGIN_PIXELS,
    MAX_SIZE,
    MIN_SIZE,
    _draw_lookalike,
    _draw_spans,
    _film,
    partners,
)
from adaptfocus.pipelines.worlds.render import SPRITES, draw_sized_sprite, draw_sprite
from adaptfocus.pipelines.worlds.video import WorldVideo, make_video

CONFIG = world_of("e", seed=2)


@pytest.fixture(scope="module")
def videos() -> list[WorldVideo]:
    return [make_video(CONFIG, "train", index) for index in range(60)]


def test_an_action_covers_three_to_thirty_per_cent(videos: list[WorldVideo]) -> None:
    shares = []
    for video in videos:
        seconds = len(video.frames) / CONFIG.fps
        assert all(0 <= start < end <= seconds for _, start, end in video.intervals)
        covered: dict[str, float] = defaultdict(float)
        for label, start, end in video.intervals:
            covered[label] += end - start
        assert set(covered) == set(video.labels)
        shares += [each / seconds for each in covered.values()]
    assert 0.03 - 0.003 <= min(shares) < 0.05, "rounded to whole frames"
    assert 0.25 < max(shares) <= 0.30 + 0.003


def test_classes_come_in_pairs(videos: list[WorldVideo]) -> None:
    """Tags cannot tell such classes apart where they come together, which they do half of the time."""
    mates, names = partners(CONFIG), CONFIG.classes
    assert [mates[mate] for mate in mates] == list(range(12)), "each is its partner's partner"
    assert all(mate // 2 != k // 2 for k, mate in enumerate(mates)), "of another sprite"
    has_mate = [names[mates[names.index(label)]] in video.labels for video in videos for label in video.labels]
    chance = [(len(video.labels) - 1) / 11 for video in videos for _ in video.labels]
    assert 2 * np.mean(chance) < np.mean(has_mate)
    assert 0.4 < np.mean(has_mate) < 0.85


def test_partners_often_share_a_moment() -> None:
    first, mate = 0, partners(CONFIG)[0]
    stranger = next(k for k in range(1, 12) if k != mate)

    def share_a_moment(other: int, seed: int) -> bool:
        spans = _draw_spans(np.random.default_rng(seed), CONFIG, sorted((first, other)), 360)
        ours, theirs = ([span[1:] for span in spans if span[0] == k] for k in (first, other))
        assert all(0 <= start < end <= 360 for start, end in ours + theirs)
        return any(a < d and c < b for a, b in ours for c, d in theirs)

    by_chance, found = (np.mean([share_a_moment(k, seed) for seed in range(400)]) for k in (stranger, mate))
    assert found == pytest.approx(0.5 + 0.5 * by_chance, abs=0.07), "half of the time, and by chance in the other half"


def test_the_camera_pans_shakes_and_stands_in_a_light_that_changes() -> None:
    """A scene whose red and green say where a pixel is, and whose blue is the same everywhere."""
    scene = np.zeros((400, 26, 26, 3), np.uint8)
    scene[..., 0], scene[..., 1], scene[..., 2] = 8 * np.arange(26)[:, None], 8 * np.arange(26), 112
    corners = [_film(np.random.default_rng(seed), CONFIG, scene)[:, 0, 0].astype(int) for seed in range(8)]
    for red, green, blue in (corner.T for corner in corners):
        sixteenths = blue // 7
        assert DARKEST <= sixteenths.min() <= sixteenths.max() <= BRIGHTEST
        places = np.round(np.stack([red, green]) * 16 / sixteenths / 8)
        steps = np.abs(np.diff(places))
        assert steps.max() <= 3, "a pan of half a pixel at most, and a shake of one either way"
        assert 0 <= places.min() <= places.max() <= 2 * MARGIN_PIXELS
        assert np.ptp(places, axis=1).max() >= 4, "a camera that shakes only stays within 2"
        assert 0.2 < (steps.max(axis=0) == 0).mean() < 0.95
    assert np.median([np.ptp(corner[:, 2] // 7) for corner in corners]) >= 6


def test_things_are_drawn_in_every_size() -> None:
    for sprite in range(len(SPRITES)):
        for size in range(MIN_SIZE, MAX_SIZE + 1):
            frames, at = np.zeros((1, 12, 12, 3), np.uint8), np.array([2])
            draw_sized_sprite(frames, sprite, at, at, np.array([size]), MAX_SIZE)
            rows, columns = np.nonzero(frames[0].any(axis=-1))
            assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (size, size)
            assert rows.min() == columns.min() == 2 + (MAX_SIZE - size) // 2
        usual, sized = np.zeros((2, 1, 12, 12, 3), np.uint8)
        draw_sprite(usual, sprite, np.array([3]), np.array([3]))
        draw_sized_sprite(sized, sprite, np.array([2]), np.array([2]), np.array([5]), MAX_SIZE)
        assert np.array_equal(usual, sized), "5 pixels are those of the other worlds"


@pytest.mark.parametrize("what", LOOKALIKES)
def test_what_looks_alike_is_never_a_class(what: str) -> None:
    """If the sprite of a class ran along one axis, it would be an action without its label."""
    colors = set()
    for seed in range(40):
        frames = np.zeros((16, 26, 26, 3), np.uint8)
        _draw_lookalike(np.random.default_rng(seed), CONFIG, frames, what)
        shown = frames.any(axis=-1)
        seen = shown.any(axis=(1, 2))
        places = [[np.flatnonzero(side) for side in shown.any(axis=axis)[seen]] for axis in (2, 1)]
        middles = [np.array([(each.min() + each.max()) / 2 for each in along]) for along in places]
        far = [np.ptp(each) > 4.5 for each in middles]  # pixels in four seconds: a drift goes 4
        colors.add(tuple(frames[shown].max(axis=0)))
        expected = {"runs_diagonally": [True, True], "other_thing_runs": None}.get(what, [False, False])
        if expected is None:
            assert sum(far) == 1, "as a class does, but it is another thing"
        else:
            assert far == expected
    assert len(colors) > 4


def test_other_things_that_run_are_no_sprite_of_a_class() -> None:
    def cut_out(frame: np.ndarray) -> bytes:
        rows, columns = (np.flatnonzero(frame.any(axis=-1).any(axis=axis)) for axis in (1, 0))
        return frame[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].tobytes()

    frames, zero, classes = np.zeros((1, 26, 26, 3), np.uint8), np.zeros(1, int), set()
    for sprite in range(len(SPRITES)):
        for size in range(MIN_SIZE, MAX_SIZE + 1):
            frames[:] = 0
            draw_sized_sprite(frames, sprite, zero, zero, np.array([size]), MAX_SIZE)
            classes.add(cut_out(frames[0]))
    for seed in range(60):
        frames[:] = 0
        _draw_lookalike(np.random.default_rng(seed), CONFIG, frames, "other_thing_runs")
        assert cut_out(frames[0]) not in classes
    frames[:] = 0
    _draw_lookalike(np.random.default_rng(0), CONFIG, frames, "drifts")
    assert cut_out(frames[0]) in classes, "a class's sprite, that only drifts"


def test_partners_follow_from_the_seed_and_small_worlds_have_them() -> None:
    assert partners(WorldConfig("e", seed=1)) != partners(WorldConfig("e", seed=3))
    assert partners(WorldConfig("e", num_sprites=1)) == [1, 0]
