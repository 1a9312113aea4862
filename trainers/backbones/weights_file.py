"""Reads weights from files that are not torch's own: Caffe2 pickles and safetensors. No file can run code.

Pickles go through a restricted unpickler that only knows numpy's arrays (`safe_pickle`). Weights come out under the
file's own names.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch

from adaptfocus.pipelines import safe_pickle
from adaptfocus.pipelines.errors import AdaptFocusError, ConfigError
from adaptfocus.trainers.backbones.key_styles import State

# The key under which a checkpoint keeps its weights, next to its epoch, optimiser and so on; `blobs` is Caffe2's.
INSIDE = ("state_dict", "model_state", "model_state_dict", "model", "blobs")


def read_caffe2(data: bytes, url: str) -> dict[str, Any]:
    """A Caffe2 pickle: ``{"blobs": {name: array}}``, as tensors.

    Raises:
        AdaptFocusError: it is not one, or holds anything except arrays, numbers and texts.
    """
    try:
        loaded = safe_pickle.load(data)
    except Exception as error:  # a pickle can fail in any way
        raise AdaptFocusError(f"{url} is not a Caffe2 weights file that is safe to read: {str(error)[:200]}") from error
    if not isinstance(loaded, dict) or not isinstance(loaded.get("blobs"), dict):
        raise AdaptFocusError(f"{url} is a pickle without blobs; wanted the Caffe2 weights of a model zoo")
    # A value that is not an array of numbers (a rate, a counter) is not a weight of the model.
    arrays = {str(name): np.asarray(value) for name, value in loaded["blobs"].items()}
    return {"blobs": {k: torch.from_numpy(np.array(v)) for k, v in arrays.items() if v.dtype.kind in "fiu"}}


def is_safetensors(data: bytes) -> bool:
    """Whether the bytes begin as safetensors do: with the length of a JSON header, then its brace."""
    return len(data) > 9 and int.from_bytes(data[:8], "little") < len(data) and data[8:9] == b"{"


def read_safetensors(data: bytes, url: str) -> State:
    """Weights of a safetensors file.

    Raises:
        ConfigError: the library is not installed.
        AdaptFocusError: the file is broken.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load
    except ImportError as error:
        raise ConfigError(
            f"{url} is a safetensors file, and safetensors is not installed: pip install 'adaptfocus[transformers]'"
        ) from error
    try:
        return load(data)
    except SafetensorError as error:
        raise AdaptFocusError(f"{url} is a broken safetensors file ({error})") from error


def why_not_loaded(error: Exception) -> str:
    """What kept `torch.load(weights_only=True)` from reading a file. torch's own message advises an unsafe read."""
    said = str(error)
    if asked := re.search(r"GLOBAL ([\w.]+)", said):
        return f"it asks for {asked[1]}, and only tensors, numbers and texts are accepted; save only its state dict"
    if "weights_only" in said or not said:
        return "it was not written by torch.save, or it is damaged"
    return said.splitlines()[0][:200]


def weights_in(loaded: dict[str, Any]) -> tuple[State, dict[str, Any]]:
    """(weights, what the file says besides them), from the dict that was read."""
    for place in INSIDE:
        if isinstance(loaded.get(place), dict):
            return loaded[place], {name: value for name, value in loaded.items() if name != place}
    return loaded, {}


def squeeze_shape(shape: torch.Size) -> list[int]:
    return [size for size in shape if size != 1]


def problems_of(state: State, wanted: dict[str, torch.Size], ignored: str) -> list[str]:
    """Why a file's weights are not a model's: the public names of what is missing, left over or of another shape."""
    problems = []
    if missing := sorted(wanted.keys() - state.keys()):
        problems.append(f"missing: {_some(missing)}")
    over = sorted(name for name in state.keys() - wanted.keys() if not re.fullmatch(ignored, name))
    if over:
        problems.append(f"unexpected: {_some(over)}")
    for name in sorted(wanted.keys() & state.keys()):
        shape = getattr(state[name], "shape", None)
        if shape is None or squeeze_shape(shape) != squeeze_shape(wanted[name]):
            problems.append(f"{name} is {tuple(shape or ())}, wanted {tuple(wanted[name])}")
    return problems


def _some(names: list[str], shown: int = 6) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
