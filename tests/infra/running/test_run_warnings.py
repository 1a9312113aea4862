"""Warnings of a run: locked onto chance, at chance, not found yet, too few videos; each with what to change."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from adaptfocus.infra.running.advice import patience
from adaptfocus.infra.running.run_warnings import RunWarning, lines_of, warnings_of
from tests.infra.running.test_found import config_of, evidence

# 40 of 100 videos have each class: pi = .4. A moment that is chosen in them with weight 3 gets 1.2 / 1.8 = .67.
SURE, UNSURE = 0.6, 0.45


def summary(epoch: int, zs: Mapping[str, dict | float], spike: float = SURE, **more: object) -> dict:
    classes = {name: z if isinstance(z, dict) else evidence(z) for name, z in zs.items()}
    return {"epoch": epoch, "bags_trained": 100, "mean_spike_actionness": spike, "evidence": classes} | more


def warned(of: list[dict | float], name: str = "ours", epoch: int = 6, **more: object) -> list[RunWarning]:
    """The warnings of a run whose classes a, b, c, ... have had this evidence in each of its epochs."""
    config = config_of(name, **{key: more.pop(key) for key in ("epochs", "focus", "optim") if key in more})
    zs = dict(zip("abcdefgh", of, strict=False))
    return warnings_of([summary(n, zs, **more) for n in range(epoch)], config)  # type: ignore[arg-type]


def test_a_lock_is_named_after_three_epochs_of_focusing_with_what_frees_from_it() -> None:
    """Nothing stands out, and the model is sure. `ours` focuses from its third epoch on."""
    lost: list[dict | float] = [0.5, -0.4, 0.3, 0.0]
    assert warned(lost, epoch=4) == []
    (lock,) = warned(lost, epoch=5, hit_rate=0.171)
    assert lock.kind == "locked_onto_chance"
    assert lock.says.startswith("Focusing has locked onto chance")
    reasons = " ".join(lock.reasons)
    assert "All 4 classes together stand out no more than by chance (z = 0.2 over epochs 3 to 5; 1.6" in reasons
    assert "sure of its moments: mean spike 0.60, where any moment has 0.40 by the tags" in reasons
    assert "a 52 % (needs 59 %), b 48 % (needs 59 %)" in reasons, "2.24 for four classes, of 12 at most"
    assert "17 % of all salient times are right" in reasons
    assert "25 % were last visited in epoch 5; of all visited moments, 10 % were" in reasons
    assert lock.changes[0].startswith("Free focusing from its trap: focus.negative_focus=0.7 focus.rivalry=1")
    said = " ".join(lock.changes)
    for change in (
        "input.motion=auto", "adaptfocus pretrain ", "--backbone small3d", "More epochs (now 30)",
        "backbone=r2plus1d_tiny", "focus.regime=noisy", "focus.regime=full (this index has intervals)",
    ):  # fmt: skip
        assert change in said
    assert lines_of(lock)[0] == f"warning: {lock.says}"
    assert lines_of(lock)[-1] == "    More videos of these classes, by more people."


def test_nothing_learnt_is_told_apart_from_a_lock() -> None:
    """Spikes are where the tags alone put them: focusing has not chosen anything."""
    (slow,) = warned([0.5, -0.4, 0.3, 0.0], "focused", spike=UNSURE)
    assert (slow.kind, slow.says) == ("at_chance", "Nothing shows yet that focusing has found any class.")
    assert any("showed no more for 30 epochs" in reason for reason in slow.reasons)
    assert not any("trap" in change for change in slow.changes), "the recipe has what frees from it"
    (late,) = warned([0.5, -0.4], "focused", spike=UNSURE, epoch=45)
    assert not any("for 30 epochs" in reason for reason in late.reasons)


def test_classes_that_are_weak_but_learnt_are_told_from_those_at_chance() -> None:
    """a is found. Three of z = 1.5 make 2.6 together, which chance hardly gives; three of z = .1 do not."""
    (learnt,) = warned([9.0, 1.5, 1.5, 1.5])
    assert (learnt.kind, learnt.says) == ("not_found", "3 of 4 classes are not found.")
    assert "Together these stand out against chance (z = 2.6 over epochs 4 to 6" in learnt.reasons[0]
    assert [change[:11] for change in learnt.changes] == ["More epochs", "More videos"], "nothing is wrong with it"
    (partly,) = warned([9.0, 0.1, 0.1, 0.1])
    assert (partly.kind, partly.says) == ("at_chance", "Nothing shows that focusing has found 3 of 4 classes.")
    assert "Together these stand out no more than by chance (z = 0.2" in partly.reasons[0]
    assert warned([9.0, 5.0]) == []


def test_one_lucky_epoch_does_not_hide_a_lock() -> None:
    """Evidence of three epochs is averaged: 0, 0 and 3.4 of four classes make z = 1.1."""
    epochs = [dict.fromkeys("abcd", z) for z in (0.0, 0.0, 0.0, 0.0, 0.0, 1.7)]
    (lock,) = warnings_of([summary(n, each) for n, each in enumerate(epochs)], config_of())
    assert lock.kind == "locked_onto_chance"
    assert "z = 1.1" in lock.reasons[0]


def test_a_rising_number_of_classes_is_said() -> None:
    epochs = [{"a": 9.0, "b": b, "c": 0.0} for b in (0.0, 0.0, 0.0, 0.0, 0.0, 9.0)]
    (rising,) = warnings_of([summary(n, each) for n, each in enumerate(epochs)], config_of())
    assert "Classes found in the last 3 epochs: 1, 1, 2. The number rises: wait." in rising.reasons


@pytest.mark.parametrize(
    ("of", "new"),
    [(evidence(0.1, new=7), "by chance: (7 - 4) / sqrt(3.6) is 1.58"), (evidence(5.0), "it is found")],
)
def test_recency_is_said_only_beyond_chance_and_of_what_is_not_found(of: dict, new: str) -> None:
    said = [reason for each in warned([of]) for reason in each.reasons]
    assert not any("newest visits" in reason for reason in said), new
    again = [reason for each in warned([evidence(0.1)], "focused") for reason in each.reasons]
    assert not any("newest visits" in reason for reason in again), "clips are drawn around salient times on purpose"


def test_too_few_videos_and_too_few_positives_are_said_of_any_run() -> None:
    """A class that no ranking could show, and one whose perfect ranking shows only just: nothing is called a lock."""
    few, rare = warned([evidence(0.1, 2.1), evidence(0.5, 1.0)], share_unmasked=0.9)
    assert (few.kind, rare.kind) == ("not_found", "too_few_videos")
    assert "even a good ranking of them would hardly show" in few.reasons[0]
    assert few.changes[0].startswith("More videos of these classes")
    assert rare.says == "Too few videos with the tag, or without it, to tell: b."
    masked, _ = warned([9.0, evidence(0.5, 1.0)], share_unmasked=0.01)
    assert (masked.kind, masked.changes[0][:38]) == ("few_positives", "A larger focus.delta (now 0.15), or mo")


def test_a_run_without_focusing_is_not_called_locked() -> None:
    (noisy,) = warned([0.5, -0.4, 0.3, 0.0], "noisy", epoch=3)
    assert noisy.kind == "not_found"
    assert not any("focus.negative_focus" in change or "regime=noisy" in change for change in noisy.changes)
    assert warned([0.5], "pretrain_order") == []
    assert warnings_of([], config_of()) == []
    assert warnings_of([{"epoch": 7}], config_of()) == [], "of an earlier version, without evidence"


def test_advice_on_epochs_that_are_stretches_counts_passes() -> None:
    """80 stretches may be less than one pass."""
    (more, _) = patience(config_of(epochs=80, plan={"bags_per_epoch": 16}))
    assert "(now 80 of 16 bags)" in more
    assert "after 20 passes over the corpus" in more
    assert len(patience(config_of(epochs=80))) == 1
