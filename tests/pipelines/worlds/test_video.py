"""The worlds are the ground truth of every benchmark: if they drift, no two results can be compared."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from pathlib import Path

import av
import numpy as np
import pytest

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.worlds.config import WorldConfig, world_of
from adaptfocus.pipelines.worlds.encode import GOP_FRAMES, write_world
from adaptfocus.pipelines.worlds.labels import scene_preferences
from adaptfocus.pipelines.worlds.render import SPRITE_PIXELS, SPRITES, bounce, draw_action, draw_distractor
from adaptfocus.pipelines.worlds.video import make_video

SMALL = WorldConfig(num_train_videos=3, num_test_videos=2, min_seconds=8, max_seconds=12)


def test_a_video_is_pinned_to_the_pixel():
    """A change of these numbers makes every published figure of the worlds incomparable; say so in the changelog."""
    video = make_video(WorldConfig(seed=7), "train", 3)
    assert video.video_id == "a-train-00003"
    assert video.intervals == (
        ("red_square_horizontal", 32.25, 49.0),
        ("blue_cross_horizontal", 30.25, 42.5),
        ("magenta_triangle_vertical", 12.0, 25.25),
    )
    assert video.frames.shape == (381, 20, 20, 3)
    assert hashlib.sha256(video.frames.tobytes()).hexdigest()[:16] == "ccae8d9b95393df3"


@pytest.mark.parametrize(
    ("config", "first_interval", "sha256"),
    [
        (WorldConfig(seed=7), ("red_square_vertical", 45.25, 57.0), "4c48ede5bcb39836"),
        (WorldConfig("b", seed=7), ("green_disc_vertical", 22.0, 37.75), "df1f4c1a58dd2d97"),
        (world_of("demo"), ("green_disc_vertical", 6.0, 13.75), "af6e669dc674a5b5"),
        (world_of("c", seed=7), ("blue_ring", 87.25, 100.5), "8a619c0fa41528aa"),
        (world_of("pretrain", seed=7), ("green_disc", 0.0, 2.75), "213a8bb825d44ea8"),
        (world_of("d", seed=7), ("red_square_horizontal", 7.0, 17.5), "f891fa73aa51430f"),
        (world_of("e", seed=7), ("red_square_vertical", 8.0, 18.75), "d83a04a525979f05"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_every_kind_is_pinned(config, first_interval, sha256):
    """A new kind, or a new option of one, leaves the others as they are. The warning above holds here too."""
    video = make_video(config, "test", 5)
    assert video.intervals[0] == first_interval
    assert hashlib.sha256(video.frames.tobytes()).hexdigest()[:16] == sha256


def test_frames_depend_on_seed_split_and_index_and_on_nothing_else():
    first = make_video(SMALL, "train", 1)
    again = make_video(WorldConfig(num_train_videos=99, min_seconds=8, max_seconds=12), "train", 1)
    assert np.array_equal(first.frames, again.frames)
    for other in (
        make_video(SMALL, "test", 1),
        make_video(SMALL, "train", 2),
        make_video(WorldConfig(min_seconds=8, max_seconds=12, seed=1), "train", 1),
    ):
        assert first.frames.shape != other.frames.shape or not np.array_equal(first.frames, other.frames)


@pytest.mark.parametrize(
    ("kind", "labels_mean", "coverage_mean", "coverage_range"),
    [
        ("a", 3.5, 0.16, (0.10, 0.25)),
        ("b", 5.1, 0.34, (0.20, 0.48)),
        ("c", 3.5, 0.16, (0.10, 0.25)),
        ("demo", 2.33, 0.27, (0.18, 0.36)),
    ],
)
def test_labels_and_coverage_are_those_of_the_method(kind, labels_mean, coverage_mean, coverage_range):
    config = WorldConfig(kind=kind)
    counts, coverages = [], []
    for index in range(150):
        video = make_video(config, "train", index)
        covered = defaultdict(float)
        for label, start, end in video.intervals:
            assert 0 <= start < end <= len(video.frames) / config.fps
            covered[label] += end - start
        assert set(covered) == set(video.labels), "every label takes place, and nothing else does"
        counts.append(len(video.labels))
        coverages += [seconds * config.fps / len(video.frames) for seconds in covered.values()]
    assert np.mean(counts) == pytest.approx(labels_mean, abs=0.25)
    assert np.mean(coverages) == pytest.approx(coverage_mean, abs=0.01)
    assert coverage_range[0] - 0.005 < min(coverages) < max(coverages) < coverage_range[1] + 0.005


def test_half_of_the_labels_come_from_the_scene():
    """Without this, backgrounds do not mislead and Noisy looks better than it is on real data."""
    config = WorldConfig(num_sprites=6)
    preferences = scene_preferences(config)
    assert preferences.shape == (6, 3)
    assert set(preferences.ravel().tolist()) == set(range(12)), "every class is preferred somewhere"
    counts = np.zeros((6, 12))
    for index in range(300):
        rng = np.random.default_rng([config.seed, 0, 0, index])  # the first draws of make_video
        rng.random()
        scene = int(rng.integers(6))
        for label in make_video(config, "train", index).labels:
            counts[scene, config.classes.index(label)] += 1
    share = sum(counts[s, preferences[s]].sum() for s in range(6)) / counts.sum()
    assert 0.5 < share < 0.7, "half by preference, and some of the others by chance"


def test_one_frame_never_tells_the_action():
    """The same sprite at the same place looks the same whatever it does."""
    clips = np.zeros((4, 8, 20, 20, 3), dtype=np.uint8)
    draw_action(clips[0], sprite=2, horizontal=True, place=(4, 7), speed=8)
    draw_action(clips[1], sprite=2, horizontal=False, place=(7, 4), speed=8)
    draw_distractor(clips[2], sprite=2, place=(7, 4), drift=(1, 0), blink_frames=0)
    draw_distractor(clips[3], sprite=2, place=(7, 4), drift=(0, 0), blink_frames=2)
    assert all(np.array_equal(clip[0], clips[0][0]) for clip in clips)
    assert all(not np.array_equal(clip, clips[0]) for clip in clips[1:])


def test_sprites_never_leave_the_picture_and_cover_all_of_it():
    places = bounce(start=9, speed=-7, steps=500, span=20 - SPRITE_PIXELS)
    assert places.min() == 0
    assert places.max() == 20 - SPRITE_PIXELS
    assert np.abs(np.diff(places)).max() <= 2


def test_the_files_are_real_h264_and_show_what_was_rendered(tmp_path):
    seen = []
    manifest = write_world(SMALL, tmp_path / "one", processes=1, progress=lambda *at: seen.append(at))
    assert seen == [(n, 5) for n in range(1, 6)]
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert [row["split"] for row in rows] == ["train"] * 3 + ["test"] * 2
    assert (manifest.parent / "classes.txt").read_text().split() == list(SMALL.classes)
    for row, index in zip(rows, (0, 1, 2, 0, 1), strict=True):
        video = make_video(SMALL, row["split"], index)
        assert row["labels"] == list(video.labels)
        assert [tuple(i.values()) for i in row["intervals"]] == list(video.intervals)
        with av.open(str(manifest.parent / row["path"])) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 80, 80)
            shown = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
        with av.open(str(manifest.parent / row["path"])) as container:
            keys = [p.pts * p.time_base * SMALL.fps for p in container.demux(video=0) if p.is_keyframe and p.size]
        small = shown.reshape(len(shown), 20, 4, 20, 4, 3).mean(axis=(2, 4))
        assert np.abs(small - video.frames).mean() < 4
        assert keys == list(range(0, len(shown), GOP_FRAMES))


def decoded(path: Path) -> np.ndarray:
    """uint8 [T, H, W, 3]"""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_the_files_do_not_depend_on_the_number_of_processes(tmp_path):
    config = WorldConfig(num_train_videos=2, num_test_videos=1, min_seconds=4, max_seconds=6)
    one, two = (write_world(config, tmp_path / str(n), processes=n) for n in (1, 2))
    assert one.read_bytes() == two.read_bytes()
    for path in sorted((one.parent / "videos").iterdir()):
        shown = [decoded(folder.parent / "videos" / path.name).astype(float) for folder in (one, two)]
        assert np.abs(shown[0] - shown[1]).mean() < 0.05, "x264 itself is not the same in each run (`encode_h264`)"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "z"}, r"'z' is not known; choose one of a, b, demo, c, pretrain, d, e"),
        ({"num_sprites": 7}, r"num_sprites is 7; choose 1 to 6"),
        ({"min_seconds": 9, "max_seconds": 8}, r"max_seconds 8"),
        ({"pixels": 9}, r"at least 10 pixels"),
        ({"fps": 0}, r"fps 0"),
        ({"kind": "pretrain", "min_seconds": 1, "distractors": 0}, r"at least 2 seconds"),
        ({"kind": "pretrain", "long_tail": True, "distractors": 0}, r"neither a long tail nor distractors"),
        ({"kind": "pretrain", "distractors": 1}, r"neither a long tail nor distractors"),
    ],
)
def test_an_impossible_world_is_refused_with_the_fix(settings, message):
    with pytest.raises(ConfigError, match=message):
        WorldConfig(**settings)


def test_fewer_sprites_make_fewer_classes():
    config = WorldConfig(num_sprites=3)
    assert len(config.classes) == 6
    assert all(name.rsplit("_", 1)[0] in SPRITES[:3] for name in config.classes)
    labels = {label for index in range(20) for label in make_video(config, "test", index).labels}
    assert labels == set(config.classes)


def test_an_unknown_split_is_refused():
    with pytest.raises(ConfigError, match="'val' is not known; choose one of train, test"):
        make_video(SMALL, "val", 0)
