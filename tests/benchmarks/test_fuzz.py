"""Broken videos, tars and lists: each is usable or refused with a known kind, and the process that reads them survives.

Frames are those of a sequential decode. The comparison itself is tested on wrong frames.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from benchmarks.fuzz import fuzzed
from benchmarks.fuzzing.annotations import MAKERS, read_all
from benchmarks.fuzzing.base import Base, bases, footage_folder
from benchmarks.fuzzing.inputs import KINDS, made, whole_tar
from benchmarks.fuzzing.mp4 import mp4_of, sample_description
from benchmarks.fuzzing.oracle import Given, compared, sequential
from benchmarks.fuzzing.run import _lost
from benchmarks.fuzzing.stream import stream_of

SEED = 7
ROW = {"time_base_numerator": 1, "time_base_denominator": 10_240, "duration_seconds": 3.6}


@cache
def small() -> dict[str, Base]:
    return {base.name: base for base in bases(None, 0)}


def test_inputs_are_functions_of_seed_and_number() -> None:
    every = list(small().values())
    for number in range(len(KINDS)):
        assert made(number, SEED, every) == made(number, SEED, every)
    assert made(0, SEED, every).data != made(0, SEED + 1, every).data


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_annotations_that_are_not_spoilt_are_read(make) -> None:
    assert read_all(make.__name__.lstrip("_"), make(np.random.default_rng(0))) == "ok"


def test_the_comparison_sees_another_frame_and_another_time() -> None:
    data = small()["made.mp4"].data
    shown = sequential(data, None)
    times = sorted(shown.pictures)
    assert len(times) == 36
    assert shown.errors == 0

    def frames_of(pts: list[int], pictures: list[int], seconds: list[float]) -> tuple[dict[str, int], str]:
        given = Given(pts, np.array(seconds), np.array([shown.pictures[each] for each in pictures]))
        counts, wrong = compared(data, ROW, times[0], [given], is_kept=True)
        return dict(counts), wrong

    right = times[3:6]
    assert frames_of(right, right, [0.3, 0.45, 0.5]) == ({"equal": 3}, "")
    counts, wrong = frames_of(right, [times[3], times[4], times[6]], [0.3, 0.4, 0.5])
    assert counts == {"equal": 2, "silent": 1}
    assert f"pts {times[5]} differs" in wrong
    counts, wrong = frames_of(right, right, [0.3, 0.4, 0.7])
    assert counts == {"equal": 2, "silent": 1}
    assert f"pts {times[7]} is on display, not {times[5]}" in wrong
    assert frames_of([times[3] + 1], [times[3]], [0.3])[0] == {"silent": 1}, "no such time"


def test_frames_after_damage_are_not_compared_before_the_next_keyframe() -> None:
    """A GOP has nine frames. After a slice that cannot be decoded, frames depend on how FFmpeg conceals the damage."""
    stream = stream_of(small()["made-plain.mp4"])
    description = sample_description(small()["made-plain.mp4"])
    assert stream
    assert description
    samples = list(stream.samples)
    samples[10] = type(samples[10])(samples[10].data[:5], *list(vars(samples[10]).values())[1:])
    broken = type(stream)(**{**vars(stream), "samples": tuple(samples)})
    shown = sequential(mp4_of(broken, [description], np.random.default_rng(3)), None)
    tainted = [is_tainted for _, is_tainted in shown.pts]
    assert not any(tainted[:9])
    assert not any(tainted[-9:]), "a keyframe begins anew"


@pytest.mark.parametrize("seed", range(12))
def test_the_mp4_that_is_written_says_what_was_meant(seed: int) -> None:
    """FFmpeg reads the frames of the file whose packets these are, whatever the order of the chunks."""
    base = small()["made.mp4"]
    stream, description = stream_of(base), sample_description(base)
    assert stream
    assert description
    data = mp4_of(stream, [description], np.random.default_rng(seed))
    shown, meant = sequential(data, None), sequential(base.data, None)
    assert shown.pts
    known = {picture.tobytes() for picture in meant.pictures.values()}
    same = sum(picture.tobytes() in known for picture in shown.pictures.values())
    assert same >= len(shown.pictures) - 9, "a chunk that is in use twice spoils one GOP at most"


def test_a_video_that_is_neither_a_row_nor_refused_is_lost() -> None:
    tar = whole_tar({"a.mp4": b"1", "b.mp4": b"2", "b.json": b"{}", "._a.mp4": b"3"})
    assert _lost(tar, [{"member_name": "a.mp4"}], [("unreadable_video", "b.mp4")]) == []
    assert _lost(tar, [{"member_name": "a.mp4"}], []) == ["lost: 1 of 2 videos: ['b.mp4']"]
    assert _lost(tar, [{"member_name": "a.mp4"}], [("broken_tar", "")]) == []


@pytest.mark.slow
def test_broken_inputs_are_classified() -> None:
    """This uses real footage where there is any, and else small files of our own; `benchmarks/fuzz.py` is longer."""
    found = fuzzed(bases(footage_folder(), 300_000), range(300), SEED)
    assert found.inputs == 300
    assert (found.crashes, found.hangs, found.unclassified, found.silent, found.lost) == ([], [], {}, {}, {})
    assert found.peak_mb < 600, "in the process that reads and plans"
    usable = sum(number for (_, what), number in found.outcomes.items() if what == "ok")
    assert 30 < usable < 270, "inputs that all fail at once, or not at all, look at nothing"
    assert found.frames["equal"] > 500, "a comparison of nothing finds nothing"
