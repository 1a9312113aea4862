"""Public checkpoints, in every style of names that they come in, land weight by weight in the right places."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adaptfocus.trainers.backbones import build, own_weights
from adaptfocus.trainers.backbones.key_styles import COUNTER, public_state
from tests.trainers.backbones.public_files import FILES, file_of, fused_in, golden, second_copies, whole_model

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("one_thread")]


@pytest.mark.parametrize("name", FILES)
def test_a_public_file_lands_weight_by_weight(name: str) -> None:
    model, file = whole_model(name), file_of(name)
    own = own_weights(model, dict(file), name, {})
    wanted = {
        k: v.shape for k, v in model.state_dict().items() if not k.startswith("head.") and not k.endswith(COUNTER)
    }
    assert {key: value.shape for key, value in own.items()} == wanted
    left_out = second_copies(name)
    body = {k: v for k, v in file.items() if not k.startswith((*HEADS, "predictor.")) and k not in left_out}
    sent = [part for k, v in body.items() for part in (v.chunk(3) if ".attn.qkv." in k and fused_in(name) else [v])]
    assert sorted(map(mark, own.values())) == sorted(map(mark, sent)), "each weight once, and nothing else"
    for ours, theirs in PLACES.get(name, {}).items():
        assert mark(own[ours]) == mark(file[theirs]), (ours, theirs)
    if name not in PLACES:  # our names are theirs
        assert all(mark(own[renamed(k)]) == mark(v) for k, v in body.items())


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


def mark(value: torch.Tensor) -> float:
    """The number that identifies a weight."""
    return float(value.flatten()[0])


def renamed(key: str) -> str:
    return key.replace("q_bias", "query.bias").replace("v_bias", "value.bias")


# A weight of each kind, by hand: our name, their name.
_RESNET = {
    "blocks.0.conv.weight": "s1.pathway0_stem.conv.weight",
    "blocks.0.norm.running_var": "s1.pathway0_stem.bn.running_var",
    "blocks.1.res_blocks.0.branch1_conv.weight": "s2.pathway0_res0.branch1.weight",
    "blocks.3.res_blocks.0.branch1_norm.bias": "s3.pathway0_res0.branch1_bn.bias",
    "blocks.4.res_blocks.5.branch2.conv_b.weight": "s4.pathway0_res5.branch2.b.weight",
    "blocks.5.res_blocks.2.branch2.norm_c.running_mean": "s5.pathway0_res2.branch2.c_bn.running_mean",
    "blocks.3.nonlocal_blocks.1.conv_theta.weight": "s3.pathway0_nonlocal1.conv_theta.weight",
    "blocks.4.nonlocal_blocks.5.norm.weight": "s4.pathway0_nonlocal5.bn.weight",
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
        "blocks.1.res_blocks.0.branch1_norm.running_var": "s2.pathway0_res0.branch1_bn.running_var",
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
    "pyslowfast-mvit_b_24_32x3": {
        "cls_positional_encoding.pos_embed_spatial": "pos_embed_spatial",
        "blocks.20.attn.pool_k.weight": "blocks.20.attn.pool_k.weight",
        "blocks.21.attn.norm_q.bias": "blocks.21.attn.norm_q.bias",
        "blocks.20.proj.weight": "blocks.20.proj.weight",
        "norm_embed.bias": "norm.bias",
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
def test_fused_projections_are_split_into_queries_keys_and_values(name: str) -> None:
    model, file = whole_model(name), file_of(name)
    own = own_weights(model, dict(file), name, {})
    first = mark(file["blocks.2.attn.qkv.weight"])
    found = [mark(own[f"blocks.2.attn.{letter}.weight"]) - first for letter in "qkv"]
    assert found == [0, 0.25, 0.5]


@pytest.mark.parametrize(
    "name", [name for name in FILES if not name.startswith(("caffe2", "torchvision", "pyslowfast-s"))]
)
def test_exports_have_the_public_names(name: str) -> None:
    """Any program that reads the public file can read the export of a run."""
    model = whole_model(name)
    own_weights(model, file_of(name), name, {})  # so that the model takes the form of the file
    style = next(each for each in model.key_styles if name.startswith(each.name.lower()))
    ours = {key for key in public_state(model, style) if not key.endswith(COUNTER)}
    theirs = set(golden(name)) - set(second_copies(name))
    if fused_in(name):
        theirs = {key.replace(".qkv.", f".{letter}.") for key in theirs for letter in "qkv"}  # written apart
    if "vjepa2" in name:  # only the encoder, under the name that it has in the classifier
        theirs = {f"vjepa2.{key}" for key in theirs if key.startswith("encoder.")}
        theirs |= {"classifier.weight", "classifier.bias"}
    assert ours == theirs


def test_weights_for_16_frames_start_a_model_of_32(tmp_path: Path) -> None:
    with torch.device("meta"):
        source, model = build("mvit_b_16x4", 4), build("mvit_b_32x3", 3)
    state = dict(source.state_dict())
    key = "cls_positional_encoding.pos_embed_temporal"
    state[key] = torch.arange(8.0).view(1, 8, 1).expand(1, 8, 96)
    times = own_weights(model, state, "a file", {})[key][0, :, 7]
    # 8 times at 0 to 7 spread over 16: -0.25, 0.25, 0.75 ... 7.25, held at the ends
    torch.testing.assert_close(times, (torch.arange(16) / 2 - 0.25).clamp(0, 7))
