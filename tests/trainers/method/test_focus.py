"""Action focusing and clip focusing, with numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from adaptfocus.pipelines.saliency.bins import Bins
from adaptfocus.pipelines.saliency.settings import SaliencyConfig
from adaptfocus.trainers.method.focus import focus_weights
from adaptfocus.trainers.settings.parts import FocusConfig

SALIENCY = SaliencyConfig()


def spike_at(tau: float, score: float, epoch: int = 0) -> Bins:
    bins = Bins.unvisited(1, 1, 20)
    b = int(tau * 20)
    bins.score[0, 0, b], bins.tau[0, 0, b], bins.epoch[0, 0, b] = score, tau, epoch
    return bins


def weights(p: list[float], tau: list[float], bins: Bins, duration: float = 60.0, **focus: object) -> list[float]:
    config = FocusConfig(**focus)  # type: ignore[arg-type]
    probability = torch.tensor(p).reshape(1, -1, 1)
    at, seconds = torch.tensor([tau], dtype=torch.float64), torch.tensor([duration], dtype=torch.float64)
    return focus_weights(probability, at, seconds, bins, 0, config, SALIENCY).positive.flatten().tolist()


def test_action_focusing_by_hand() -> None:
    # a = 0.9 at 0.5, so the threshold is 0.63. The clips are in other bins and lower than the spike.
    # p = 0.63 -> 2 sigmoid(0) = 1; p = 0.73 -> 2 sigmoid(1) = 1.4621; p = 0.43 -> 2 sigmoid(-2) = 0.2384
    found = weights([0.63, 0.73, 0.43], [0.1, 0.2, 0.3], spike_at(0.5, 0.9), clip_focusing=False)
    assert found == pytest.approx([1.0, 1.462117, 0.238406], abs=1e-5)


@pytest.mark.parametrize(
    ("form", "temperature", "p", "expected"),
    [
        ("ratio", 0.1, [0.25, 0.5, 1.0], [0.5, 1.0, 2.0]),
        ("exponential", 0.1, [0.45, 0.5, 0.9], [0.606531, 1.0, 2.718282]),  # e^-.5, e^0, and no more than e
        # b = 2: W(1) = .567143, which is its own e^-W; b = 0: W(0) = 0; b = -log 2: W(-log 2 / 2) = -log 2
        ("superloss", 1.0, [0.5 * 0.1353353, 0.5, 1.0], [0.567143, 1.0, 2.0]),
        ("superloss", 0.1, [0.5, 1.0], [1.0, 2.718282]),  # b = -6.9: no more than e
    ],
)
def test_forms_of_the_weight_by_hand(form: str, temperature: float, p: list[float], expected: list[float]) -> None:
    """All are 1 at the threshold (here .5), smaller below it and larger above it."""
    times = [0.1, 0.2, 0.3][: len(p)]
    one = {"clip_focusing": False, "threshold": 0.5, "temperature": temperature, "weight_form": form}
    config, tau = FocusConfig(**one), torch.tensor([times], dtype=torch.float64)  # type: ignore[arg-type]
    probability, seconds = torch.tensor(p).reshape(1, -1, 1), torch.tensor([60.0])
    before = SaliencyConfig(read="before")
    found = focus_weights(probability, tau, seconds, spike_at(0.5, 1.0), 0, config, before).positive
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-5)


def test_read_before_its_own_visit_a_clip_is_weighed_by_what_was_known() -> None:
    """p = .8 would be the spike after its visit. Where nothing is known yet, everything weighs 1."""
    config, tau, seconds = FocusConfig(), torch.tensor([[0.5, 0.9]]).double(), torch.tensor([60.0])
    p, before = torch.tensor([[[0.8], [0.3]]]), SaliencyConfig(read="before")
    found = focus_weights(p, tau, seconds, spike_at(0.9, 0.3), 0, config, before).positive
    assert found.flatten().tolist() == pytest.approx([0.0, 2 * torch.sigmoid(torch.tensor((0.3 - 0.21) / 0.1)).item()])
    found = focus_weights(p, tau, seconds, Bins.unvisited(1, 1, 20), 0, config, before).positive
    assert found.flatten().tolist() == [1.0, 1.0]


def test_a_moment_is_left_to_the_label_that_the_model_prefers() -> None:
    # Of two labels at one clip, p = .8 and .2: weights times .8 / .8 and (.2 / .8)^2; a third place holds no label.
    config = FocusConfig(action_focusing=False, clip_focusing=False, rivalry=2.0)
    p, tau, seconds = torch.tensor([[[0.8, 0.2, 0.0]]]), torch.tensor([[0.5]]).double(), torch.tensor([60.0])
    found = focus_weights(p, tau, seconds, Bins.unvisited(1, 3, 20), 0, config, SALIENCY).positive
    assert found.flatten().tolist() == pytest.approx([1.0, 0.0625, 0.0])


def test_clip_focusing_keeps_what_is_within_delta_of_the_salient_time() -> None:
    found = weights([0.1] * 4, [0.34, 0.36, 0.64, 0.66], spike_at(0.5, 0.9), action_focusing=False)
    assert found == [0.0, 1.0, 1.0, 0.0]


def test_delta_in_seconds_for_long_videos() -> None:
    bins = spike_at(0.5, 0.9)
    found = weights([0.1] * 2, [0.501, 0.46], bins, duration=3600.0, action_focusing=False, delta_seconds=10.0)
    assert found == [1.0, 0.0]  # lambda becomes 0.5005, which is 1.8 s from the first clip and 146 s from the other


def test_the_clips_of_the_bag_visit_their_bins_before_they_are_weighed() -> None:
    # Nobody has looked yet: the first clip's own score becomes the spike, a = 0.8, lambda = 0.5.
    found = weights([0.8, 0.3], [0.5, 0.9], Bins.unvisited(1, 1, 20))
    assert found == pytest.approx([2 * torch.sigmoid(torch.tensor((0.8 - 0.56) / 0.1)).item(), 0.0])


def test_weights_carry_no_gradient() -> None:
    logit = torch.zeros(1, 2, 1, requires_grad=True)
    tau = torch.tensor([[0.5, 0.6]], dtype=torch.float64)
    seconds = torch.tensor([60.0], dtype=torch.float64)
    found = focus_weights(torch.sigmoid(logit), tau, seconds, spike_at(0.5, 0.9), 0, FocusConfig(), SALIENCY).positive
    assert not found.requires_grad


def test_only_ours_weighs_and_only_after_warm_up() -> None:
    assert [FocusConfig(warmup_epochs=2).active(e) for e in (0, 1, 2)] == [False, False, True]
    assert not FocusConfig(regime="noisy", warmup_epochs=0).active(5)
    assert not FocusConfig(regime="full", warmup_epochs=0).active(5)


def test_a_masked_label_is_background_where_its_score_says_so_too() -> None:
    # a = 0.9 at 0.5, threshold 0.63. Masked: p = 0.63 -> w = 1, 1 - w / 2 = 1 / 2; p = 0.43 -> w = 0.238406, 0.880797;
    # p = 0.83 (a second interval, say) -> w = 2 sigmoid(2) = 1.761594, so 0.119203. Inside delta: 0 whatever p is.
    tau = torch.tensor([[0.1, 0.2, 0.3, 0.45]], dtype=torch.float64)
    p = torch.tensor([0.63, 0.43, 0.83, 0.1]).reshape(1, -1, 1)
    seconds = torch.tensor([60.0], dtype=torch.float64)
    found = focus_weights(p, tau, seconds, spike_at(0.5, 0.9), 0, FocusConfig(), SALIENCY)
    assert found.background.flatten().tolist() == pytest.approx([0.5, 0.880797, 0.119203, 0.0], abs=1e-5)
    assert (found.positive * found.background == 0).all(), "nothing is a positive and a negative at once"


def test_without_clip_focusing_there_is_no_background() -> None:
    tau, seconds = torch.tensor([[0.1, 0.9]], dtype=torch.float64), torch.tensor([60.0], dtype=torch.float64)
    p = torch.tensor([0.1, 0.2]).reshape(1, -1, 1)
    config = FocusConfig(clip_focusing=False)
    assert not focus_weights(p, tau, seconds, spike_at(0.5, 0.9), 0, config, SALIENCY).background.any()


def test_weak_negatives_wait_for_the_warm_up_and_their_share_of_the_training() -> None:
    config = FocusConfig(background_weight=2.0, background_from=0.3, warmup_epochs=2)
    assert config.background_at(epoch=8, progress=0.299) == 0.0
    assert config.background_at(epoch=9, progress=0.3) == 2.0
    assert config.background_at(epoch=1, progress=0.5) == 0.0, "a short run's warm-up"
    assert FocusConfig(regime="noisy", background_weight=2.0).background_at(20, 0.9) == 0.0
