"""What is said about classes: found, not found, or too rare to judge."""

from __future__ import annotations

import pytest

from adaptfocus.infra.running.found import Findings, count_found, findings
from adaptfocus.trainers.settings.recipes import recipe
from adaptfocus.trainers.settings.run import TrainConfig

PLACES = {"name": "first", "runs": "runs", "index": "index"}


def evidence(z: float | None, z_at_most: float = 12.0, new: int = 10) -> dict:
    """Of 40 pairs with a tenth of their visited bins new: 4 by chance, variance 3.6."""
    above = None if z is None else 0.5 + 0.5 * z / z_at_most
    return {
        "bags": 40, "above_untagged": above, "z": z, "z_at_most": None if z is None else z_at_most, "salient": 40,
        "salient_new": new, "salient_new_by_chance": 4.0, "salient_new_variance": 3.6,
    }  # fmt: skip


def config_of(name: str = "ours", **changed: object) -> TrainConfig:
    return TrainConfig.model_validate(recipe(name) | PLACES | changed)


def told(classes: dict[str, dict], name: str = "ours", epoch: int = 5) -> Findings:
    found = findings({"epoch": epoch, "evidence": classes}, config_of(name))
    assert found is not None
    return found


def test_what_is_found_and_what_is_not() -> None:
    """Two classes: .05 / 2 is z = 1.960. A class that is not ranked, or reaches 1.9 at best, does not raise that."""
    classes = {"wave": evidence(1.97), "tick": evidence(1.95), "rare": evidence(1.9, 1.9), "all": evidence(None)}
    found = told(classes)
    assert (found.found, found.not_found, found.too_few) == (["wave"], ["tick"], ["rare", "all"])
    assert found.short == "1 of 2 classes found"
    assert found.sentence == (
        "Focusing has found 1 of 2 classes after epoch 6; not found: tick (spikes stand out no more than in "
        "videos without the tag)."
    )
    assert found.classes[0].needed == pytest.approx(0.5 + 0.5 * 1.95996 / 12, abs=1e-4)


def test_who_has_found_them_and_whether_that_is_early() -> None:
    """Two epochs of warm-up, then three with focusing before anything is judged."""
    early = told({"tick": evidence(0.1)}, epoch=0).sentence
    assert early.startswith("The warm-up has found 0 of 1 classes after epoch 1")
    assert early.endswith("It is too early to judge: focusing begins after epoch 2.")
    assert told({"tick": evidence(0.1)}, epoch=3).sentence.endswith("It is too early to judge: it takes 3 epochs.")
    assert "too early" not in told({"tick": evidence(0.1)}, epoch=4).sentence
    assert "too early" not in told({"wave": evidence(5.0)}, epoch=0).sentence
    assert told({"tick": evidence(0.1)}, "noisy").sentence.startswith("Training has found 0 of 1")
    few = told({"rare": evidence(0.5, 1.0)})
    assert few.sentence == "After epoch 6 it cannot be told whether classes are found."


def test_many_weak_classes_together_are_evidence() -> None:
    """Four classes of z = 1: (1 + 1 + 1 + 1) / sqrt(4) = 2, where each could be chance. Perfect: 4 x 12 / 2."""
    classes = {name: evidence(1.0) for name in "abcd"}
    found = told(classes | {"unranked": evidence(None)})
    assert found.together([*classes, "unranked"]) == pytest.approx((2.0, 24.0))
    assert found.together(["a"]) == pytest.approx((1.0, 12.0))
    assert found.together(["unranked"]) is None


def test_a_summary_of_an_earlier_version_says_nothing() -> None:
    assert count_found({"epoch": 3}) is None
    assert count_found({"epoch": 3, "evidence": {"a": evidence(None)}}) is None
