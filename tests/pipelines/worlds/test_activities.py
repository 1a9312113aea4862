"""World d is annotated with what it shows. Otherwise features would be measured against wrong truth."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from adaptfocus.pipelines.annotations.tasks import BACKGROUND, read_activities, read_grounding, read_segmentation
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.worlds.activities import LEAST_GAP_SECONDS, SHARED_ACTIONS, activities_of
from adaptfocus.pipelines.worlds.config import WorldConfig, world_of
from adaptfocus.pipelines.worlds.encode import write_world
from adaptfocus.pipelines.worlds.render import LOOKS, SPRITE_PIXELS, draw_sprite
from adaptfocus.pipelines.worlds.sentences import meanings_of, sentences_about
from adaptfocus.pipelines.worlds.video import make_video

CONFIG = world_of("d", distractors=0.0)


@pytest.mark.parametrize("num_sprites", [4, 5, 6])
@pytest.mark.parametrize("seed", range(4))
def test_activities_of_one_set_only_differ_in_their_order(seed: int, num_sprites: int) -> None:
    activities = activities_of(world_of("d", seed=seed, num_sprites=num_sprites))
    assert len({a.name for a in activities}) == len({a.steps for a in activities}) == 10
    for forwards, backwards in zip(activities[::2], activities[1::2], strict=True):
        assert forwards.steps == backwards.steps[::-1]
        assert sorted(Counter(forwards.steps).values()) == [1, 1, 1, 2]
    sets = [set(a.steps) for a in activities[::2]]
    assert max(len(a & b) for i, a in enumerate(sets) for b in sets[:i]) <= SHARED_ACTIONS
    uses = Counter(k for each in sets for k in each)
    assert len(uses) == 2 * num_sprites, "every action is part of an activity"


def in_order(steps: list[str], activity: tuple[str, ...]) -> bool:
    left = iter(activity)
    return all(step in left for step in steps)


def test_a_video_shows_its_activity_in_order_one_action_at_a_time() -> None:
    named = {a.name: tuple(CONFIG.classes[k] for k in a.steps) for a in activities_of(CONFIG)}
    reverse = {name: named[name][::-1] for name in named}
    strays = 0
    for index in range(150):
        video = make_video(CONFIG, "train", index)
        assert video.activity is not None
        steps = [label for label, _, _ in video.intervals]
        assert set(steps) == set(video.labels)
        own = [step for step in steps if step in named[video.activity]]
        strays += len(steps) - len(own)
        assert len(own) >= 3
        assert len(steps) - len(own) <= 1
        assert in_order(own, named[video.activity])
        assert not in_order(own, reverse[video.activity]), "the order tells which of the two it is"
        edges = [0.0, *(t for _, start, end in video.intervals for t in (start, end)), len(video.frames) / CONFIG.fps]
        assert all(end - start >= LEAST_GAP_SECONDS for start, end in zip(edges[::2], edges[1::2], strict=True))
        assert all(end > start for start, end in zip(edges[1::2], edges[2::2], strict=False))
    assert 50 < strays < 100


def test_what_is_annotated_is_what_is_rendered() -> None:
    """Without distractors a sprite is only visible in its intervals, and runs along its axis."""
    for index in range(12):
        video = make_video(CONFIG, "test", index)
        seen = np.zeros(len(video.frames), bool)
        for label, start, end in video.intervals:
            sprite, movement = label.rsplit("_", 1)
            box = np.zeros((1, SPRITE_PIXELS, SPRITE_PIXELS, 3), np.uint8)
            draw_sprite(box, LOOKS.index(sprite), np.zeros(1, int), np.zeros(1, int))
            shown = (video.frames == box.reshape(-1, 3).max(axis=0)).all(axis=-1)
            part = slice(round(start * CONFIG.fps), round(end * CONFIG.fps))
            assert shown[part].any(axis=(1, 2)).all()
            _, rows, columns = np.nonzero(shown[part])
            along, across = (columns, rows) if movement == "horizontal" else (rows, columns)
            assert np.ptp(across) < SPRITE_PIXELS <= np.ptp(along)
            seen[part] = True
        still = video.frames[~seen]
        assert (still == still[0]).all(), "nothing but background between"


def test_the_files_of_the_tasks_say_what_the_videos_show(tmp_path) -> None:
    config = world_of("d", num_train_videos=3, num_test_videos=2, min_seconds=20, max_seconds=30)
    folder = write_world(config, tmp_path).parent / "annotations"
    segmented = read_segmentation(str(folder / "segmentation.jsonl"))
    activities = read_activities(str(folder / "activity.jsonl"))
    moments = read_grounding(str(folder / "grounding.jsonl"))
    videos = [
        make_video(config, split, index) for split, count in (("train", 3), ("test", 2)) for index in range(count)
    ]
    assert [(s.video_id, s.split) for s in segmented] == [(v.video_id, v.video_id.split("-")[1]) for v in videos]
    for video, s, a in zip(videos, segmented, activities, strict=True):
        assert a.activities == (video.activity,)
        assert s.duration_seconds == len(video.frames) / config.fps
        actions = [(label, start, end) for start, end, label in s.segments if label != BACKGROUND]
        assert actions == list(video.intervals)
        own = [m for m in moments if m.video_id == video.video_id]
        assert [(m.start_seconds, m.end_seconds) for m in own] == [(start, end) for _, start, end in video.intervals]


def test_a_sentence_means_one_action_and_no_other() -> None:
    actions = ["red_square_horizontal", "blue_cross_vertical", "red_square_horizontal", "green_disc_vertical"]
    assert meanings_of(actions, 0) == ["first", "before", "first_movement"]
    assert meanings_of(actions, 1) == ["alone", "after", "before", "first_movement"]
    assert meanings_of(actions, 2) == ["second", "after", "last_movement"], "both come before the green disc"
    assert meanings_of(["red_square_horizontal"] * 2 + ["green_disc_vertical"], 0) == ["first", "first_movement"]
    assert meanings_of(["red_square_horizontal"] * 2 + ["green_disc_vertical"], 1) == ["second", "last_movement"]


def test_sentences_name_what_happens_and_some_need_order() -> None:
    texts = [text for index in range(60) for _, _, text in make_video(CONFIG, "train", index).sentences]
    with_order = [t for t in texts if {"first", "second", "last", "after", "before"} & set(t.split())]
    assert 0.4 < len(with_order) / len(texts) < 0.9
    assert any(t.startswith("something ") for t in texts)
    rng = np.random.default_rng(0)
    for _ in range(20):
        (text,) = sentences_about(rng, ["green_disc_vertical"])
        assert "green disc" in text
        assert "up" in text or "climbs" in text or "top" in text


def test_too_few_actions_and_long_tails_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"kind 'd' with long_tail False, num_sprites 3: .* num_sprites 4 or more"):
        WorldConfig("d", num_sprites=3)
    with pytest.raises(ConfigError, match="kind 'd' with long_tail True"):
        world_of("d", long_tail=True)
