"""Numbers of a clip: the same wherever and whenever they are drawn, and as good as random."""

from __future__ import annotations

import pytest
import torch

from adaptfocus.pipelines.schemas import clip_id
from adaptfocus.trainers.device.draws import AUGMENT, DROP_PATH, DROPOUT, uniforms

IDS = torch.tensor([clip_id(epoch, slot, draw) for epoch in range(4) for slot in range(250) for draw in range(4)])


def test_the_numbers_are_these() -> None:
    """These are pinned: if they changed, a run that is resumed on a newer version would see other clips than before.

    They were computed with Python's integers, step by step as the module says.
    """
    found = uniforms(torch.tensor([0, 1, clip_id(3, 17, 2)]), 7, AUGMENT, 2)
    wanted = [[by_hand(each, 7, AUGMENT, place) for place in range(2)] for each in (0, 1, clip_id(3, 17, 2))]
    assert found.tolist() == wanted
    assert found[0, 0] == 0.5240117311477661


def by_hand(clip: int, seed: int, kind: int, place: int) -> float:
    def mixed(x: int) -> int:
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
            x = (x ^ (x >> shift)) * factor % 2**64
        return x

    key = mixed((seed * 0x9E3779B97F4A7C15 + kind) % 2**64)
    return (mixed((clip * 0x9E3779B97F4A7C15 + place * 0xD1342543DE82EF95 + key) % 2**64) >> 40) / 2**24


def test_a_clip_draws_the_same_in_any_company() -> None:
    whole = uniforms(IDS, 3, AUGMENT, 9)
    order = torch.randperm(len(IDS), generator=torch.Generator().manual_seed(0))
    assert torch.equal(uniforms(IDS[order], 3, AUGMENT, 9), whole[order])
    assert torch.equal(uniforms(IDS[5:6], 3, AUGMENT, 9), whole[5:6])
    assert torch.equal(uniforms(IDS, 3, AUGMENT, 4), whole[:, :4]), "more numbers do not change the first ones"


@pytest.mark.parametrize(("seed", "kind"), [(4, AUGMENT), (3, DROPOUT), (3, DROP_PATH), (2**32 - 1, AUGMENT)])
def test_another_seed_or_kind_has_nothing_to_do_with_it(seed: int, kind: int) -> None:
    one, other = uniforms(IDS, 3, AUGMENT, 4), uniforms(IDS, seed, kind, 4)
    together = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]
    assert abs(together) < 0.05  # 16,000 pairs: a standard deviation is 0.008


def test_numbers_are_uniform_and_apart_from_each_other() -> None:
    drawn = uniforms(IDS, 0, DROPOUT, 8)
    assert 0 <= drawn.min() < 0.001
    assert 0.999 < drawn.max() < 1
    counts = torch.histc(drawn, 16, 0, 1)
    expected = drawn.numel() / 16
    assert ((counts - expected).square() / expected).sum() < 45  # chi-squared, 15 degrees: 1 in 10,000 is above 44
    columns = torch.corrcoef(drawn.T) - torch.eye(8)
    assert columns.abs().max() < 0.07, "the numbers of a clip"
    rows = torch.corrcoef(torch.stack([drawn[:-1].flatten(), drawn[1:].flatten()]))[0, 1]
    assert abs(rows) < 0.03, "the clips of a bag, whose ids are neighbours"
