"""World e is the one that is not at the ceiling: each thing that makes it hard is there, and the truth stays known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from pipelines.world import WorldVideo, make_video
from pipelines.world_config import WorldConfig, world_of
from pipelines.world_filmed import LOOKALIKES, MAX_SIZE, MIN_SIZE, _draw_lookalike, partners
from pipelines.world_render import SPRITES, draw_sized_sprite, draw_sprite

CONFIG = world_of("e", seed=2)


@pytest.fixture(scope="module")
def videos() -> list[WorldVideo]:
    return [make_video(CONFIG, "train", index) for index in range(60)]


def test_an_action_covers_three_to_thirty_per_cent(videos: list[WorldVideo]) -> None:
    shares = []
    for video in videos:
        seconds = len(video.frames) / CONFIG.fps
        assert all(0 <= start < end <= seconds for _, start, end in video.intervals)
        covered = Counter()
        for label, start, end in video.intervals:
            covered[label] += end - start
        assert set(covered) == set(video.labels)
        shares += [each / seconds for each in covered.values()]
    assert 0.03 - 0.003 <= min(shares) < 0.05, "rounded to whole frames"
    assert 0.25 < max(shares) <= 0.30 + 0.003


def test_classes_come_in_pairs_that_often_share_a_moment(videos: list[WorldVideo]) -> None:
    """Tags cannot tell such classes apart where they always come together; half of the time they do not."""
    mates = partners(CONFIG)
    assert [mates[mate] for mate in mates] == list(range(12)), "each is its partner's partner"
    assert all(mate // 2 != k // 2 for k, mate in enumerate(mates)), "of another sprite"
    names = CONFIG.classes
    with_mate = without = beside = 0
    chance = []
    for video in videos:
        for label in video.labels:
            mate = names[mates[names.index(label)]]
            with_mate += mate in video.labels
            without += mate not in video.labels
            chance.append((len(video.labels) - 1) / 11)
        for k, mate in enumerate(mates):
            if k < mate and {names[k], names[mate]} <= set(video.labels):
                ours, theirs = ([i[1:] for i in video.intervals if i[0] == names[each]] for each in (k, mate))
                beside += any(a < d and c < b for a, b in ours for c, d in theirs)
    assert 0.4 < with_mate / (with_mate + without) < 0.85
    assert with_mate / (with_mate + without) > 2 * np.mean(chance)
    assert 0.4 < beside / (with_mate / 2) < 0.95


def test_camera_and_light_change_where_nothing_happens() -> None:
    """Without actions and distractors a still scene would be one frame, repeated."""
    moved, ratios = [], []
    for index in range(6):
        video = make_video(world_of("e", distractors=0.0), "test", index)
        empty = np.ones(len(video.frames), bool)
        for _, start, end in video.intervals:
            empty[round(start * CONFIG.fps) : round(end * CONFIG.fps)] = False
        # What is bright follows light and camera, its place in the picture the camera only.
        mean = video.frames.mean(axis=(1, 2, 3))
        pattern = video.frames.sum(axis=3) > 3 * mean[:, None, None]
        pairs = empty[1:] & empty[:-1]
        moved.append((pattern[1:] != pattern[:-1]).any(axis=(1, 2))[pairs].mean())
        ratios.append(mean[empty].max() / mean[empty].min())
    assert min(moved) > 0.1
    assert max(moved) < 0.95, "now and then it stands"
    assert np.median(ratios) > 1.4


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
    """Were a class's sprite to run along one axis, it would be an action without its label."""
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
