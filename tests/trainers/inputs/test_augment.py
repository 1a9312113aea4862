"""Augmentation does what plain code does clip by clip. It depends only on a clip's id, and only happens in training."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.schemas import clip_id
from adaptfocus.pipelines.settings import make
from adaptfocus.trainers.backbones import build
from adaptfocus.trainers.backbones.colour import rgb_of_yuv420p
from adaptfocus.trainers.device.draws import AUGMENT, uniforms
from adaptfocus.trainers.inputs.augment import BRIGHTNESS, CONTRAST, FLIP, HUE, SATURATION, augment_clips, rectangles
from adaptfocus.trainers.inputs.model_input import apply_draws, to_model_input
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.settings.parts import AugmentConfig, InputConfig
from adaptfocus.trainers.settings.run import TrainConfig
from tests.trainers.loop.test_training import trained
from tests.worlds import SmallWorld

ALL = AugmentConfig(
    crop_area=(0.2, 1), flip_probability=0.5, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1
)  # fmt: skip
SEED = 5


def ids(count: int) -> torch.Tensor:
    return torch.tensor([clip_id(3, slot, draw) for slot in range(math.ceil(count / 4)) for draw in range(4)][:count])


def clips(count: int, side: int = 24, frames: int = 3) -> torch.Tensor:
    """Clips of smooth colours that differ in every clip and frame: uint8 [count, frames, 3, side, side]."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count * frames, 3, 6, 6, generator=generator)
    smooth = functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False).clamp(0.2, 0.7)
    return (255 * smooth).to(torch.uint8).unflatten(0, (count, frames))


def one_by_one(frames: torch.Tensor, clip_id: torch.Tensor, config: AugmentConfig, size: int) -> torch.Tensor:
    """The reference: clip by clip, cut with slices, `interpolate`, then one change of colour after the other."""
    numbers = uniforms(clip_id, SEED, AUGMENT, 9)
    made = []
    for clip, own in zip(frames.float(), numbers.tolist(), strict=True):
        if config.crop_area:
            part = rectangles(torch.tensor([own]), config, frames.shape[-1])[0]
            left, top, width, height = (int(v) for v in part)
            cut = clip[:, :, top : top + height, left : left + width]
            clip = functional.interpolate(cut, size=(size, size), mode="bilinear", align_corners=False)
        if own[FLIP] < config.flip_probability:
            clip = torch.flip(clip, dims=[3])
        made.append(_coloured(clip, own, config))
    return torch.stack(made).clamp(0, 255)


def _coloured(clip: torch.Tensor, own: list[float], config: AugmentConfig) -> torch.Tensor:
    """Saturation first, then hue, contrast and brightness: not in the order of the formula."""
    weights = torch.tensor([0.299, 0.587, 0.114])

    def factor(place: int, strength: float) -> float:
        return 1 - strength + 2 * strength * own[place]

    luma = torch.einsum("c,tchw->thw", weights, clip)[:, None]
    clip = luma + factor(SATURATION, config.saturation) * (clip - luma)
    yiq = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    angle = (2 * own[HUE] - 1) * 2 * math.pi * config.hue
    y, i, q = torch.einsum("dc,tchw->dthw", yiq, clip)
    i, q = math.cos(angle) * i - math.sin(angle) * q, math.sin(angle) * i + math.cos(angle) * q
    clip = torch.einsum("cd,dthw->tchw", torch.linalg.inv(yiq), torch.stack([y, i, q]))
    grey = torch.einsum("c,tchw->thw", weights, clip).mean()
    clip = grey + factor(CONTRAST, config.contrast) * (clip - grey)
    return factor(BRIGHTNESS, config.brightness) * clip


@pytest.mark.parametrize("size", [24, 16, 40])
def test_a_batch_is_what_plain_code_makes_of_each_clip(size: int) -> None:
    frames = clips(16)
    found = augment_clips(frames, ids(16), ALL, size, SEED)
    assert found.shape == (16, 3, 3, size, size)
    torch.testing.assert_close(found, one_by_one(frames, ids(16), ALL, size), atol=0.02, rtol=0)  # of 255
    assert (found - found.roll(1, dims=0)).abs().mean() > 1


@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig(crop_area=(0.05, 0.6), crop_aspect=3),
        AugmentConfig(flip_probability=0.5),
        AugmentConfig(brightness=0.3),
        AugmentConfig(contrast=0.9),
        AugmentConfig(saturation=1),
        AugmentConfig(hue=0.5),
    ],
    ids=lambda config: "-".join(sorted(config.model_fields_set)),
)
def test_each_switch_alone(config: AugmentConfig) -> None:
    frames = clips(8)
    found = augment_clips(frames, ids(8), config, 24, SEED)
    torch.testing.assert_close(found, one_by_one(frames, ids(8), config, 24), atol=0.02, rtol=0)
    assert not torch.equal(found, frames.float())


def test_a_mirror_image_has_the_very_pixels() -> None:
    frames = clips(200, side=8)
    found = augment_clips(frames, ids(200), AugmentConfig(flip_probability=0.3), 8, SEED)
    as_it_was = (found == frames.float()).flatten(1).all(dim=1)
    mirrored = (found == frames.float().flip(-1)).flatten(1).all(dim=1)
    assert bool((as_it_was ^ mirrored).all())
    assert 40 < int(mirrored.sum()) < 80  # 60; a standard deviation is 6.5


def test_all_frames_of_a_clip_change_alike() -> None:
    """A still clip stays still: what moves afterwards moved before."""
    still = clips(8)[:, :1].expand(-1, 3, -1, -1, -1)
    found = augment_clips(still, ids(8), ALL, 24, SEED)
    torch.testing.assert_close(found, found[:, :1].expand_as(found), atol=1e-3, rtol=0)


def test_a_clip_changes_the_same_way_in_any_company_and_another_way_under_another_seed() -> None:
    frames, own = clips(12), ids(12)
    whole = augment_clips(frames, own, ALL, 24, SEED)
    order = torch.tensor([7, 2, 11, 0])
    torch.testing.assert_close(augment_clips(frames[order], own[order], ALL, 24, SEED), whole[order], atol=1e-4, rtol=0)
    assert (augment_clips(frames, own, ALL, 24, SEED + 1) - whole).abs().mean() > 5


def test_parts_lie_in_the_square_and_are_as_large_and_as_wide_as_was_said() -> None:
    config = AugmentConfig(crop_area=(0.25, 1), crop_aspect=4 / 3)
    side = 1000
    left, top, width, height = rectangles(uniforms(ids(20_000), SEED, AUGMENT, 9), config, side).unbind(dim=1)
    for start, size in ((left, width), (top, height)):
        assert bool((start >= 0).all())
        assert bool((start + size <= side).all())
        assert torch.equal(start, start.round())
        assert torch.equal(size, size.round())
    area, ratio = width * height / side**2, width / height
    assert 0.249 < area.min() < area.max() <= 1
    counts = torch.histc(area, 15, 0.25, 1)
    assert (counts - 20_000 / 15).abs().max() < 5 * math.sqrt(20_000 / 15), "every area is as likely"
    assert 0.745 < ratio.min() < 0.76
    assert 1.31 < ratio.max() < 1.342
    assert abs(ratio.log().mean()) < 0.01, "wide as often as high"
    small = width < 700
    room = left[small] / (side - width[small])
    assert 0.48 < room.mean() < 0.52, "anywhere across"
    assert room.min() < 0.01
    assert room.max() > 0.99


def test_the_whole_square_is_the_scaled_picture() -> None:
    frames = clips(4)
    found = augment_clips(frames, ids(4), AugmentConfig(crop_area=(1, 1)), 12, SEED)
    wanted = functional.interpolate(frames.flatten(0, 1).float(), size=(12, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found.flatten(0, 1), wanted, atol=0.01, rtol=0)


def test_planes_of_yuv_become_rgb_first() -> None:
    planes = torch.randint(16, 236, (4, 3, 1, 36, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = augment_clips(planes, ids(4), ALL, 16, SEED)
    torch.testing.assert_close(found, one_by_one(rgb_of_yuv420p(planes), ids(4), ALL, 16), atol=0.02, rtol=0)


def test_off_nothing_changes_and_scoring_never_does() -> None:
    frames, model = clips(4, side=20), build("small3d", 5)
    run = {"name": "a", "runs": "r", "index": "i"}
    plain = TrainConfig.model_validate(run)
    assert not plain.draws_by_clip
    assert apply_draws(frames, model, plain, ids(4)) is frames
    config = TrainConfig.model_validate(run | {"augment": {"flip_probability": 1, "brightness": 0.5}})
    assert config.draws_by_clip
    x = to_model_input(apply_draws(frames, model, config, ids(4)), model, config.input, ids(4))
    assert x.shape == (4, 3, 3, 20, 20)
    assert (x - to_model_input(frames, model, InputConfig())).abs().mean() > 0.1
    assert torch.equal(to_model_input(frames, model, config.input), to_model_input(frames, model, InputConfig())), (
        "as in scoring"
    )


def test_nothing_is_asked_of_the_device() -> None:
    """On a device without values, code that reads one fails; on a GPU it would wait there."""
    settings = {
        "augment": ALL.model_dump() | {"decode_size_pixels": 24},
        "dropout": 0.3,
        "input": {"fade_background": 0.5},
    }
    config = TrainConfig.model_validate({"name": "a", "runs": "r", "index": "i"} | settings)
    with torch.device("meta"):
        model = build("small3d", 5)
        for shape in ((4, 3, 3, 24, 24), (4, 3, 1, 36, 24)):
            own = torch.empty(4, dtype=torch.int64)
            frames = apply_draws(torch.empty(shape, dtype=torch.uint8), model, config, own)
            assert to_model_input(frames, model, config.input, own).shape == (4, 3, 3, 20, 20)
            assert model(to_model_input(frames, model, config.input, own)).device.type == "meta"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("augment.crop_area=[0.8, 0.2]", r"augment.crop_area is \[0.8, 0.2\]; put the smaller share first"),
        ("augment.decode_size_pixels=28", r"nothing is cropped from it; set augment.crop_area"),
        ("augment.flip_probability=2", r"augment.flip_probability = 2.0: it must be at most 1"),
        ("augment.decode_size_pixels=27", r"augment.decode_size_pixels = 27: .* multiple of 2"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(TrainConfig, {"name": "a", "runs": "r", "index": "i"}, [override])


def test_clips_are_never_decoded_to_less_than_the_backbone_takes() -> None:
    settings = ["augment.crop_area=[0.5, 1]", "augment.decode_size_pixels=18"]
    with pytest.raises(ConfigError, match=r"decode_size_pixels = 18 is less than clip.size_pixels = 20; raise it"):
        make(TrainConfig, {"name": "a", "runs": "r", "index": "i"}, settings)


def test_a_run_decodes_larger_clips_and_repeats_itself(small_world: SmallWorld, tmp_path: Path) -> None:
    """Real decoding to 28 pixels for a model of 20, dropout too: the same scores twice, and other ones without."""
    settings = ("epochs=1", "augment.crop_area=[0.4, 1]", "augment.decode_size_pixels=28",
                "augment.flip_probability=0.5", "augment.hue=0.1", "dropout=0.3")  # fmt: skip
    runs = [trained(small_world.run_config(tmp_path, name, *settings)) for name in ("one", "two")]
    plain = trained(small_world.run_config(tmp_path, "plain", "epochs=1"))
    losses = [[e.metrics["loss"] for e in run.entries() if e.kind == "checkpoint"] for run in (*runs, plain)]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    assert audit(runs[0]).clips_lost == 0
