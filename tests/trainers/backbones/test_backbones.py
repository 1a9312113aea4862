"""The promises of every backbone: shapes, no clip sees another, frozen batch norms, groups for the optimiser."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.plan.settings import ClipConfig
from adaptfocus.pipelines.settings import make
from adaptfocus.trainers.backbones import BACKBONES, MAKERS, InputSpec, build, entry_of, parameter_groups
from adaptfocus.trainers.backbones.contract import batch_norms
from adaptfocus.trainers.backbones.inception_i3d import Inception, Unit
from adaptfocus.trainers.backbones.slowfast import slow_frames
from adaptfocus.trainers.inputs import left_out
from adaptfocus.trainers.inputs.model_input import adapt_backbone, after_step
from adaptfocus.trainers.settings.parts import InputConfig
from adaptfocus.trainers.settings.recipes import recipe
from adaptfocus.trainers.settings.recipes_of_the_paper import RECIPES_OF_THE_PAPER
from adaptfocus.trainers.settings.run import TrainConfig
from tests.trainers.backbones.small_backbones import NAMES, clips_for, needs_library, small

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("one_thread")]
# Frames for one time of the features; the others have 2.
TIMES = {"small3d": 1, "r2plus1d_tiny": 1, "inception_i3d": 4, "i3d_r50": 2, "nonlocal_i3d_r50": 2, "slowfast_r50": 4,
         "x3d_s": 1, "x3d_m": 1, "x3d_l": 1, "timesformer_b": 1, "efficientnet_lite0": 1}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_forward_backward_and_what_a_clip_scores_alone(name: str) -> None:
    """If one clip saw another, or anything were drawn at random, the number of workers would change the training."""
    model = small(name)
    x = clips_for(model, 3)
    features, logits = model.forward_features(x), model(x)
    times = x.shape[2] // TIMES.get(name, 2)
    assert features.shape[:2] == (3, times)
    assert logits.shape == (3, 5)
    torch.testing.assert_close(model.head(model.pooled(x)), logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model(x[2:]), logits[2:], atol=1e-5, rtol=1e-4)
    assert (logits[0] - logits[1]).abs().max() > 1e-6, "clips that differ score differently"
    logits.square().sum().backward()
    unused = [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    # The bias of a key shifts all scores of a query by the same amount, which a softmax ignores.
    assert [n for n in unused if not n.endswith((".k.bias", ".key.bias", "conv_phi.bias"))] == []


@torch.no_grad()
@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("x3d_m", "x3d_l")])
def test_maps_are_the_features_before_space_is_taken_out(name: str) -> None:
    # The temporal blocks over pictures change nothing while they are fresh.
    model = small(name, fresh=name == "efficientnet_lite0").eval()
    x = clips_for(model, 2)
    maps, features = model.feature_maps(x), model.forward_features(x)
    if name == "x3d_s":  # widened after the mean, which is not linear
        assert maps.shape[:3] == (2, features.shape[2], features.shape[1])
        return
    over_space = maps.amax(dim=(3, 4)) if name in ("small3d", "r2plus1d_tiny") else maps.mean(dim=(3, 4))
    if name == "inception_i3d":
        over_space = functional.avg_pool1d(over_space, min(2, maps.shape[2]), stride=1)
    torch.testing.assert_close(over_space.transpose(1, 2), features, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [n for n in NAMES if n not in ("x3d_m", "x3d_l", "mvit_b_32x3", "mvit_b_64x3", "mvit_b_24_32x3")]
)
def test_eight_clips_are_learnt_by_heart(name: str) -> None:
    """A model that cannot fit eight clips has a fault: a layer that is cut off, or a norm that kills the signal.

    A model that only knows how frequent labels are reaches 0.67.
    """
    model = small(name, fresh=not name.startswith("mvit"))  # 8 channels wide, a fresh one takes hundreds of steps
    targets = (torch.rand(8, 5, generator=torch.Generator().manual_seed(2)) < 0.4).float()
    x = clips_for(model, 8)
    rate = 1e-3 if name == "inception_i3d" else 3e-3  # more than twice as quick for it, and no other
    optimiser = torch.optim.AdamW(parameter_groups(model, 0.01), lr=rate)
    losses = []
    while len(losses) < 120 and (not losses or losses[-1] > 0.2):
        loss = functional.binary_cross_entropy_with_logits(model(x), targets)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] <= 0.2, f"{losses[0]:.2f} -> {losses[-1]:.2f} in {len(losses)} steps"


@pytest.mark.parametrize("name", ["i3d_r50", "nonlocal_i3d_r50", "slowfast_r50", "x3d_s"])
def test_batch_norms_stay_frozen_in_training(name: str) -> None:
    model = small(name)
    norms = batch_norms(model)
    assert len(norms) >= 20
    before = {k: v.clone() for k, v in model.state_dict().items() if "running" in k or "num_batches" in k}
    model.eval()
    model.train()
    assert model.training
    assert not any(norm.training for norm in norms)
    model(clips_for(model)).sum().backward()
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items()), "statistics do not move"
    assert all(norm.weight.grad is not None for norm in norms), "scale and shift are trained"


@pytest.mark.parametrize("name", NAMES)
def test_each_weight_is_in_one_group_and_norms_biases_and_positions_are_not_decayed(name: str) -> None:
    model = small(name)
    groups = parameter_groups(model, 0.05)
    ids = [id(p) for group in groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters())
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    by_name = {n: decays[id(p)] for n, p in model.named_parameters()}
    if name == "small3d":
        assert set(by_name.values()) == {0.05}
        return
    assert by_name["head.weight"] == 0.05
    assert by_name["head.bias"] == 0
    for n, p in model.named_parameters():
        free = p.ndim == 1 or n.rpartition(".")[2] in model.embeddings
        assert by_name[n] == (0 if free else 0.05), n


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_sizes_and_costs_are_those_that_are_listed(name: str) -> None:
    """The whole model, without its memory. Papers say: SlowFast 65.7 GFLOPs at 256 pixels, which is 50.3 at 224; X3D-L
    18.4; MViT-B 16x4 70.5, 32x3 170, 64x3 455, 24 layers 236; VideoMAE-B 180; TimeSformer 196. The 107.89 of
    Inception-I3D is that of another network (docs/backbones.md)."""
    needs_library(name)
    entry = BACKBONES[name]
    with torch.device("meta"):
        model = build(name, 400)
        clip = torch.empty(1, 3, entry.spec.frames, entry.spec.size_pixels, entry.spec.size_pixels)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert model(clip).shape == (1, 400)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert millions == pytest.approx(entry.parameters_millions, abs=0.006)
    assert counter.get_total_flops() / 2e9 == pytest.approx(entry.gflops, rel=0.006, abs=0.001)


def test_the_published_cost_of_inception_i3d_is_that_of_narrower_kernels() -> None:
    """107.89 GFLOPs and 12.06 M parameters (arXiv 1712.04851) are those of 1x1x1 where upstream's weights have 3x3x3:
    the second convolution of the third branch. So the difference is not an extra layer of ours."""
    with torch.device("meta"):
        model = build("inception_i3d", 400)
        ours = convolution_cost(model)
        for block in model.children():
            if isinstance(block, Inception):
                old = block.b2b.conv3d
                block.b2b = Unit(old.in_channels, old.out_channels, 1)
        published = convolution_cost(model)
    assert ours == (pytest.approx(111.15, abs=0.005), pytest.approx(12.68, abs=0.005))
    assert published == (pytest.approx(107.89, abs=0.005), pytest.approx(12.06, abs=0.005))


def convolution_cost(model: nn.Module) -> tuple[float, float]:
    """Multiply-adds in 1e9 of a clip, and weights in 1e6 of convolutions and head, counted layer by layer."""
    sums = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv3d):
            layer.register_forward_hook(lambda layer, _, out: sums.append(layer.weight.numel() * out[0, 0].numel()))
    model(torch.empty(1, 3, 64, 224, 224))
    weights = sum(p.numel() for n, p in model.named_parameters() if "conv3d" in n or "head" in n)
    return sum(sums) / 1e9, weights / 1e6


def test_clips_follow_the_backbone_unless_they_are_given() -> None:
    run = {"name": "a", "runs": "r", "index": "i"}
    config = TrainConfig.model_validate(run | {"backbone": "slowfast_r50"})
    assert (config.clip.frames, config.clip.frame_stride, config.clip.size_pixels) == (32, 2, 224)
    config = TrainConfig.model_validate(run | {"backbone": "x3d_l", "clip": {"frames": 8}})
    assert (config.clip.frames, config.clip.frame_stride, config.clip.size_pixels) == (8, 5, 312)
    assert TrainConfig.model_validate(run).clip.size_pixels == 20, "small3d, when none is named"
    again = TrainConfig.model_validate(config.model_dump(mode="json"))
    assert again == config, "a saved run stays as it is"


def test_clips_that_a_backbone_cannot_take_are_named_with_the_fix() -> None:
    slowfast, videomae = entry_of("slowfast_r50").spec, entry_of("videomae_b").spec
    slowfast.check(8, 128)
    with pytest.raises(ConfigError, match=r"clip.frames is 10; this backbone takes multiples of 4. .* or give 8"):
        slowfast.check(10, 224)
    with pytest.raises(ConfigError, match=r"clip.size_pixels is 250; this backbone takes multiples of 32.* give 256"):
        slowfast.check(8, 250)
    with pytest.raises(ConfigError, match=r"clip.frames is 8; this backbone takes only 16"):
        videomae.check(8, 224)
    assert InputSpec(8, 1, 20, (0,) * 3, (1,) * 3).check(7, 33) is None  # type: ignore[arg-type]


def test_the_slow_pathway_takes_every_fourth_frame_from_first_to_last() -> None:
    x = torch.arange(32.0).view(1, 1, 32, 1, 1)
    # linspace(0, 31, 8) without its fractions
    assert slow_frames(x).flatten().tolist() == [0, 4, 8, 13, 17, 22, 26, 31]
    assert slow_frames(x[:, :, :4]).flatten().tolist() == [0]


@pytest.mark.parametrize("name", ["slowfast_r50", "x3d_s", "mvit_b_16x4"])
def test_both_kinds_of_input_go_into_every_first_convolution(name: str) -> None:
    model = small(name)
    x = clips_for(model)
    plain = model(x)
    wide = adapt_backbone(model, InputConfig(motion="rgb_and_difference"))
    still = torch.cat([x, torch.zeros_like(x)], dim=1)
    torch.testing.assert_close(wide(still), plain, atol=1e-5, rtol=1e-4)
    wide(torch.cat([x, x], dim=1)).square().sum().backward()
    for convolution in wide.first_convolutions():
        assert convolution.weight.shape[1] == 6
        assert convolution.weight.grad[:, 3:].abs().max() > 0, "what was added is trained, where it begins at zero too"
    decayed = parameter_groups(wide, 0.1)[0]["params"]
    assert all(any(c.weight is p for p in decayed) for c in wide.first_convolutions())


def test_a_first_convolution_of_single_frames_cannot_lose_its_mean() -> None:
    """Those of X3D, and of SlowFast's slow pathway: nothing would be left of their weights."""
    for name in ("x3d_s", "slowfast_r50"):
        with pytest.raises(ConfigError, match=r"zero_mean_kernels needs a first convolution that spans time"):
            adapt_backbone(small(name), InputConfig(motion="zero_mean_kernels"))
    model = small("i3d_r50")
    after_step(model, InputConfig(motion="zero_mean_kernels"))
    assert model.blocks[0].conv.weight.mean(dim=2).abs().max() < 1e-6


def test_positions_are_interpolated_for_other_clips() -> None:
    """A ramp along time stays a ramp; and a clip of other frames and pixels goes through."""
    model = small("mvit_b_16x4").eval()
    positions = model.cls_positional_encoding
    with torch.no_grad():
        positions.pos_embed_temporal.copy_(torch.arange(2.0).view(1, 2, 1).expand_as(positions.pos_embed_temporal))
    tokens = torch.zeros(1, 4 * 64, positions.cls_token.shape[2])
    seen = positions(tokens, (4, 8, 8))[:, 1:].unflatten(1, (4, 64)) - positions.pos_embed_spatial[:, None]
    wanted = torch.tensor([0, 0.25, 0.75, 1])  # times 0 and 1 spread over 4: -0.25 to 1.25, held at the ends
    torch.testing.assert_close(seen[0, :, 5, 0], wanted, atol=1e-5, rtol=0)
    assert model(torch.randn(1, 3, 6, 64, 64)).shape == (1, 5)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"pip install 'adaptfocus\[transformers\]'"):
        build("videomae_b", 3)
    build("slowfast_r50", 3)
    assert replace(BACKBONES["videomae_b"], extra="no_such_library").installed is False


@pytest.mark.parametrize("papers", RECIPES_OF_THE_PAPER, ids=lambda papers: papers.__name__)
def test_the_papers_recipes_are_clips_that_their_backbones_take(papers: Callable[[], dict]) -> None:
    run = {"name": "a", "runs": "r", "index": "i"}
    config = TrainConfig.model_validate(papers() | run)
    spec = entry_of(config.backbone).spec
    spec.check(config.clip.frames, config.clip.size_pixels)
    assert config.clip.size_pixels == spec.size_pixels
    assert recipe(papers.__name__) == papers()
    assert "not measured here" in (papers.__doc__ or "")
    left_out.check(MAKERS[config.backbone].make(2, spec=spec), config.dropout, config.drop_path)
    views, crops, size = re.search(  # type: ignore[union-attr]
        r"Evaluate: .* --views (\d+)(?: --crops (\d))?(?: --size-pixels (\d+))?\n", papers.__doc__ or ""
    ).groups()
    published = re.search(r"published at (\d+) x (\d) views", papers.__doc__ or "").groups()  # type: ignore[union-attr]
    assert (views, crops or "1") == published
    spec.check(config.clip.frames, int(size or spec.size_pixels))
    count = int(re.search(r"= ([\d,]+) clips", papers.__doc__ or "")[1].replace(",", ""))  # type: ignore[index]
    videos = {"charades": 7985, "breakfast": 1357, "multithumos": 200}[papers.__name__.split("_")[0]]
    assert count == videos * config.plan.clips_per_bag * config.epochs


def test_a_recipe_takes_another_backbone() -> None:
    """`adaptfocus train small backbone=...` must not keep the small backbone's 24 pixels."""
    values = recipe("small") | {"name": "a", "runs": "r", "index": "i"}
    assert TrainConfig.model_validate(values).clip == ClipConfig(frames=12, frame_stride=1, fps=4.0, size_pixels=24)
    clip = make(TrainConfig, values, ["backbone=mvit_b_16x4", "clip.fps=30"]).clip
    assert (clip.frames, clip.frame_stride, clip.fps, clip.size_pixels) == (16, 4, 30, 224)
