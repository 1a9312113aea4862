"""Records outputs of pytorchvideo 0.1.5, so that tests do not need it: its last release is from 2022.

    pip install pytorchvideo==0.1.5
    python -m tests.trainers.backbones.record_upstream

Writes `golden/run_upstream/pytorchvideo-0.1.5-*.txt`, whose form and weights are those of `test_run_upstream`.
"""

from __future__ import annotations

import importlib
from itertools import groupby
from typing import Any

import torch
from torch import nn

from benchmarks.stepping.library_models import pytorchvideo_models
from tests.trainers.backbones.test_run_upstream import BLOCK, FOLDER, block_clip, clip, weights_of

RELEASE = "pytorchvideo-0.1.5"
CLASSES = 5


def i3d(models: Any) -> nn.Module:
    kernels = ((3, 1, 1), [(3, 1, 1), (1, 1, 1)], [(3, 1, 1), (1, 1, 1)], [(1, 1, 1), (3, 1, 1)])
    return models.resnet.create_resnet(
        stem_dim_out=16, model_num_class=CLASSES, stem_conv_kernel_size=(5, 7, 7), stage1_pool=nn.MaxPool3d,
        stage_conv_a_kernel_size=kernels, head_pool_kernel_size=(4, 2, 2),
    )  # fmt: skip


def slowfast(models: Any) -> nn.Module:
    return models.slowfast.create_slowfast(
        model_num_class=CLASSES, stem_dim_outs=(16, 2), head_pool_kernel_sizes=((4, 2, 2), (16, 2, 2))
    )


def x3d(models: Any) -> nn.Module:
    return importlib.import_module("pytorchvideo.models.x3d").create_x3d(
        model_num_class=CLASSES, input_clip_length=4, input_crop_size=64, depth_factor=1.0, head_activation=None
    )


def mvit(models: Any, depth: int, grows: tuple[int, ...], kernel: list[int] | None) -> nn.Module:
    """24 layers grow where PySlowFast's MVIT_B_32x3_CONV.yaml says; the norms of pools have the eps of newer code."""
    model = models.vision_transformers.create_multiscale_vision_transformers(
        spatial_size=64, temporal_size=4, depth=depth, patch_embed_dim=16, head_num_classes=CLASSES,
        embed_dim_mul=[[at, 2.0] for at in grows], atten_head_mul=[[at, 2.0] for at in grows],
        pool_q_stride_size=[[at, 1, 2, 2] for at in grows], pool_kv_stride_adaptive=[1, 8, 8],
        pool_kvq_kernel=kernel,
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6  # 1e-5 in pools of 0.1.5; 1e-6 in pytorchvideo's main, PySlowFast and torchvision
    return model


def write(name: str, what: str, model: nn.Module, *shown: Any, sampled: bool = False) -> None:
    """Run a model on weights that are computed from their names, and write its output."""
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items() if value.is_floating_point()}
    model.load_state_dict(weights_of(shapes), strict=False)
    with torch.no_grad():
        given = model.eval()(*shown)
    numbers = given.flatten()[::101] if sampled else given[0]
    lines = [f"# {what}", "# " + " ".join(f"{number:.7g}" for number in numbers.tolist())]
    for (stem, shape), group in groupby(shapes.items(), lambda item: (item[0].rpartition(".")[0], item[1])):
        tails = [key.rpartition(".")[2] for key, _ in group]
        tail = tails[0] if len(tails) == 1 else "{" + ",".join(tails) + "}"
        lines.append(f"{stem}.{tail} ".lstrip(".") + "x".join(map(str, shape)))
    (FOLDER / f"{RELEASE}-{name}.txt").write_text("\n".join(lines) + "\n")


def main() -> None:
    models = pytorchvideo_models()
    assert models is not None, "pip install pytorchvideo==0.1.5"
    version = f"pytorchvideo 0.1.5, torch {torch.__version__.partition('+')[0]}"
    write("i3d_r50", f"{version}: create_resnet as of I3D, stem_dim_out 16", i3d(models), clip("i3d_r50"))
    fast = clip("slowfast_r50")
    slow = fast[:, :, torch.linspace(0, 15, 4).long()]  # as PySlowFast's pack_pathway_output takes them
    write(
        "slowfast_r50",
        f"{version}: create_slowfast, stem_dim_outs 16 and 2",
        slowfast(models),
        [slow, fast.clone()],
    )
    write("x3d_s", f"{version}: create_x3d, depth_factor 1", x3d(models), clip("x3d_s"))
    for name, depth, grows, kernel in (
        ("mvit_b_16x4", 16, (1, 3, 14), [3, 3, 3]),
        ("mvit_b_24_32x3", 24, (2, 5, 21), [3, 3, 3]),
        ("no-kernels-mvit_b_24_32x3", 24, (2, 5, 21), None),
    ):
        what = f"{version}: create_multiscale_vision_transformers, patch_embed_dim 16, eps 1e-6, kernels {kernel}"
        write(name, what, mvit(models, depth, grows, kernel), clip(name))
    layers = importlib.import_module("pytorchvideo.layers.nonlocal_net")
    block = layers.create_nonlocal(dim_in=32, dim_inner=16, pool_size=(1, 2, 2))
    what = f"{version}: create_nonlocal; each 101st number that it gives"
    write(BLOCK.removeprefix(f"{RELEASE}-"), what, block, block_clip(), sampled=True)


if __name__ == "__main__":
    main()
