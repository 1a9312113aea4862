"""Exports a trained recogniser: weights under upstream's names, a `torch.export` program, or ONNX.

One checkpoint of a run becomes one file at a URL. Its metadata has the classes, and says what clips it takes. The file
is read again, and its output compared with that of the model.

The program and the ONNX model take pixels (uint8 [B, T, 3, S, S], RGB) and give probabilities (float [B, K]), so they
include the normalisation. B is free; T and S are those of the run.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import AdaptFocusError, ConfigError, InputError
from adaptfocus.trainers.backbones import input_spec_of, maker_of, own_weights
from adaptfocus.trainers.backbones.key_styles import OWN, public_state, style_of_exports
from adaptfocus.trainers.inputs.model_input import build_adapted, to_model_input
from adaptfocus.trainers.runs.growth import classes_of_run, weights_of_classes
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.on_features import refuse
from adaptfocus.trainers.runs.open import load_config
from adaptfocus.trainers.settings.parts import InputConfig
from adaptfocus.trainers.settings.run import TrainConfig

METADATA = "adaptfocus"  # the key of the metadata in a program's extra files and in ONNX's properties
TOLERANCE = 1e-4  # of probabilities


class Recogniser(nn.Module):
    """A backbone together with the normalisation before it and the sigmoid after it."""

    def __init__(self, model: nn.Module, config: InputConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """uint8 [B, T, 3, S, S] -> probabilities float [B, K]."""
        return torch.sigmoid(self.model(to_model_input(clips, self.model, self.config)))


def export_model(run_url: str, out_url: str, file_format: str, epoch: int | None = None) -> dict[str, Any]:
    """Write a run's newest checkpoint, or that at the end of an epoch, as `torch`, `torch.export` or `onnx`.

    Returns:
        The metadata that was written, and ``"largest_difference"``: the largest difference between the probabilities
        of the exported file and those of the model, on two random clips.

    Raises:
        ConfigError: the format is unknown, a library that it needs is not installed, or the run has no backbone.
        InputError: the run has no such checkpoint.
        AdaptFocusError: torch cannot write this model in that format, or the exported file gives other probabilities
            than the model. Nothing is left at `out_url`.
    """
    if file_format not in FORMATS:
        raise ConfigError(f"there is no format {file_format!r}; choose one of: {', '.join(FORMATS)}")
    recogniser, facts = load_recogniser(run_url, epoch)
    clip = facts["input"]
    shape = (2, clip["frames"], 3, clip["size_pixels"], clip["size_pixels"])
    clips = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    write, read = FORMATS[file_format]
    with torch.inference_mode():
        wanted = recogniser(clips)
    try:
        data = write(recogniser, clips, facts)
        given = read(data, recogniser, clips)
    except AdaptFocusError:
        raise
    except Exception as error:  # the exporters raise dozens of types for models that they cannot trace or translate
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AdaptFocusError(
            f"{facts['backbone']} on clips of {clip['frames']} x {clip['size_pixels']} pixels could not become "
            f"{file_format} ({reason[:200]}); use format torch"
        ) from error
    difference = float((given - wanted).abs().max())
    if not difference <= TOLERANCE:
        raise AdaptFocusError(
            f"the {file_format} export of {run_url} gives probabilities that differ by {difference:.2g} from those of "
            f"the model; the limit is {TOLERANCE:.0e}. It was not written. Use format torch"
        )
    store.write_bytes(out_url, data)
    return facts | {"largest_difference": difference}


def load_recogniser(run_url: str, epoch: int | None = None) -> tuple[Recogniser, dict[str, Any]]:
    """A run's newest checkpoint, or that at the end of an epoch (from 0), for inference on the CPU; and its metadata.

    Raises:
        ConfigError: the run has no backbone. InputError: it has no such checkpoint.
    """
    config, run = load_config(run_url), Run(run_url)
    refuse(config, "export")
    commit = run.newest()[1] if epoch is None else run.end_of_epoch(epoch)
    if commit is None:
        raise InputError(f"{run_url} has no checkpoint yet; train it first")
    classes = classes_of_run(run)
    model = build_adapted(config.backbone, len(classes), config.input)
    model.load_state_dict(weights_of_classes(run, commit, len(classes)))
    facts = metadata_of(config, model, classes) | {"epoch": commit.epoch, "checkpoint": commit.number}
    return Recogniser(model, config.input).eval(), facts


def metadata_of(config: TrainConfig, model: nn.Module, classes: list[str]) -> dict[str, Any]:
    """What a user of the model has to know, as plain values."""
    spec = input_spec_of(model)
    return {
        "backbone": config.backbone,
        "classes": list(classes),
        "input": {
            "layout": "uint8 [B, T, 3, S, S], RGB",
            "frames": config.clip.frames,
            "frame_stride": config.clip.frame_stride,
            "fps": config.clip.fps,
            "size_pixels": config.clip.size_pixels,
            "crop_fraction": config.decode.crop_fraction,
            "mean": list(spec.mean),
            "std": list(spec.std),
            "motion": config.input.motion,
        },
        "output": "probabilities float [B, K], each class by itself",
    }


def _write_torch(recogniser: Recogniser, clips: torch.Tensor, facts: dict[str, Any]) -> bytes:
    """The bytes of ``{"backbone", "classes", ..., "key_style", "state_dict"}``, which `load_pretrained` reads."""
    style = style_of_exports(recogniser.model, maker_of(facts["backbone"]).styles)
    weights = {name: value.contiguous() for name, value in public_state(recogniser.model, style).items()}
    data = io.BytesIO()
    torch.save(facts | {"key_style": style.name, "state_dict": weights}, data)
    return data.getvalue()


def _read_torch(data: bytes, recogniser: Recogniser, clips: torch.Tensor) -> torch.Tensor:
    """Probabilities of a fresh model: its body is read by `load_pretrained`, and its head taken from the file."""
    loaded = torch.load(io.BytesIO(data), weights_only=True)
    style = next((each for each in maker_of(loaded["backbone"]).styles if each.name == loaded["key_style"]), OWN)
    model = build_adapted(loaded["backbone"], len(loaded["classes"]), recogniser.config)
    body = own_weights(model, loaded["state_dict"], "the export", loaded)
    head = {f"head.{part}": loaded["state_dict"][f"{style.head}{part}"] for part in ("weight", "bias")}
    model.load_state_dict(body | head, strict=False)
    with torch.inference_mode():
        return Recogniser(model, recogniser.config).eval()(clips)


def _program(recogniser: Recogniser, clips: torch.Tensor) -> torch.export.ExportedProgram:
    with torch.no_grad():
        return torch.export.export(
            recogniser, (clips,), dynamic_shapes={"clips": {0: torch.export.Dim("batch", min=1)}}
        )


def _write_program(recogniser: Recogniser, clips: torch.Tensor, facts: dict[str, Any]) -> bytes:
    data = io.BytesIO()
    torch.export.save(_program(recogniser, clips), data, extra_files={f"{METADATA}.json": json.dumps(facts)})
    return data.getvalue()


def _read_program(data: bytes, recogniser: Recogniser, clips: torch.Tensor) -> torch.Tensor:
    module = torch.export.load(io.BytesIO(data)).module()
    with torch.inference_mode():
        return torch.cat([module(clips[:1]), module(clips[1:])])  # batches of another size than the export used


def _write_onnx(recogniser: Recogniser, clips: torch.Tensor, facts: dict[str, Any]) -> bytes:
    _onnx_libraries()
    with _quiet_exporter():
        program = torch.onnx.export(_program(recogniser, clips), dynamo=True, input_names=["clips"],
                                    output_names=["probabilities"], verbose=False)  # fmt: skip
    assert program is not None
    proto = program.model_proto
    for key, value in {METADATA: json.dumps(facts)}.items():
        proto.metadata_props.add(key=key, value=value)
    return proto.SerializeToString()


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence torch's messages about itself: missing operators of torchvision, its own deprecated calls."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        log.setLevel(level)


def _read_onnx(data: bytes, recogniser: Recogniser, clips: torch.Tensor) -> torch.Tensor:
    session = _onnx_libraries().InferenceSession(data, providers=["CPUExecutionProvider"])
    parts = [torch.from_numpy(session.run(None, {"clips": part.numpy()})[0]) for part in (clips[:1], clips[1:])]
    return torch.cat(parts)


def _onnx_libraries() -> Any:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  # torch writes ONNX with it
    except ImportError as error:
        raise ConfigError(
            "format onnx needs onnx, onnxscript and onnxruntime: pip install 'adaptfocus[onnx]'"
        ) from error
    return onnxruntime


Write = Callable[[Recogniser, torch.Tensor, dict[str, Any]], bytes]
Read = Callable[[bytes, Recogniser, torch.Tensor], torch.Tensor]
FORMATS: dict[str, tuple[Write, Read]] = {
    "torch": (_write_torch, _read_torch),
    "torch.export": (_write_program, _read_program),
    "onnx": (_write_onnx, _read_onnx),
}
