"""The numbers of many generators at once are numpy's own, and the hashes of many names those of an order."""

import hashlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adaptfocus.pipelines.plan import philox
from adaptfocus.pipelines.plan.order import hashes

LITERALS = [
    [0.011546754286331562, 0.24154919656271812, 0.11142585551493822, 0.5644146216071337, 0.5023796042735054],
    [0.23494158814525556, 0.7173107484541781, 0.41117733204481477, 0.7161435204444477, 0.3501621337115973],
]  # np.random.Generator(np.random.Philox(key=key)).random(5) of the keys 0 and 2**64 - 1
HASH = 14740492028760674174
KEYS = st.lists(st.integers(0, 2**64 - 1), max_size=12)


@given(KEYS, st.integers(0, 23))
@example([0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1], 13)
def test_each_keys_numbers_are_those_of_its_own_generator(keys: list[int], count: int):
    expected = [np.random.Generator(np.random.Philox(key=key)).random(count) for key in keys]
    found = philox.uniforms(np.array(keys, np.uint64), count)
    assert found.shape == (len(keys), count)
    assert found.dtype == np.float64
    assert found.tobytes() == np.array(expected, np.float64).tobytes()


def test_numbers_do_not_move_with_a_version_of_numpy():
    """Plans were written with these."""
    found = philox.uniforms(np.array([0, 2**64 - 1], np.uint64), 5)
    assert found.tolist() == LITERALS


def test_keys_in_several_pieces_are_the_keys_in_one(monkeypatch: pytest.MonkeyPatch):
    keys = np.arange(10, dtype=np.uint64)
    whole = philox.uniforms(keys, 7)
    monkeypatch.setattr(philox, "KEYS_AT_ONCE", 3)
    assert (philox.uniforms(keys, 7) == whole).all()


@given(st.lists(st.text(), max_size=5))
def test_a_hash_is_blake2b_of_the_whole_text(names: list[str]):
    texts = [f"7/0/order/{name}".encode() for name in names]
    expected = [int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") for text in texts]
    found = hashes("7/0/order", names)
    assert found.dtype == np.uint64
    assert found.tolist() == expected
    assert hashes("7/0/order", ["video-a"]).tolist() == [HASH]
