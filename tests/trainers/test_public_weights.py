"""Public checkpoints, in every style of names that they come in, land in the right places, or are refused by name.

`golden/STYLE-BACKBONE.txt` lists the names and shapes of such a file; its first line says where they were taken from.
The files made here hold numbers that depend on the name alone, so that a weight in a wrong place is seen.
"""

from __future__ import annotations

import io
import os
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines import storage
from pipelines.errors import AdaptFocusError
from tests.trainers.small_backbones import needs_library
from trainers.backbones import BACKBONES, build, load_pretrained
from trainers.backbones.key_styles import COUNTER, HEAD_PREFIX, public_state

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("one_thread")]
GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(path.stem for path in GOLDEN.glob("*.txt"))


def golden(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a golden list; ``a.{b,c} 2x3`` stands for two weights."""
    shapes: dict[str, tuple[int, ...]] = {}
    for line in (GOLDEN / f"{name}.txt").read_text().splitlines()[1:]:
        pattern, size = line.split()
        stem, _, tails = pattern.partition("{")
        for tail in tails.removesuffix("}").split(","):
            shapes[stem + tail] = tuple(map(int, size.split("x")))
    return shapes


def backbone_of(name: str) -> str:
    return next(backbone for backbone in BACKBONES if name.endswith(f"-{backbone}"))


def value_of(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Numbers that tell this weight from all others."""
    start = zlib.crc32(name.encode()) % 1000 / 1000
    return torch.full(shape, start).flatten().add_(torch.arange(int(np.prod(shape))) % 97 / 97).view(shape)


def model_and_file(name: str) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    backbone = backbone_of(name)
    needs_library(backbone)
    shapes = golden(name)
    model = build(backbone, 3)
    return model, {key: value_of(key, shape) for key, shape in shapes.items()}


def save(url: Path, content: object) -> str:
    torch.save(content, url)
    return str(url)


class Blobs:
    """A Caffe2 pickle as Python 2 wrote it: texts of bytes, arrays by numpy's old names."""

    @staticmethod
    def save(url: Path, content: object) -> str:
        data = pickle.dumps(content, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        url.write_bytes(data)
        return str(url)


@pytest.mark.parametrize("name", FILES)
def test_a_public_file_lands_weight_by_weight(name: str, tmp_path: Path) -> None:
    model, file = model_and_file(name)
    fresh = model.head.weight.detach().clone()
    if name.startswith("caffe2"):
        blobs = {key: value.numpy() for key, value in file.items()}
        blobs |= {f"{key}_momentum": np.zeros(2, np.float32) for key in list(blobs)[:3]}
        url = Blobs.save(tmp_path / "w.pkl", {"blobs": blobs | {"lr": np.float32(0.1), "model_iter": np.int64(7)}})
    elif name.startswith("transformers"):
        from safetensors.torch import save_file

        save_file(file, tmp_path / "model.safetensors")
        url = str(tmp_path / "model.safetensors")
    else:
        wrapped = {f"module.{key}": value for key, value in file.items()} if name.startswith("pyslowfast") else file
        content = {"model_state": wrapped, "epoch": 3} if name.startswith(("pytorchvideo", "pyslowfast")) else wrapped
        url = save(tmp_path / "w.pyth", content)
    load_pretrained(model, url)
    assert torch.equal(model.head.weight, fresh), "the head is replaced on purpose"
    own = {k: v for k, v in model.state_dict().items() if not k.startswith(HEAD_PREFIX) and not k.endswith(COUNTER)}
    body = {k: v for k, v in file.items() if not k.startswith((*HEADS, "predictor."))}
    sent = [part for k, v in body.items() for part in (v.chunk(3) if ".attn.qkv." in k and fused_in(name) else [v])]
    assert sorted(map(mark, own.values())) == sorted(map(mark, sent)), "each weight once, and nothing else"
    for ours, theirs in PLACES.get(name, {}).items():
        assert torch.equal(own[ours].flatten(), file[theirs].flatten()), (ours, theirs)
    if name not in PLACES:  # our names are theirs
        assert all(torch.equal(own[renamed(k)], v) for k, v in body.items())


HEADS = (
    "head.projection.",
    "blocks.6.proj.",
    "blocks.5.proj.",
    "head.proj.",
    "head.1.",
    "logits.",
    "pred_",
    "classifier.",
)


def fused_in(name: str) -> bool:
    return name.startswith(("pyslowfast-mvit", "torchvision"))


def mark(value: torch.Tensor) -> tuple[float, ...]:
    """What tells a weight from others, whatever its shape's ones are."""
    return (value.numel(), *value.flatten()[:3].tolist(), float(value.double().sum()))


def renamed(key: str) -> str:
    return key.replace("q_bias", "query.bias").replace("v_bias", "value.bias")


# By hand, a weight of each kind: ours, theirs.
_RESNET = {
    "blocks.0.conv.weight": "s1.pathway0_stem.conv.weight",
    "blocks.0.norm.running_var": "s1.pathway0_stem.bn.running_var",
    "blocks.1.res_blocks.0.branch1_conv.weight": "s2.pathway0_res0.branch1.weight",
    "blocks.3.res_blocks.0.branch1_norm.bias": "s3.pathway0_res0.branch1_bn.bias",
    "blocks.4.res_blocks.5.branch2.conv_b.weight": "s4.pathway0_res5.branch2.b.weight",
    "blocks.5.res_blocks.2.branch2.norm_c.running_mean": "s5.pathway0_res2.branch2.c_bn.running_mean",
    "blocks.3.nonlocal_blocks.1.conv_theta.weight": "s3.pathway0_nonlocal1.conv_theta.weight",
    "blocks.4.nonlocal_blocks.5.norm.weight": "s4.pathway0_nonlocal5.norm.weight",
}
PLACES: dict[str, dict[str, str]] = {
    "pyslowfast-nonlocal_i3d_r50": _RESNET,
    "caffe2-nonlocal_i3d_r50": dict(zip(_RESNET, (
        "conv1_w", "res_conv1_bn_riv", "res2_0_branch1_w", "res3_0_branch1_bn_b", "res4_5_branch2b_w",
        "res5_2_branch2c_bn_rm", "nonlocal_conv3_1_theta_w", "nonlocal_conv4_5_bn_s",
    ), strict=True)),
    "pyslowfast-slowfast_r50": {
        "blocks.0.multipathway_blocks.1.conv.weight": "s1.pathway1_stem.conv.weight",
        "blocks.0.multipathway_fusion.norm.running_mean": "s1_fuse.bn.running_mean",
        "blocks.2.multipathway_fusion.conv_fast_to_slow.weight": "s3_fuse.conv_f2s.weight",
        "blocks.1.multipathway_blocks.0.res_blocks.0.branch1_conv.weight": "s2.pathway0_res0.branch1.weight",
        "blocks.4.multipathway_blocks.1.res_blocks.2.branch2.norm_a.weight": "s5.pathway1_res2.branch2.a_bn.weight",
    },
    "caffe2-slowfast_r50": {
        "blocks.0.multipathway_blocks.1.conv.weight": "t_conv1_w",
        "blocks.0.multipathway_blocks.1.norm.bias": "t_res_conv1_bn_b",
        "blocks.0.multipathway_fusion.norm.running_mean": "t_pool1_subsample_bn_rm",
        "blocks.2.multipathway_fusion.conv_fast_to_slow.weight": "t_res3_3_branch2c_bn_subsample_w",
        "blocks.3.multipathway_fusion.norm.running_var": "t_res4_5_branch2c_bn_subsample_bn_riv",
        "blocks.1.multipathway_blocks.0.res_blocks.0.branch1_conv.weight": "res2_0_branch1_w",
        "blocks.4.multipathway_blocks.1.res_blocks.2.branch2.norm_a.weight": "t_res5_2_branch2a_bn_s",
    },
    "pyslowfast-x3d_s": {
        "blocks.0.conv.conv_t.weight": "s1.pathway0_stem.conv_xy.weight",  # 1x3x3, whatever it is called
        "blocks.0.conv.conv_xy.weight": "s1.pathway0_stem.conv.weight",
        "blocks.1.res_blocks.0.branch1_conv.weight": "s2.pathway0_res0.branch1.weight",
        "blocks.2.res_blocks.2.branch2.norm_b.0.running_var": "s3.pathway0_res2.branch2.b_bn.running_var",
        "blocks.2.res_blocks.1.branch2.norm_b.0.bias": "s3.pathway0_res1.branch2.b_bn.bias",
        "blocks.3.res_blocks.10.branch2.norm_b.1.block.0.weight": "s4.pathway0_res10.branch2.se.fc1.weight",
        "blocks.4.res_blocks.6.branch2.norm_b.1.block.2.bias": "s5.pathway0_res6.branch2.se.fc2.bias",
        "blocks.5.pool.pre_norm.weight": "head.conv_5_bn.weight",
        "blocks.5.pool.post_conv.weight": "head.lin_5.weight",
    },
    "pyslowfast-mvit_b_16x4": {
        "patch_embed.patch_model.bias": "patch_embed.proj.bias",
        "cls_positional_encoding.cls_token": "cls_token",
        "cls_positional_encoding.pos_embed_class": "pos_embed_class",
        "blocks.3.attn.pool_q.weight": "blocks.3.attn.pool_q.weight",
        "blocks.13.proj.weight": "blocks.13.proj.weight",
        "norm_embed.weight": "norm.weight",
    },
    "torchvision-mvit_b_16x4": {
        "patch_embed.patch_model.weight": "conv_proj.weight",
        "cls_positional_encoding.cls_token": "pos_encoding.class_token",
        "cls_positional_encoding.pos_embed_spatial": "pos_encoding.spatial_pos",
        "cls_positional_encoding.pos_embed_class": "pos_encoding.class_pos",
        "blocks.3.attn.pool_q.weight": "blocks.3.attn.pool_q.pool.weight",
        "blocks.5.attn.norm_v.bias": "blocks.5.attn.pool_v.norm_act.0.bias",
        "blocks.5.attn.proj.weight": "blocks.5.attn.project.0.weight",
        "blocks.0.mlp.fc2.weight": "blocks.0.mlp.3.weight",
        "blocks.13.proj.weight": "blocks.13.project.weight",
        "norm_embed.weight": "norm.weight",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ["pyslowfast-mvit_b_16x4", "torchvision-mvit_b_16x4"])
def test_fused_projections_are_split_into_queries_keys_and_values(name: str, tmp_path: Path) -> None:
    model, file = model_and_file(name)
    load_pretrained(model, save(tmp_path / "w.pth", file))
    fused = file["blocks.2.attn.qkv.weight"]
    for number, letter in enumerate("qkv"):
        layer = model.get_submodule(f"blocks.2.attn.{letter}")
        assert torch.equal(layer.weight, fused[number * 192 : (number + 1) * 192]), letter


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith(("caffe2", "torchvision"))])
def test_exports_have_the_public_names(name: str) -> None:
    """What a run gives away can be read by whoever reads the public file."""
    model, file = model_and_file(name)
    style = model.key_styles[0]
    ours = {key for key in public_state(model, style) if not key.endswith(COUNTER)}
    if name.startswith(("pyslowfast", "transformers-vjepa2")) and "nonlocal" not in name:
        return  # read, not written: the library's own style is the first
    assert ours == set(file)


def test_wrappers_names_are_taken_off(tmp_path: Path) -> None:
    source, model = build("i3d_r50", 4), build("i3d_r50", 3)
    state = {f"module._orig_mod.{key}": value for key, value in source.state_dict().items()}
    load_pretrained(model, save(tmp_path / "w.pt", {"state_dict": state}))
    assert torch.equal(
        model.blocks[5].res_blocks[2].branch2.conv_c.weight,
        state["module._orig_mod.blocks.5.res_blocks.2.branch2.conv_c.weight"],
    )


def test_what_is_missing_left_over_or_of_another_shape_is_listed_by_its_public_name(tmp_path: Path) -> None:
    """A loader that skips what it does not know would train on fresh weights, and say nothing."""
    model, file = model_and_file("caffe2-nonlocal_i3d_r50")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    blobs: dict[str, Any] = {key: value.numpy() for key, value in file.items()}
    del blobs["nonlocal_conv3_1_bn_s"]
    blobs["res9_0_branch1_w"] = np.zeros(3, np.float32)
    blobs["conv1_w"] = np.zeros((64, 3, 1, 7, 7), np.float32)
    with pytest.raises(AdaptFocusError) as caught:
        load_pretrained(model, Blobs.save(tmp_path / "w.pkl", {"blobs": blobs}))
    for part in (
        "missing: nonlocal_conv3_1_bn_s;",
        "unexpected: res9_0_branch1_w;",
        "conv1_w is (64, 3, 1, 7, 7), wanted",
        "the style Caffe2",
    ):
        assert part in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()), "nothing is loaded"


def test_videomaes_biases_of_queries_and_values_are_loaded_or_missed(tmp_path: Path) -> None:
    """`load_state_dict(strict=False)` on the published names leaves them at zero, in silence."""
    model, file = model_and_file("transformers-videomae_b")
    key = "videomae.encoder.layer.3.attention.attention.q_bias"
    load_pretrained(model, save(tmp_path / "pytorch_model.bin", file))
    assert torch.equal(model.get_submodule("videomae.encoder.layer.3.attention.attention.query").bias, file[key])
    del file[key]
    with pytest.raises(AdaptFocusError, match=r"missing: videomae.encoder.layer.3.attention.attention.q_bias"):
        load_pretrained(model, save(tmp_path / "pytorch_model.bin", file))


def test_weights_for_16_frames_start_a_model_of_32(tmp_path: Path) -> None:
    source, model = build("mvit_b_16x4", 4), build("mvit_b_32x3", 3)
    with torch.no_grad():
        source.cls_positional_encoding.pos_embed_temporal.copy_(torch.arange(8.0).view(1, 8, 1).expand(1, 8, 96))
    load_pretrained(model, save(tmp_path / "w.pt", {"state_dict": source.state_dict()}))
    times = model.cls_positional_encoding.pos_embed_temporal[0, :, 7]
    # 8 times at 0 to 7 spread over 16: -0.25, 0.25, 0.75 ... 7.25, held at the ends
    torch.testing.assert_close(times, (torch.arange(16) / 2 - 0.25).clamp(0, 7))


class Malicious:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/adaptfocus-was-here",)


@pytest.mark.parametrize(
    "content",
    [
        {"blobs": {"conv1_w": Malicious()}},
        {"blobs": {"conv1_w": np.array([Malicious()], dtype=object)}},
        Malicious(),
        {"blobs": {"conv1_w": print}},
        {"blobs": {"conv1_w": storage.read_bytes}},
    ],
)
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(content: object, tmp_path: Path) -> None:
    Path("/tmp/adaptfocus-was-here").unlink(missing_ok=True)
    url = Blobs.save(tmp_path / "w.pkl", content)
    with pytest.raises(
        AdaptFocusError, match=r"not a Caffe2 weights file that is safe to read: it asks for .*numpy arrays"
    ):
        load_pretrained(build("small3d", 3), url)
    assert not Path("/tmp/adaptfocus-was-here").exists()


def test_names_that_look_allowed_are_not(tmp_path: Path) -> None:
    """A dotted global reaches attributes of what is allowed, in protocol 4; an encoding other than latin1 is code."""
    for data in (
        b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__base__\x93.",
        b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00zlibtR.".replace(
            b"\x03\x00\x00\x00zlib", b"\x04\x00\x00\x00zlib"
        ),
    ):
        url = str(tmp_path / "w.pkl")
        storage.write_bytes(url, data)
        with pytest.raises(
            AdaptFocusError, match=r"not a Caffe2 weights file that is safe to read: (it asks|the encoding)"
        ):
            load_pretrained(build("small3d", 3), url)


def test_files_of_another_kind_are_told_apart(tmp_path: Path) -> None:
    model = build("small3d", 3)
    with pytest.raises(AdaptFocusError, match="a pickle without blobs"):
        load_pretrained(model, Blobs.save(tmp_path / "w.pkl", {"weights": 3}))
    broken = tmp_path / "w.safetensors"
    broken.write_bytes((20).to_bytes(8, "little") + b"{" + b"x" * 40)
    needs_library("videomae_b")
    with pytest.raises(AdaptFocusError, match="broken safetensors file"):
        load_pretrained(model, str(broken))


def test_weights_come_from_a_store(s3_url: str) -> None:
    source, model = build("small3d", 4), build("small3d", 3)
    data = io.BytesIO()
    torch.save({"state_dict": source.state_dict()}, data)
    storage.write_bytes(f"{s3_url}/w.pt", data.getvalue())
    load_pretrained(model, f"{s3_url}/w.pt")
    assert torch.equal(model.body[0].weight, source.body[0].weight)
