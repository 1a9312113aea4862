"""Broken videos and tars: each ends as usable or with a kind that is known, and the process that reads them stays."""

from __future__ import annotations

import pytest

from benchmarks.fuzz import fuzzed
from benchmarks.fuzz_base import bases, footage_folder
from benchmarks.fuzz_inputs import KINDS, made

SEED = 7


def test_inputs_are_functions_of_seed_and_number() -> None:
    every = bases(None, 0)
    for number in range(len(KINDS)):
        assert made(number, SEED, every) == made(number, SEED, every)
    assert made(0, SEED, every).data != made(0, SEED + 1, every).data


@pytest.mark.slow
def test_broken_inputs_are_classified() -> None:
    """Real footage where it is, small files of our own where it is not; `benchmarks/fuzz.py` is the long form."""
    found = fuzzed(bases(footage_folder(), 300_000), range(300), SEED)
    assert found.inputs == 300
    assert (found.crashes, found.hangs, found.unclassified) == ([], [], {})
    assert found.peak_mb < 600, "in the process that reads and plans"
    usable = sum(number for (_, what), number in found.outcomes.items() if what == "ok")
    assert 30 < usable < 270, "inputs that all fail at once, or not at all, look at nothing"
