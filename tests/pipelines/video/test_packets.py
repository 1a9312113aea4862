"""The packets of an index come back exactly and are small, and a damaged blob is an error."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.video.packets import Packets, decode_packets, encode_packets

FAR = st.integers(-(1 << 62), 1 << 62)


def same(one: Packets, other: Packets) -> bool:
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(Packets)
    )


@given(st.lists(st.tuples(st.integers(-1, 1 << 50), st.integers(0, 1 << 31), FAR, FAR, st.booleans()), max_size=50))
def test_whatever_a_container_holds_comes_back(rows: list[tuple[int, int, int, int, bool]]) -> None:
    """Offsets that go backwards or are unknown, times at the ends of what fits, no packets at all."""
    columns = [np.array(column, np.int64) for column in zip(*rows, strict=True)] or [np.zeros(0, np.int64)] * 5
    packets = Packets(*columns[:4], columns[4].astype(bool))
    assert same(decode_packets(encode_packets(packets)), packets)


def hour_of_video(random: np.random.Generator) -> Packets:
    """30 Hz, a keyframe every 250 frames, three B-frames between references, sizes that vary by a factor of several."""
    count = 30 * 3600
    at = np.arange(count)
    size = random.gamma(2.0, np.where(at % 250 == 0, 12_000, np.where(at % 4 == 0, 3000, 700)), count).astype(np.int64)
    dts = 512 * at
    composition = np.where(at % 4 == 0, 2048, 512 * (at % 4))
    return Packets(np.cumsum(size) - size + 48, size, dts + composition, dts, at % 250 == 0)


def test_an_hour_of_video_takes_less_than_350_kilobytes() -> None:
    packets = hour_of_video(np.random.default_rng(0))
    blob = encode_packets(packets)
    assert len(blob) < 350_000
    assert same(decode_packets(blob), packets)


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:5], lambda b: b[:-9], lambda b: b[:20] + b"\0" * 40 + b[60:], lambda b: b"\x07" + b[1:]]
)
def test_a_damaged_blob_is_an_error_that_names_the_fix(spoil) -> None:
    packets = hour_of_video(np.random.default_rng(0))
    blob = encode_packets(Packets(*(getattr(packets, f.name)[:500] for f in dataclasses.fields(Packets))))
    with pytest.raises(InputError, match="index again"):
        decode_packets(spoil(blob))
