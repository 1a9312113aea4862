"""Builds a backbone by name, starts it from public weights or our own, and normalises clips for it.

The modules that come out keep the promises of `contract.py`.
"""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import nn

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import AdaptFocusError, ConfigError
from adaptfocus.trainers.backbones.colour import constant, is_yuv420p, rgb_of_yuv420p
from adaptfocus.trainers.backbones.contract import Backbone
from adaptfocus.trainers.backbones.key_styles import COUNTER, OWN, State, body_names, nearest_style, unwrap_state
from adaptfocus.trainers.backbones.makers import maker_of
from adaptfocus.trainers.backbones.specs import InputSpec, entry_of
from adaptfocus.trainers.backbones.weights_file import (
    is_safetensors,
    problems_of,
    read_caffe2,
    read_safetensors,
    weights_in,
    why_not_loaded,
)  # fmt: skip
from adaptfocus.trainers.device.finite import check_weights


def build(name: str, num_classes: int) -> nn.Module:
    """A backbone by name, with a fresh head for `num_classes`.

    Raises:
        ConfigError: there is no backbone of that name, or no class; or a library that it needs is not installed.
    """
    entry = entry_of(name)
    if num_classes < 1:
        raise ConfigError(f"num_classes is {num_classes}; a backbone needs at least 1")
    maker = maker_of(name)
    model = maker.make(num_classes, spec=entry.spec)
    model.key_styles = maker.styles
    return model.train()


def load_pretrained(model: nn.Module, url: str) -> dict[str, Any]:
    """Start `model` from the weights at `url`; its head stays fresh on purpose.

    The file may be one of ours (``{"backbone": name, "state_dict": ...}``, as `trainers.pretraining.training` and
    `adaptfocus export-model` write it), a bare state dict, or a public one in a style of the model's family
    (docs/backbones.md): torch's own format, safetensors, or Caffe2's pickle (``.pkl``). A weights file cannot run code:
    torch reads with ``weights_only=True``, and pickles are read by an unpickler that only knows numpy arrays.

    Returns:
        What the file says besides its weights.

    Raises:
        StorageError: nothing can be read there.
        AdaptFocusError: the file is not a weights file, or its weights are not this model's. The message lists what is
            missing, left over or of another shape. Nothing is loaded in that case.
    """
    data = store.read_bytes(url)
    if is_safetensors(data):
        loaded: Any = read_safetensors(data, url)
    elif url.endswith(".pkl"):
        loaded = read_caffe2(data, url)
    else:
        try:
            loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises half a dozen types here, from pickle, zipfile and itself
            reason = why_not_loaded(error)
            raise AdaptFocusError(f"{url} is not a weights file that torch can load safely: {reason}") from error
    if not isinstance(loaded, dict):
        raise AdaptFocusError(f"{url} holds a {type(loaded).__name__}; wanted a state dict, or a dict with one")
    state, facts = weights_in(loaded)
    body = own_weights(model, unwrap_state({str(name): value for name, value in state.items()}), url, facts)
    check_weights(body, url, "A run from them would only make more such numbers; use other weights")
    model.load_state_dict(body, strict=False)  # strict except for the head: checked above
    return facts


def own_weights(model: nn.Module, state: State, url: str, facts: dict[str, Any]) -> State:
    """A file's weights under the model's own names and in its shapes, without a head, or what else no public file has.

    The model itself takes the form that the weights need (`Backbone.take_form`).

    Raises:
        AdaptFocusError: they are not this model's.
    """
    style = nearest_style(state, model, (*getattr(model, "key_styles", ()), OWN))
    state = {k: v for k, v in style.prepare(state).items() if not k.startswith(style.head) and not k.endswith(COUNTER)}
    if isinstance(model, Backbone):
        names = {own: state.get(style.public_name(own)) for own in (*body_names(model), *model.optional_weights())}
        found = {own: value.shape for own, value in names.items() if isinstance(value, torch.Tensor)}
        model.take_form(found | {own: torch.Size() for own in style.always})
    own_state = model.state_dict()
    wanted = body_names(model)
    new = [name for name in wanted if isinstance(model, Backbone) and model.fresh and name.startswith(model.fresh)]
    if not any(style.public_name(name) in state for name in new):
        wanted = [name for name in wanted if name not in new]
    shapes = {name: own_state[name].shape for name in wanted}
    places = {style.public_name(name): name for name in shapes}
    fit = model.fitted if isinstance(model, Backbone) else lambda name, value, wanted: value
    for public in places.keys() & state.keys():
        state[public] = fit(places[public], state[public], shapes[places[public]])
    if problems := problems_of(state, {public: shapes[own] for public, own in places.items()}, style.ignored):
        made_for = facts.get("backbone")
        origin = f" (made for backbone {made_for!r})" if made_for else ""
        raise AdaptFocusError(
            f"the weights at {url}{origin} are not those of {type(model).__name__}, by their names in the style "
            f"{style.name}: {'; '.join(problems)}. Choose the backbone that they were made for, or use other weights"
        )
    return {own: state[public].reshape(shapes[own]) for public, own in places.items()}


def input_spec_of(model: nn.Module) -> InputSpec:
    """A backbone's `input_spec`, which the contract promises."""
    spec = model.input_spec
    assert isinstance(spec, InputSpec)
    return spec


def normalise(frames: torch.Tensor, spec: InputSpec) -> torch.Tensor:
    """Clips as the decoder writes them -> float [B, 3, T, S, S], on the same device.

    Args:
        frames: uint8 [B, T, 3, S, S], RGB, or float in the same range; or uint8 [B, T, 1, 3 S / 2, S], planes of YUV
            (decode.pixel_format=yuv420p). Or float32 [B, T, D, 1, 1], steps of features, where the spec says so: these
            are not normalised.
    """
    if spec.is_features:
        return frames.transpose(1, 2)
    mean, std = (constant(values, frames.device).view(1, 3, 1, 1, 1) for values in (spec.mean, spec.std))
    rgb = rgb_of_yuv420p(frames) if is_yuv420p(frames) else frames.float()
    return (rgb.transpose(1, 2) / 255 - mean) / std
