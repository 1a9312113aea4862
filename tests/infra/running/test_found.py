"""What is said about classes: found, at chance, locked onto the newest looks, or too rare to judge."""

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


def told(classes: dict[str, dict], name: str = "ours", epoch: int = 5, **changed: object) -> Findings:
    config = TrainConfig.model_validate(recipe(name) | PLACES | changed)
    found = findings({"epoch": epoch, "evidence": classes}, config)
    assert found is not None
    return found


def test_what_is_found_what_is_not_and_what_to_change() -> None:
    """Two classes: .05 / 2 is z = 1.960. A class that is not ranked, or reaches 1.9 at best, does not raise that."""
    classes = {"wave": evidence(1.97), "tick": evidence(1.95), "rare": evidence(1.9, 1.9), "all": evidence(None)}
    found = told(classes)
    assert (found.found, found.not_found, found.too_few) == (["wave"], ["tick"], ["rare", "all"])
    assert found.short == "1 of 2 classes found"
    assert found.sentence == (
        "Focusing has found 1 of 2 classes after epoch 6; not found: tick (spikes stand out no more than in "
        "videos without the tag)."
    )
    assert "Too few videos with the tag, or without it, to tell: rare, all." in found.notes
    said = " ".join(found.advice)
    for change in ("focus.negative_focus=0.7", "weights=URL", "More epochs (now 30)", "focus.regime=noisy"):
        assert change in said
    on_features = told(classes, features="features").advice
    assert "weights=" not in " ".join(on_features), "a setting that such a run refuses"
    assert found.classes[0].needed == pytest.approx(0.5 + 0.5 * 1.95996 / 12, abs=1e-4)


def test_a_lock_by_recency_is_named_where_nothing_looks_again_on_purpose() -> None:
    """10 of 40 new against 4: (10 - 4) / sqrt(3.6) = 3.2. With resampling, salient times are looked at again."""
    note = "25 % were last visited in epoch 6; of all visited moments, 10 % were"
    lost = {"tick": evidence(0.1)}
    assert any(note in said for said in told(lost).notes)
    assert not any(note in said for said in told({"tick": evidence(0.1, new=7)}).notes), "7: z = 1.58, by chance"
    assert not any(note in said for said in told({"tick": evidence(5.0)}).notes), "it is found"
    assert not any(note in said for said in told(lost, "focused").notes)


def test_nothing_is_advised_of_a_run_that_is_well_or_has_just_begun() -> None:
    well = told({"wave": evidence(5.0)})
    assert (well.notes, well.advice) == ([], [])
    early = told({"tick": evidence(0.1)}, epoch=0)
    assert early.sentence.startswith("The warm-up has found 0 of 1 classes after epoch 1")
    assert early.advice == []
    assert "too early to judge: focusing begins after epoch 2" in early.notes[-1]
    noisy = told({"tick": evidence(0.1)}, "noisy")
    assert noisy.sentence.startswith("Training has found 0 of 1")
    assert not any("focus." in said for said in noisy.advice)
    few = told({"rare": evidence(0.5, 1.0)})
    assert few.sentence == "After epoch 6 it cannot be told whether classes are found."


def test_a_summary_of_an_earlier_version_says_nothing() -> None:
    assert count_found({"epoch": 3}) is None
    assert count_found({"epoch": 3, "evidence": {"a": evidence(None)}}) is None
