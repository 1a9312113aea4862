"""Public checkpoints, in every style of names that they come in, land in the right places, or are refused by name.

`golden/STYLE-BACKBONE.txt` lists the names and shapes of such a file; its first line says where they were taken from.
In the files made here each weight holds a different number, so that a weight in a wrong place is seen.
"""

from __future__ import annotations

import io
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import AdaptFocusError
from adaptfocus.trainers.backbones import BACKBONES, MAKERS, build, load_pretrained, own_weights
from adaptfocus.trainers.backbones.key_styles import COUNTER, public_state
from tests.trainers.backbones.small_backbones import clips_for, needs_library, small

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("one_thread")]
GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(path.stem for path in GOLDEN.glob("*.txt"))


def golden(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a golden list; ``a.{b,c} 2x3`` stands for two weights."""
    shapes: dict[str, tuple[int, ...]] = {}
    for line in (GOLDEN / f"{name}.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        pattern, size = line.split()
        stem, _, tails = pattern.partition("{")
        for tail in tails.removesuffix("}").split(","):
            shapes[stem + tail] = tuple(map(int, size.split("x")))
    return shapes


def backbone_of(name: str) -> str:
    return next(backbone for backbone in BACKBONES if name.endswith(f"-{backbone}"))


def file_of(name: str) -> dict[str, torch.Tensor]:
    """A public file: each weight holds one number everywhere, in no memory, and a fused weight holds three."""
    file = {}
    for number, (key, shape) in enumerate(golden(name).items()):
        if fused_in(name) and ".attn.qkv." in key:
            file[key] = torch.cat([torch.full((shape[0] // 3, *shape[1:]), number + part) for part in (0.0, 0.25, 0.5)])
        else:
            file[key] = torch.tensor(float(number)).expand(shape)
    for key in file.keys() & second_copies(name).keys():
        file[key] = file[second_copies(name)[key]]
    return file


def second_copies(name: str) -> dict[str, str]:
    """The names that pytorchvideo's main saves twice -> the weights that they repeat."""
    again = re.compile(r"_attention_pool_([qkv])\.(pool|norm)\.")
    return {key: again.sub(r"\2_\1.", key) for key in golden(name) if again.search(key)}


def whole_model(name: str) -> torch.nn.Module:
    """The backbone of a golden list, in full and without memory."""
    needs_library(backbone_of(name))
    with torch.device("meta"):
        return build(backbone_of(name), 3)


def fused_in(name: str) -> bool:
    return name.startswith(("pyslowfast-mvit", "torchvision"))


def save(url: Path, content: object) -> str:
    torch.save(content, url)
    return str(url)


def save_blobs(url: Path, content: object) -> str:
    """A Caffe2 pickle as Python 2 wrote it: numpy's old names."""
    url.write_bytes(pickle.dumps(content, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    return str(url)


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


def small_nonlocal() -> torch.nn.Module:
    return small("nonlocal_i3d_r50")


def blobs_of(model: torch.nn.Module) -> dict[str, Any]:
    """A Caffe2 file of a model's weights, with the other contents of such files."""
    state = public_state(model, MAKERS["nonlocal_i3d_r50"].styles[1])
    blobs: dict[str, Any] = {key: v.numpy() for key, v in state.items() if not key.endswith("num_batches_tracked")}
    blobs |= {f"{key}_momentum": np.zeros(2, np.float32) for key in list(blobs)[:3]}
    return blobs | {"lr": np.float32(0.1), "model_iter": np.int64(7), "pred_w": np.zeros((400, 8), np.float32)}


def test_a_caffe2_file_is_read(tmp_path: Path) -> None:
    source, model = small_nonlocal(), small_nonlocal()
    for weight in model.parameters():
        weight.data.zero_()
    load_pretrained(model, save_blobs(tmp_path / "w.pkl", {"blobs": blobs_of(source)}))
    x = clips_for(model)
    assert torch.equal(model.forward_features(x), source.forward_features(x))
    assert not model.head.weight.any(), "the head is replaced on purpose"


def test_what_is_missing_left_over_or_of_another_shape_is_listed_by_its_public_name(tmp_path: Path) -> None:
    """A loader that skips unknown names would train on fresh weights without saying so."""
    model = small_nonlocal()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    blobs = blobs_of(small_nonlocal())
    del blobs["nonlocal_conv3_1_bn_s"]
    blobs["res9_0_branch1_w"] = np.zeros(3, np.float32)
    blobs["conv1_w"] = np.zeros((16, 3, 1, 7, 7), np.float32)
    with pytest.raises(AdaptFocusError) as caught:
        load_pretrained(model, save_blobs(tmp_path / "w.pkl", {"blobs": blobs}))
    for part in (
        "missing: nonlocal_conv3_1_bn_s;",
        "unexpected: res9_0_branch1_w;",
        "conv1_w is (16, 3, 1, 7, 7), wanted",
        "the style Caffe2",
    ):
        assert part in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()), "nothing is loaded"


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_names_are_taken_off(wrapper: str, tmp_path: Path) -> None:
    source, model = build("small3d", 4), build("small3d", 3)
    state = {wrapper + key: value for key, value in source.state_dict().items()}
    load_pretrained(model, save(tmp_path / "w.pyth", {"model_state": state, "epoch": 3}))
    assert torch.equal(model.body[3].weight, source.body[3].weight)


def test_videomaes_biases_of_queries_and_values_are_loaded_or_missed(tmp_path: Path) -> None:
    """`load_state_dict(strict=False)` on the published names leaves them at zero, in silence."""
    source, model = small("videomae_b"), small("videomae_b")
    from safetensors.torch import save_file

    key = "videomae.encoder.layer.1.attention.attention.q_bias"
    state = public_state(source, source.key_styles[0])
    for weight in model.parameters():
        weight.data.zero_()
    save_file(state, tmp_path / "model.safetensors")
    load_pretrained(model, str(tmp_path / "model.safetensors"))
    x = clips_for(model)
    assert torch.equal(model.forward_features(x), source.forward_features(x))
    assert torch.equal(model.get_submodule(key.removesuffix(".q_bias")).query.bias, state.pop(key))
    with pytest.raises(AdaptFocusError, match=rf"missing: {key}\. Choose"):
        load_pretrained(model, save(tmp_path / "pytorch_model.bin", state))


def test_weights_for_16_frames_start_a_model_of_32(tmp_path: Path) -> None:
    with torch.device("meta"):
        source, model = build("mvit_b_16x4", 4), build("mvit_b_32x3", 3)
    state = dict(source.state_dict())
    key = "cls_positional_encoding.pos_embed_temporal"
    state[key] = torch.arange(8.0).view(1, 8, 1).expand(1, 8, 96)
    times = own_weights(model, state, "a file", {})[key][0, :, 7]
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
        {"blobs": {"conv1_w": store.read_bytes}},
    ],
)
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(content: object, tmp_path: Path) -> None:
    Path("/tmp/adaptfocus-was-here").unlink(missing_ok=True)
    url = save_blobs(tmp_path / "w.pkl", content)
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
        store.write_bytes(url, data)
        with pytest.raises(
            AdaptFocusError, match=r"not a Caffe2 weights file that is safe to read: (it asks|the encoding)"
        ):
            load_pretrained(build("small3d", 3), url)


def test_files_of_another_kind_are_told_apart(tmp_path: Path) -> None:
    model = build("small3d", 3)
    with pytest.raises(AdaptFocusError, match="a pickle without blobs"):
        load_pretrained(model, save_blobs(tmp_path / "w.pkl", {"weights": 3}))
    broken = tmp_path / "w.safetensors"
    broken.write_bytes((20).to_bytes(8, "little") + b"{" + b"x" * 40)
    needs_library("videomae_b")
    with pytest.raises(AdaptFocusError, match="broken safetensors file"):
        load_pretrained(model, str(broken))


def test_weights_come_from_a_store(s3_url: str) -> None:
    source, model = build("small3d", 4), build("small3d", 3)
    data = io.BytesIO()
    torch.save({"state_dict": source.state_dict()}, data)
    store.write_bytes(f"{s3_url}/w.pt", data.getvalue())
    load_pretrained(model, f"{s3_url}/w.pt")
    assert torch.equal(model.body[0].weight, source.body[0].weight)
