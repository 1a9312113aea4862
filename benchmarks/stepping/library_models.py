"""The same backbones as pytorchvideo builds them, to compare our steps with.

No extra brings the library, whose last release is from 2022: `pip install pytorchvideo==0.1.5`. It imports one name of
torchvision that none of these models uses, so an empty one stands in for it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from adaptfocus.trainers.backbones.slowfast import slow_frames


def pytorchvideo_models() -> Any:
    """`pytorchvideo.models`; None where it is not installed."""
    if importlib.util.find_spec("pytorchvideo") is None:
        return None
    if importlib.util.find_spec("torchvision") is not None:
        return importlib.import_module("pytorchvideo.models")
    top, ops = (types.ModuleType(name) for name in ("torchvision", "torchvision.ops"))
    ops.RoIAlign = object  # type: ignore[attr-defined]
    top.ops = ops  # type: ignore[attr-defined]
    sys.modules |= {"torchvision": top, "torchvision.ops": ops}
    try:
        return importlib.import_module("pytorchvideo.models")
    finally:
        for name in ("torchvision", "torchvision.ops"):  # other libraries look for it, and would think that it is real
            del sys.modules[name]


def library_model(name: str, classes: int, frames: int, size: int) -> nn.Module | None:
    """The library's model of a backbone for clips of this shape, logits float [B, K]; None where it has none.

    Batch norms are frozen like ours, so that both do the same work.
    """
    models = pytorchvideo_models()
    if models is None or name not in _MAKERS:
        return None
    model = _MAKERS[name](models, classes, frames, -(-size // 32)).train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return model


def _i3d(models: Any, classes: int, frames: int, side: int) -> nn.Module:
    kernels = ((3, 1, 1), [(3, 1, 1), (1, 1, 1)], [(3, 1, 1), (1, 1, 1)], [(1, 1, 1), (3, 1, 1)])
    return models.resnet.create_resnet(
        model_num_class=classes, stem_conv_kernel_size=(5, 7, 7), stage1_pool=nn.MaxPool3d,
        stage_conv_a_kernel_size=kernels, head_pool_kernel_size=(frames // 2, side, side),
    )  # fmt: skip


class _TwoPaths(nn.Module):
    """The library's SlowFast, which takes the frames of both pathways."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model([slow_frames(x), x.clone()])  # it changes its input in place


def _slowfast(models: Any, classes: int, frames: int, side: int) -> nn.Module:
    pools = ((frames // 4, side, side), (frames, side, side))
    return _TwoPaths(
        models.slowfast.create_slowfast(model_num_class=classes, stem_dim_outs=(64, 8), head_pool_kernel_sizes=pools)
    )


def _x3d_s(models: Any, classes: int, frames: int, side: int) -> nn.Module:
    x3d = importlib.import_module("pytorchvideo.models.x3d")
    return x3d.create_x3d(
        model_num_class=classes, input_clip_length=frames, input_crop_size=32 * side, head_activation=None
    )


def _mvit(models: Any, classes: int, frames: int, side: int) -> nn.Module:
    grows = (1, 3, 14)
    return models.vision_transformers.create_multiscale_vision_transformers(
        spatial_size=32 * side, temporal_size=frames, depth=16, head_num_classes=classes,
        embed_dim_mul=[[at, 2.0] for at in grows], atten_head_mul=[[at, 2.0] for at in grows],
        pool_q_stride_size=[[at, 1, 2, 2] for at in grows], pool_kv_stride_adaptive=[1, 8, 8],
        pool_kvq_kernel=[3, 3, 3], dropout_rate_block=0.0, droppath_rate_block=0.0,
    )  # fmt: skip


_MAKERS: dict[str, Callable[..., nn.Module]] = {
    "i3d_r50": _i3d, "slowfast_r50": _slowfast, "x3d_s": _x3d_s, "mvit_b_16x4": _mvit,
}  # fmt: skip
