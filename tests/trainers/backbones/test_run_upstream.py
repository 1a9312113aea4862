"""Our logits are those that upstream's code, or a transcription of it, gave for weights saved its way, recorded once.

`golden/run_upstream/STYLE-BACKBONE.txt` has what was run in its first line, the logits in its second, then the names
and shapes of the file. The weights and the clip are sines, worked out here as they were there.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adaptfocus.pipelines.errors import AdaptFocusError
from adaptfocus.trainers.backbones import BACKBONES, MAKERS, Backbone, load_pretrained, own_weights
from adaptfocus.trainers.backbones.key_styles import public_state, style_of_exports
from adaptfocus.trainers.backbones.mvit import MViT
from adaptfocus.trainers.backbones.resnet3d import NONLOCAL_AFTER, NonLocal, ResNet3D
from adaptfocus.trainers.backbones.slowfast import SlowFast
from adaptfocus.trainers.backbones.x3d import X3D
from tests.trainers.backbones.public_files import backbone_of, golden

pytestmark = pytest.mark.usefixtures("one_thread")
FOLDER = Path(__file__).parent / "golden" / "run_upstream"
BLOCK = "pytorchvideo-0.1.5-nonlocal_block"
NAMES = sorted({path.stem for path in FOLDER.glob("*.txt")} - {BLOCK})
FORMS = [name for name in NAMES if "0.1.5" not in name]  # of which runs and exports have to remember something
COPY = "._attention_pool_"


def waves(count: int, pace: float, shift: float = 0) -> torch.Tensor:
    return torch.sin(torch.arange(count, dtype=torch.float64) * pace + shift)


def file_of(name: str) -> dict[str, torch.Tensor]:
    file = weights_of(golden(f"run_upstream/{name}"))
    return {key: file[original(key)] for key in file}


def weights_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    file = {}
    for key, shape in shapes.items():
        wave = waves(torch.Size(shape).numel(), 0.7, zlib.crc32(key.encode()) % 1000).reshape(shape)
        if key.endswith("running_var"):
            wave = 1 + 0.25 * wave
        else:
            wave = 0.7 + 0.1 * wave if len(shape) == 1 and key.endswith("weight") else 0.1 * wave
        file[key] = wave.float()
    return file


def original(key: str) -> str:
    """``attn.pool_k.weight`` of ``attn._attention_pool_k.pool.weight``."""
    stem, found, tail = key.partition(COPY)
    letter, _, rest = tail.partition(".")
    part, _, end = rest.partition(".")
    return f"{stem}.{part}_{letter}.{end}" if found else key


def fresh(name: str) -> Backbone:
    backbone = backbone_of(name)
    spec = replace(BACKBONES[backbone].spec, frames=4, size_pixels=64)
    if "mvit" in name:
        model: Backbone = MViT(5, spec=spec, depth=24 if "_24_" in name else 16, width=16)
    elif "x3d" in name:
        model = X3D(5, depths=(1, 2, 5, 3))
    elif "slowfast_r50" in name:
        model = SlowFast(5, width=16)
    else:
        model = ResNet3D(5, width=16, **({"nonlocal_after": NONLOCAL_AFTER} if "nonlocal" in name else {}))
    model.key_styles = MAKERS[backbone].styles
    return model.eval()


def loaded(name: str, file: dict[str, torch.Tensor]) -> Backbone:
    """The model with a file's body, as training reads it, and its head, which training does not read."""
    model = fresh(name)
    prefix = MAKERS[backbone_of(name)].styles[0].head if "pytorchvideo" in name else "head.projection."
    head = {f"head.{part}": file[f"{prefix}{part}"] for part in ("weight", "bias")}
    model.load_state_dict(own_weights(model, dict(file), name, {}) | head, strict=False)
    return model.eval()


def clip(name: str) -> torch.Tensor:
    frames = 16 if "slowfast_r50" in name else 8 if "r50" in name else 4
    return waves(3 * frames * 64 * 64, 0.37).reshape(1, 3, frames, 64, 64).float()


def block_clip() -> torch.Tensor:
    return waves(2 * 32 * 3 * 8 * 6, 0.37).reshape(2, 32, 3, 8, 6).float()


def logits_of(name: str) -> torch.Tensor:
    line = (FOLDER / f"{name}.txt").read_text().splitlines()[1]
    return torch.tensor([[float(number) for number in line.removeprefix("# ").split()]])


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_logits_are_upstreams(name: str) -> None:
    """With an eps of 1e-5 in the norms of its pools, MViT's are off by 0.017."""
    wanted = logits_of(name)
    torch.testing.assert_close(loaded(name, file_of(name))(clip(name)), wanted, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_non_local_block_is_upstreams() -> None:
    block = NonLocal(32).eval()
    assert [key for key in block.load_state_dict(file_of(BLOCK), strict=False).missing_keys if "num_b" not in key] == []
    given = block(block_clip()).flatten()[None, ::101]
    torch.testing.assert_close(given, logits_of(BLOCK), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FORMS)
@torch.no_grad()
def test_runs_and_exports_keep_the_form_of_their_weights(name: str, tmp_path: Path) -> None:
    """A run's checkpoint is loaded into a fresh backbone, and so is what is given away."""
    model, again, given = loaded(name, file_of(name)), fresh(name), fresh(name)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(clip(name)), model(clip(name)))
    style = style_of_exports(model, model.key_styles)
    torch.save({"state_dict": public_state(model, style)}, tmp_path / "w.pt")
    load_pretrained(given, str(tmp_path / "w.pt"))
    assert torch.equal(given.forward_features(clip(name)), model.forward_features(clip(name)))
    if name.startswith("pyslowfast-x3d"):
        assert style.name == "PySlowFast", "pytorchvideo's X3D has no place for that norm"
    assert not any(norm.training for norm in given.modules() if isinstance(norm, torch.nn.BatchNorm3d))


def test_a_form_is_left_again_for_the_other(tmp_path: Path) -> None:
    """A backbone that took PySlowFast's form reads pytorchvideo's files afterwards."""
    for name in ("pyslowfast-x3d_s", "pyslowfast-mvit_b_24_32x3"):
        model, other = loaded(name, file_of(name)), fresh(name)
        before = {key: value.shape for key, value in other.state_dict().items()}
        assert {key: value.shape for key, value in model.state_dict().items()} != before
        model.load_state_dict(other.state_dict())
        assert {key: value.shape for key, value in model.state_dict().items()} == before


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("pyslowfast-x3d_s", "s2.pathway0_res0.branch1_bn.weight"),
        ("pyslowfast-mvit_b_24_32x3", "blocks.20.attn.pool_k.weight"),
        ("pyslowfast-mvit_b_16x4", "blocks.15.attn.norm_v.bias"),
        ("pytorchvideo-main-mvit_b_16x4", "blocks.15.attn.pool_v.weight"),
    ],
)
def test_a_weight_that_the_form_has_is_missed_by_name(name: str, key: str) -> None:
    file = file_of(name)
    del file[key]
    with pytest.raises(AdaptFocusError, match=f"missing: {key}"):
        own_weights(fresh(name), file, "a file", {})


def test_a_batch_norm_of_pyslowfasts_x3d_is_never_taken_for_absent() -> None:
    file = {key: value for key, value in file_of("pyslowfast-x3d_s").items() if "res0.branch1_bn" not in key}
    with pytest.raises(AdaptFocusError, match=r"missing: s2\.pathway0_res0\.branch1_bn\.bias"):
        own_weights(fresh("pyslowfast-x3d_s"), file, "a file", {})


def test_a_second_copy_of_a_pool_that_differs_is_refused() -> None:
    name = "pytorchvideo-main-mvit_b_16x4"
    file = file_of(name)
    file["blocks.3.attn._attention_pool_q.norm.bias"] = file["blocks.3.attn.norm_q.bias"] + 1
    with pytest.raises(AdaptFocusError, match=r"pool_q\.norm\.bias \(a copy that differs from blocks\.3\.attn\.norm_q"):
        own_weights(fresh(name), file, "a file", {})


def test_the_first_name_of_the_norm_in_non_local_blocks_is_read_as_well() -> None:
    name = "pyslowfast-nonlocal_i3d_r50"
    file = file_of(name)
    first = {(k.replace(".bn.", ".norm.") if "nonlocal" in k else k): v for k, v in file.items()}
    assert first.keys() != file.keys()
    now, then = own_weights(fresh(name), file, "a file", {}), own_weights(fresh(name), first, "a file", {})
    assert all(torch.equal(now[key], then[key]) for key in now)
    with pytest.raises(AdaptFocusError, match=r"unexpected: s3\.pathway0_nonlocal1\.norm\.bias"):
        own_weights(fresh(name), file | first, "a file", {})
