"""Exports of a trained recogniser in three formats: they say what a user must know, and give what the model gave."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import AdaptFocusError, ConfigError, InputError
from adaptfocus.trainers.backbones import build, load_pretrained
from adaptfocus.trainers.evaluation import export
from adaptfocus.trainers.evaluation.export import Recogniser, export_model
from adaptfocus.trainers.inputs.model_input import adapt_backbone
from adaptfocus.trainers.runs.log import Lineage, Run
from adaptfocus.trainers.settings.parts import InputConfig
from adaptfocus.trainers.settings.run import TrainConfig
from tests.trainers.backbones.small_backbones import clips_for, needs_library, small

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("one_thread")]
CLASSES = ["jump", "run", "sit"]


def trained_run(folder: Path, backbone: str = "small3d", **clip: int) -> tuple[str, torch.nn.Module]:
    """A run with one checkpoint at the end of epoch 0, and the model that is in it."""
    values = {"name": "a", "runs": str(folder), "index": "unused", "backbone": backbone, "clip": clip}
    config = TrainConfig.model_validate(values | {"input": {"motion": "difference"}})
    run = Run(config.url)
    store.write_bytes(run.at("config.json"), json.dumps(config.model_dump(mode="json")).encode())
    store.write_bytes(run.at("index.json"), json.dumps({"classes": CLASSES}).encode())
    torch.manual_seed(4)
    model = adapt_backbone(build(backbone, len(CLASSES)), config.input)
    lineage: Lineage = run.claim(1)[0]
    at = lineage.folder(0, 4)
    lineage.write_state(at, {"model": model.state_dict(), "optimiser": {}})
    lineage.commit(at, 0, 4, 4, None, {})
    return config.url, model.eval()


def probabilities(model: torch.nn.Module, clips: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return Recogniser(model, InputConfig(motion="difference"))(clips)


def pixels(count: int, frames: int = 8, size: int = 20) -> torch.Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.randint(0, 256, (count, frames, 3, size, size), dtype=torch.uint8, generator=generator)


def test_torch_weights_start_another_model_and_say_what_they_are(tmp_path: Path) -> None:
    url, model = trained_run(tmp_path)
    out = str(tmp_path / "model.pt")
    facts = export_model(url, out, "torch")
    assert facts["largest_difference"] < 1e-6
    other = build("small3d", 7)
    said = load_pretrained(other, out)
    assert said["classes"] == CLASSES
    assert said["input"]["frames"] == 8
    assert said["input"]["motion"] == "difference"
    assert torch.equal(other.body[0].weight, model.body[0].weight)
    weights = torch.load(out, weights_only=True)["state_dict"]
    assert torch.equal(weights["head.weight"], model.head.weight), "the trained head is there, for who wants it"


def test_a_program_needs_nothing_of_ours_and_takes_any_number_of_clips(tmp_path: Path) -> None:
    url, model = trained_run(tmp_path)
    export_model(url, str(tmp_path / "model.pt2"), "torch.export", epoch=0)
    files = {"adaptfocus.json": ""}
    program = torch.export.load(io.BytesIO((tmp_path / "model.pt2").read_bytes()), extra_files=files)
    assert json.loads(files["adaptfocus.json"])["classes"] == CLASSES
    clips = pixels(5)
    torch.testing.assert_close(program.module()(clips), probabilities(model, clips), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_onnx_gives_the_same_elsewhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    url, model = trained_run(tmp_path)
    export_model(url, str(tmp_path / "model.onnx"), "onnx")
    logged = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [*logged, *(str(each.message) for each in recwarn)] == [], "what torch says of itself is no news"
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["adaptfocus"])["input"]["size_pixels"] == 20
    clips = pixels(3)
    (given,) = session.run(["probabilities"], {"clips": clips.numpy()})
    np.testing.assert_allclose(given, probabilities(model, clips).numpy(), atol=1e-5)


def test_a_public_backbone_leaves_under_its_public_names(tmp_path: Path) -> None:
    url, model = trained_run(tmp_path, "i3d_r50", frames=4, size_pixels=32)
    export_model(url, str(tmp_path / "model.pt"), "torch")
    weights = torch.load(tmp_path / "model.pt", weights_only=True)["state_dict"]
    assert torch.equal(weights["blocks.6.proj.weight"], model.head.weight)
    assert not any(name.startswith(("head.", "module.", "_orig_mod.")) for name in weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slowfast_r50", "nonlocal_i3d_r50", "mvit_b_16x4", "x3d_s", "videomae_b"])
def test_every_kind_of_backbone_becomes_a_program(name: str) -> None:
    needs_library(name)
    model = small(name).eval()
    spec = model.input_spec
    recogniser, clips = Recogniser(model, InputConfig()).eval(), pixels(2, spec.frames, spec.size_pixels)
    data = export._write_program(recogniser, clips, {})
    with torch.inference_mode():
        wanted = recogniser(clips)
    torch.testing.assert_close(export._read_program(data, recogniser, clips), wanted, atol=1e-5, rtol=0)
    assert clips_for(model).shape[2] == spec.frames


def test_an_export_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, _ = trained_run(tmp_path)
    write, read = export.FORMATS["torch"]
    monkeypatch.setitem(export.FORMATS, "torch", (write, lambda *given: read(*given) + 0.01))
    with pytest.raises(AdaptFocusError, match=r"differ by 0.01 from those of the model; the limit is 1e-04"):
        export_model(url, str(tmp_path / "model.pt"), "torch")
    assert not (tmp_path / "model.pt").exists()


def test_what_torch_cannot_translate_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: object) -> bytes:
        raise RuntimeError("no such operator\nand a long trace")

    url, _ = trained_run(tmp_path)
    monkeypatch.setitem(export.FORMATS, "onnx", (fails, export.FORMATS["onnx"][1]))
    with pytest.raises(AdaptFocusError, match=r"small3d on clips of 8 x 20 .* onnx \(no such operator\); use format"):
        export_model(url, str(tmp_path / "m"), "onnx")


def test_what_cannot_be_exported_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, _ = trained_run(tmp_path)
    with pytest.raises(ConfigError, match=r"no format 'tflite'; choose one of: torch, torch.export, onnx"):
        export_model(url, str(tmp_path / "m"), "tflite")
    with pytest.raises(InputError, match="no weights from the end of epoch 4"):
        export_model(url, str(tmp_path / "m"), "torch", epoch=3)
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install 'adaptfocus\[onnx\]'"):
        export_model(url, str(tmp_path / "m"), "onnx")
