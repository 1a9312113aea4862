"""Clips for other people's loops: the frames that training sees, any sampler, and errors as values."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.library import Clips, Index, dense, shuffled, uniform, windows
from adaptfocus.pipelines.library.moments import InPieces, Piece, fingerprint_of
from adaptfocus.pipelines.plan.draw import plan_clips
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.settings import DrawRules
from adaptfocus.pipelines.saliency.settings import SaliencyConfig
from adaptfocus.pipelines.stream.clips import ClipShape, read_and_decode
from tests.pipelines.library.conftest import CLIP, DAMAGED


def here(index: Index, sampler: Any, **more: Any) -> Clips:
    """Clips that are decoded in this process."""
    return Clips(index, sampler, CLIP, isolation=None, **more)


def test_frames_and_labels_are_those_of_training(index: Index) -> None:
    loaded = load_index(index.url)
    planner = Planner.of(loaded.table, loaded.classes)
    plan = plan_clips(
        planner, planner.empty_saliency(SaliencyConfig()), seed=0, epoch=0, clip=CLIP, rules=DrawRules(3, 2),
        staleness=1.0,
    ).table  # fmt: skip
    theirs = read_and_decode(plan, ClipShape(3, CLIP.frames, CLIP.size_pixels))
    drawn = plan.to_pylist()
    moments = [(bag["video_id"], clip["center_seconds"]) for bag in drawn for clip in bag["clips"]]
    ours = list(here(index, moments, columns=["codec", "width"]))
    assert len(ours) == 54
    assert np.array_equal(np.stack([each["frames"] for each in ours]), theirs.frames.reshape(-1, 4, 3, 20, 20))
    for number, sample in enumerate(ours):
        bag = drawn[number // 3]
        assert (sample["video_id"], sample["center_seconds"]) == moments[number]
        assert np.flatnonzero(sample["labels"]).tolist() == bag["label_ids"]
        assert (sample["place"], sample["error"], sample["codec"]) == (number, "", "h264")
        assert sample["width"] > 0


def test_a_clip_does_not_depend_on_the_others(index: Index) -> None:
    clips = here(index, uniform(index, CLIP, clips_per_video=2))
    in_order = [each["frames"] for each in clips]
    back = clips.__getitems__([*range(len(clips))][::-1])
    clips.set_epoch(0)
    assert all(np.array_equal(one, two["frames"]) for one, two in zip(in_order, back[::-1], strict=True))
    assert np.array_equal(clips[-1]["frames"], in_order[-1])
    with pytest.raises(IndexError):
        clips[len(clips)]


@pytest.mark.parametrize("isolated", [True, False])
def test_a_bad_clip_is_black_with_a_reason_and_spoils_no_other(damaged: Index, isolated: bool) -> None:
    moments = [(DAMAGED, 1.0), (DAMAGED, 18.0), (DAMAGED, 2.0), ("a-train-00001", 18.0)]
    more: dict[str, Any] = {} if isolated else {"isolation": None}
    found = list(Clips(damaged, moments, CLIP, **more))
    assert [each["error"] == "" for each in found] == [True, False, True, True]
    assert found[1]["error"].split(": ")[0].isidentifier()
    assert not found[1]["frames"].any()
    assert all(found[at]["frames"].std() > 5 for at in (0, 2, 3))


def test_windows_end_with_the_reason(damaged: Index) -> None:
    good = list(windows(damaged["a-train-00001"], CLIP, 5.0))
    assert [each["center_seconds"] for each in good[:3]] == [2.5, 7.5, 12.5]
    assert all(each["error"] == "" and each["frames"].std() > 5 for each in good)
    *before, last = windows(damaged[DAMAGED], CLIP, 5.0)
    assert before
    assert all(each["error"] == "" for each in before)
    assert ": " in last["error"]
    assert not last["frames"].any()
    with pytest.raises(ConfigError, match="a hop of -1"):
        list(windows(damaged[DAMAGED], CLIP, -1))


def test_windows_and_dense_clips_are_the_same_frames(index: Index) -> None:
    sampler = dense(index, 10.0)
    first = index[sampler[0][0]]
    own = [each for each in here(index, sampler[:3]) if each["video_id"] == first.id]
    for one, two in zip(own, windows(first, CLIP, 10.0), strict=True):
        assert one["center_seconds"] == two["center_seconds"]
        assert np.array_equal(one["frames"], two["frames"])


def test_uniform_sees_every_video_equally_and_other_times_in_each_epoch(index: Index) -> None:
    sampler = uniform(index, CLIP, clips_per_video=3, seed=7)
    first, again, other = sampler(0), sampler(0), sampler(1)
    assert list(first) == list(again)
    assert fingerprint_of(first) == fingerprint_of(again) != fingerprint_of(other)
    rows = sorted(row for row, _ in first)
    assert rows == sorted(3 * [video.row["video_row"] for video in index])
    assert [row for row, _ in first] != [row for row, _ in other]
    assert {seconds for _, seconds in first}.isdisjoint(seconds for _, seconds in other)
    half = (CLIP.frames - 1) / 2 / 4
    assert all(half <= seconds <= index[row].duration_seconds - half for row, seconds in first)
    assert list(uniform(index, CLIP, 3, seed=8)(0)) != list(first)


def test_any_iterable_is_a_sampler(index: Index) -> None:
    pairs = [(video.id, 3.0) for video in index]
    as_list, as_iterator = (here(index, each)[5] for each in (pairs, iter(pairs)))
    assert np.array_equal(as_list["frames"], as_iterator["frames"])
    mixed = here(index, shuffled(pairs, seed=1))
    assert sorted(mixed.moments_of(3)) == sorted(pairs) != list(mixed.moments_of(3))
    assert list(mixed.moments_of(4)) != list(mixed.moments_of(3))


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 5), max_size=8), st.randoms(use_true_random=False))
def test_pieces_are_one_sequence(sizes: list[int], random: Any) -> None:
    ends = np.cumsum([0, *sizes])
    whole = [(int(at), at / 2) for at in range(ends[-1])]

    def read(number: int) -> Piece:
        own = np.arange(ends[number], ends[number + 1])
        return Piece(own, own / 2)

    moments = InPieces(sizes, read, "x")
    places = [*range(len(whole))]
    random.shuffle(places)
    assert [moments[at] for at in places] == [whole[at] for at in places]
    assert moments[::2] == whole[::2]
    assert list(moments) == whole


def test_a_transform_changes_each_sample(index: Index) -> None:
    def centre(sample: dict[str, Any]) -> dict[str, Any]:
        return {"pixel_values": sample["frames"].astype(np.float32) / 255, "labels": sample["labels"]}

    clips = here(index, [("a-train-00000", 2.0)], transform=centre)
    assert clips[0].keys() == {"pixel_values", "labels"}
    assert 0 < clips[0]["pixel_values"].max() <= 1


def test_a_position_continues_with_the_clip_after_it(index: Index) -> None:
    clips = here(index, uniform(index, CLIP))
    iterator = iter(clips)
    first = [next(iterator)["place"] for _ in range(7)]
    state = pickle.loads(pickle.dumps(clips.state_dict()))
    iterator.close()  # type: ignore[attr-defined]
    other = here(index, uniform(index, CLIP))
    other.load_state_dict(state)
    assert first + [each["place"] for each in other] == [*range(18)]
    assert (other.epoch, other.state_dict()["clips"]) == (0, 18)
    other.load_state_dict(other.state_dict())
    assert next(iter(other))["place"] == 0
    assert other.epoch == 1, "no clip of epoch 0 was left"


def test_a_position_in_other_clips_is_refused(index: Index) -> None:
    state = here(index, uniform(index, CLIP)).state_dict(delivered=3)
    other = here(index, uniform(index, CLIP, seed=1))
    with pytest.raises(InputError, match="in other clips: the index has changed, or the sampler"):
        other.load_state_dict(state)
    with pytest.raises(InputError, match="this is no position"):
        other.load_state_dict({"epoch": 1})
    with pytest.raises(InputError, match="version 9"):
        other.load_state_dict(state | {"version": 9})
    with pytest.raises(ConfigError, match="99 clips delivered of 18"):
        other.state_dict(delivered=99)


def test_what_cannot_be_is_said_at_once(index: Index) -> None:
    with pytest.raises(ConfigError, match="'fps' is none of the index's; choose from: video_id"):
        here(index, [], columns=["fps"])
    with pytest.raises(ConfigError, match="0 clips of each video"):
        uniform(index, CLIP, clips_per_video=0)
    with pytest.raises(InputError, match="no video with the id 'nobody'"):
        here(index, [("nobody", 1.0)])[0]
