"""Our outputs are those of the libraries that made the public weights, on the same weights and clips, to 1e-4.

pytorchvideo 0.1.5 for ResNet50-I3D, SlowFast, X3D, MViT and the non-local block; transformers for VideoMAE, TimeSformer
and V-JEPA 2.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from adaptfocus.trainers.backbones import BACKBONES, MAKERS, build, own_weights
from adaptfocus.trainers.backbones.mvit import MViT
from adaptfocus.trainers.backbones.resnet3d import NonLocal, ResNet3D
from adaptfocus.trainers.backbones.slowfast import SlowFast, slow_frames
from adaptfocus.trainers.backbones.x3d import X3D
from benchmarks.stepping.library_models import pytorchvideo_models
from tests.trainers.backbones.small_backbones import shaken, small

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def models() -> Any:
    """`pytorchvideo.models`."""
    found = pytorchvideo_models()
    if found is None:
        pytest.skip("not installed: pytorchvideo (pip install 'adaptfocus[dev]')")
    return found


def compare(name: str, reference: nn.Module, ours: nn.Module, x: torch.Tensor, shown: Any = None) -> None:
    """Give ours the reference's weights by their public names, head and all; both see the same clips."""
    shaken(reference).eval()
    ours.eval()
    state = dict(reference.state_dict())
    body = own_weights(ours, dict(state), "reference", {})
    head = {f"head.{part}": state[f"{MAKERS[name].styles[0].head}{part}"] for part in ("weight", "bias")}
    left = ours.load_state_dict(body | head, strict=False)
    assert [n for n in left.missing_keys if not n.endswith("num_batches_tracked")] == []
    with torch.no_grad():
        wanted, given = reference(x if shown is None else shown), ours(x)
    wanted = getattr(wanted, "logits", wanted)
    assert wanted.std() > 0.01, "the weights say something"
    torch.testing.assert_close(given, wanted, atol=1e-4 * float(wanted.abs().max().clamp(min=1)), rtol=1e-4)


def ours(name: str, kind: Any, **settings: Any) -> nn.Module:
    model = kind(7, **settings)
    model.key_styles = MAKERS[name].styles
    return model


def clips(frames: int, size: int) -> torch.Tensor:
    return torch.randn(1, 3, frames, size, size, generator=torch.Generator().manual_seed(3))


def test_resnet50_i3d(models: Any) -> None:
    kernels = ((3, 1, 1), [(3, 1, 1), (1, 1, 1)], [(3, 1, 1), (1, 1, 1)], [(1, 1, 1), (3, 1, 1)])
    reference = models.resnet.create_resnet(
        stem_dim_out=16, model_num_class=7, stem_conv_kernel_size=(5, 7, 7), stage1_pool=nn.MaxPool3d,
        stage_conv_a_kernel_size=kernels, head_pool_kernel_size=(4, 2, 2),
    )  # fmt: skip
    compare("i3d_r50", reference, ours("i3d_r50", ResNet3D, width=16), clips(8, 64))


def test_slowfast(models: Any) -> None:
    reference = models.slowfast.create_slowfast(
        model_num_class=7, stem_dim_outs=(64, 8), head_pool_kernel_sizes=((4, 1, 1), (16, 1, 1))
    )
    x = clips(16, 32)
    compare("slowfast_r50", reference, ours("slowfast_r50", SlowFast), x, [slow_frames(x), x.clone()])


def test_x3d(models: Any) -> None:
    reference = importlib.import_module("pytorchvideo.models.x3d").create_x3d(
        model_num_class=7, input_clip_length=4, input_crop_size=64, depth_factor=1.0, head_activation=None
    )
    compare("x3d_s", reference, ours("x3d_s", X3D, depths=(1, 2, 5, 3)), clips(4, 64))


@pytest.mark.parametrize(
    ("name", "depth", "grows", "kernel"),
    [
        ("mvit_b_16x4", 16, (1, 3, 14), [3, 3, 3]),
        ("mvit_b_24_32x3", 24, (2, 5, 21), [3, 3, 3]),
        ("mvit_b_24_32x3", 24, (2, 5, 21), None),
    ],
)
def test_mvit(models: Any, name: str, depth: int, grows: tuple[int, ...], kernel: list[int] | None) -> None:
    """24 layers grow where PySlowFast's MVIT_B_32x3_CONV.yaml says; the norms of pools have the eps of newer code."""
    reference = models.vision_transformers.create_multiscale_vision_transformers(
        spatial_size=32, temporal_size=4, depth=depth, patch_embed_dim=16, head_num_classes=7,
        embed_dim_mul=[[at, 2.0] for at in grows], atten_head_mul=[[at, 2.0] for at in grows],
        pool_q_stride_size=[[at, 1, 2, 2] for at in grows], pool_kv_stride_adaptive=[1, 8, 8],
        pool_kvq_kernel=kernel,
    )  # fmt: skip
    for module in reference.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6  # 1e-5 in pools of 0.1.5; 1e-6 in pytorchvideo's main, PySlowFast and torchvision
    spec = replace(BACKBONES[name].spec, frames=4, size_pixels=32)
    compare(name, reference, ours(name, MViT, spec=spec, depth=depth, width=16), clips(4, 32))


def test_the_non_local_block(models: Any) -> None:
    from pytorchvideo.layers.nonlocal_net import create_nonlocal

    reference = shaken(create_nonlocal(dim_in=32, dim_inner=16, pool_size=(1, 2, 2))).eval()
    block = NonLocal(32).eval()
    assert block.load_state_dict(reference.state_dict()).missing_keys == []
    x = torch.randn(2, 32, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(block(x), reference(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["videomae_b", "timesformer_b"])
def test_library_classifiers(name: str) -> None:
    """The library's own classifier on top, its pooling with it."""
    model = small(name, 7)
    import transformers

    if name == "videomae_b":
        settings = model.videomae.config
        settings.num_labels = 7
        reference: nn.Module = transformers.VideoMAEForVideoClassification(settings)
    else:
        settings = model.timesformer.config
        settings.num_labels = 7
        reference = transformers.TimesformerForVideoClassification(settings)
    compare(name, reference, model, (x := clips(4, 32)), x.transpose(1, 2))


def test_vjepa2_features_are_the_means_of_the_librarys_tokens() -> None:
    model = small("vjepa2_l").eval()
    import transformers

    settings = model.encoder.config
    settings.pred_hidden_size, settings.pred_num_attention_heads, settings.pred_num_hidden_layers = 24, 2, 1
    reference = shaken(transformers.VJEPA2Model(settings)).eval()
    model.load_state_dict(own_weights(model, dict(reference.state_dict()), "reference", {}), strict=False)
    x = clips(4, 32)
    with torch.no_grad():
        tokens = reference(x.transpose(1, 2), skip_predictor=True).last_hidden_state
        features = model.forward_features(x)
    torch.testing.assert_close(features, tokens.view(1, 2, 4, -1).mean(dim=2), atol=1e-4, rtol=1e-4)


def test_inception_pads_as_tensorflow_does() -> None:
    """No library has it. Its padding by hand: 7 wide, stride 2, on 224: 112 out, so 5 zeros, 2 before and 3 behind."""
    from adaptfocus.trainers.backbones.inception_i3d import pad_same

    x = torch.ones(1, 1, 64, 224, 225)
    assert pad_same(x, (7, 7, 7), (2, 2, 2)).shape == (1, 1, 69, 229, 231)  # 225 -> 113 out: 6 zeros
    row = pad_same(x, (7, 7, 7), (2, 2, 2))[0, 0, 10, :, 100]
    assert row.tolist() == [0, 0] + [1] * 224 + [0, 0, 0]
    assert pad_same(x, (1, 3, 3), (1, 2, 2)).shape == (1, 1, 64, 225, 227)
    with torch.device("meta"):
        features = build("inception_i3d", 400).forward_features(torch.empty(1, 3, 64, 224, 224))
    assert features.shape == (1, 7, 1024), "of 8 times, means of 2, as upstream's average pooling of (2, 7, 7)"
