"""Files of weights are read in each form that they come in, or refused with what is wrong; none of them runs code."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import AdaptFocusError
from adaptfocus.trainers.backbones import MAKERS, build, load_pretrained
from adaptfocus.trainers.backbones.key_styles import public_state
from tests.trainers.backbones.public_files import save, save_blobs
from tests.trainers.backbones.small_backbones import clips_for, needs_library, small

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("one_thread")]


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
