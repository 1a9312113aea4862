"""Input switches: what the backbone sees, and that no split of a batch changes it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.schemas import clip_id
from adaptfocus.trainers.backbones import build, input_spec_of, normalise
from adaptfocus.trainers.inputs.model_input import (
    adapt_backbone,
    after_step,
    build_adapted,
    choose_share,
    to_model_input,
)
from adaptfocus.trainers.settings.parts import InputConfig


@pytest.fixture
def frames() -> torch.Tensor:
    """Four clips: still backgrounds, with one pixel that moves along a row."""
    still = torch.randint(0, 200, (4, 1, 3, 20, 20), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    clips = still.repeat(1, 8, 1, 1, 1)
    for t in range(8):
        clips[:, t, :, 5, t] = 250
    return clips


def ids(count: int) -> torch.Tensor:
    return torch.tensor([clip_id(3, slot, draw) for slot in range(count // 4) for draw in range(4)])


def test_rgb_is_the_normalised_clip(frames: torch.Tensor) -> None:
    model = build("small3d", 5)
    seen = to_model_input(frames, model, InputConfig(), ids(4))
    assert torch.equal(seen, normalise(frames, input_spec_of(model)))


def test_a_difference_has_nothing_of_what_stands_still(frames: torch.Tensor) -> None:
    seen = to_model_input(frames, build("small3d", 5), InputConfig(motion="difference"))
    assert seen.shape == (4, 3, 8, 20, 20)
    moving = torch.zeros(20, 20, dtype=torch.bool)
    moving[5, :8] = True
    torch.testing.assert_close(seen[..., ~moving], torch.zeros_like(seen[..., ~moving]), atol=1e-5, rtol=0)
    assert seen[..., moving].abs().max() > 1


def test_both_begin_as_the_pretrained_model_that_sees_movement_twice(frames: torch.Tensor) -> None:
    config = InputConfig(motion="rgb_and_difference")
    plain = build("small3d", 5)
    weight, bias = plain.body[0].weight.detach().clone(), plain.body[0].bias.detach().clone()  # type: ignore[index,union-attr]
    wide = adapt_backbone(plain, config)
    x = to_model_input(frames, wide, config)
    assert x.shape == (4, 6, 8, 20, 20)
    rgb, zero_mean = x[:, :3], weight - weight.mean(dim=2, keepdim=True)
    conv = {"stride": (1, 2, 2), "padding": 1}
    # what the added half sees of 2 (x - mean x) through half the kernel: the kernel without its mean, of x - mean x
    wanted = nn.functional.conv3d(rgb, weight, bias, **conv)
    wanted = wanted + nn.functional.conv3d(rgb - rgb.mean(dim=2, keepdim=True), zero_mean, **conv)
    torch.testing.assert_close(wide.body[0](x), wanted, atol=1e-4, rtol=1e-4)  # type: ignore[index,operator]
    build_adapted("small3d", 5, config).load_state_dict(wide.state_dict())  # what a resumed run does


def test_zero_mean_kernels_stay_so_after_a_step(frames: torch.Tensor) -> None:
    config = InputConfig(motion="zero_mean_kernels")
    model = build_adapted("small3d", 5, config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(to_model_input(frames, model, config)).sum().backward()
    optimiser.step()
    assert model.body[0].weight.mean(dim=2).abs().max() > 1e-4, "the step breaks the constraint"  # type: ignore[index,union-attr]
    after_step(model, config)
    assert model.body[0].weight.mean(dim=2).abs().max() < 1e-6  # type: ignore[index,union-attr]
    bright = (frames.int() // 2 + 60).to(torch.uint8)[:, :1].repeat(1, 8, 1, 1, 1)  # other still clips
    dark = torch.zeros_like(bright)
    inner = slice(1, -1)  # padding in time is not still
    first = [model.body[0](to_model_input(clip, model, config))[:, :, inner] for clip in (bright, dark)]  # type: ignore[index,operator]
    torch.testing.assert_close(*first, atol=1e-4, rtol=0)


def test_only_their_ids_decide_which_clips_fade() -> None:
    many = ids(4000)
    whole = choose_share(many, 0.5)
    assert 1850 < int(whole.sum()) < 2150
    order = torch.randperm(len(many), generator=torch.Generator().manual_seed(0))
    assert torch.equal(choose_share(many[order], 0.5), whole[order])
    assert bool((choose_share(many, 0.3) <= whole).all()), "a larger share takes more of the same"
    assert not choose_share(many, 0.0).any()
    assert choose_share(many, 1.0).all()
    neighbours = (whole[1:] == whole[:-1]).float().mean()
    assert 0.45 < float(neighbours) < 0.55, "the clips of a bag are chosen apart from each other"


def test_fading_keeps_movement_and_the_mean_colour_and_spares_scoring(frames: torch.Tensor) -> None:
    model, config = build("small3d", 5), InputConfig(fade_background=1.0)
    plain, faded = (to_model_input(frames, model, each, ids(4)) for each in (InputConfig(), config))
    change = faded - plain
    torch.testing.assert_close(change, change[:, :, :1].expand_as(change), atol=1e-5, rtol=0)  # the same in each frame
    torch.testing.assert_close(faded.mean(dim=(2, 3, 4)), plain.mean(dim=(2, 3, 4)), atol=1e-5, rtol=1e-5)
    still = faded.mean(dim=2)
    assert still.std(dim=(2, 3)).max() < 1e-4
    assert torch.equal(to_model_input(frames, model, config), plain), "without ids, as in scoring, nothing fades"


def test_a_backbone_without_a_3d_convolution_is_told_so() -> None:
    with pytest.raises(ConfigError, match=r"input.motion=zero_mean_kernels changes .* Linear has none; use rgb or"):
        adapt_backbone(nn.Linear(2, 2), InputConfig(motion="zero_mean_kernels"))
