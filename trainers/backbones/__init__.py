"""The models: one contract, several families.

Input: clips, float [B, C, T, H, W], normalised as the backbone's InputSpec says.
Does: builds a backbone by name, and starts it from weights at a URL.
Output: modules with

    input_spec                     InputSpec: how the clip is sampled, sized and normalised
    forward_features(x) -> float [B, T', C']   features along time
    forward(x) -> float [B, K]     logits: the head of the pooled features
    head                           the only part whose shape depends on K

No backbone lets one sample see another (no batch statistics): the result must not depend on how a global batch is
split over workers.
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pipelines import storage
from pipelines.errors import AdaptFocusError, ConfigError
from trainers.backbones.colour import is_yuv420p, rgb_of_yuv420p

HEAD_PREFIX = "head."
_SHOWN_KEYS = 6


@dataclass(frozen=True)
class InputSpec:
    """What a backbone wants to be shown.

    ``frame_stride`` counts frames of the video as it is stored; ``mean`` and ``std`` are per channel, of pixels
    scaled to [0, 1].
    """

    frames: int
    frame_stride: int
    size_pixels: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def build(name: str, num_classes: int) -> nn.Module:
    """A backbone by name, with a fresh head for `num_classes`.

    Raises:
        ConfigError: there is no backbone of that name, or no class.
    """
    if name not in BUILDERS:
        nearest = difflib.get_close_matches(name, BUILDERS, n=1, cutoff=0.0)[0]
        raise ConfigError(
            f"there is no backbone {name!r}; did you mean {nearest!r}? Known: {', '.join(sorted(BUILDERS))}"
        )
    if num_classes < 1:
        raise ConfigError(f"num_classes is {num_classes}; a backbone needs at least 1")
    return BUILDERS[name](num_classes)


def load_pretrained(model: nn.Module, url: str) -> dict[str, Any]:
    """Start `model` from the weights at `url`; its head stays fresh, on purpose.

    The file is what `trainers.pretrain` writes: ``{"backbone": name, "state_dict": ...}``; a bare state dict is
    taken as well. It is read with ``weights_only=True``: a weights file cannot run code.

    Returns:
        What the file says beside its weights.

    Raises:
        StorageError: nothing can be read there.
        AdaptFocusError: the file is no weights file, or its weights are not this model's.
    """
    try:
        loaded = torch.load(io.BytesIO(storage.read_bytes(url)), map_location="cpu", weights_only=True)
    except AdaptFocusError:
        raise
    except Exception as error:  # torch raises half a dozen types here, from pickle, zipfile and itself
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AdaptFocusError(f"{url} is not a weights file that torch can load safely: {reason[:200]}") from error
    if not isinstance(loaded, dict):
        raise AdaptFocusError(f"{url} holds a {type(loaded).__name__}; wanted a state dict, or a dict with one")
    state = loaded.get("state_dict", loaded)
    body = {name: value for name, value in state.items() if not name.startswith(HEAD_PREFIX)}
    _check_same_weights(model, body, url, loaded.get("backbone"))
    model.load_state_dict(body, strict=False)  # strict but for the head: checked above
    return {name: value for name, value in loaded.items() if name != "state_dict"} if state is not loaded else {}


def input_spec_of(model: nn.Module) -> InputSpec:
    """The contract's `input_spec` of a backbone."""
    spec = model.input_spec
    assert isinstance(spec, InputSpec)
    return spec


def normalise(frames: torch.Tensor, spec: InputSpec) -> torch.Tensor:
    """Clips as the decoder writes them -> float [B, 3, T, S, S], on the same device.

    Args:
        frames: uint8 [B, T, 3, S, S], RGB; or [B, T, 1, 3 S / 2, S], planes of YUV (decode.pixel_format=yuv420p).
    """
    mean = torch.tensor(spec.mean, device=frames.device).view(1, 3, 1, 1, 1)
    std = torch.tensor(spec.std, device=frames.device).view(1, 3, 1, 1, 1)
    rgb = rgb_of_yuv420p(frames) if is_yuv420p(frames) else frames.float()
    return (rgb.transpose(1, 2) / 255 - mean) / std


def _check_same_weights(model: nn.Module, body: dict[str, Any], url: str, made_for: object) -> None:
    own = {name: value for name, value in model.state_dict().items() if not name.startswith(HEAD_PREFIX)}
    problems = []
    if missing := sorted(own.keys() - body.keys()):
        problems.append(f"missing: {_some(missing)}")
    if unexpected := sorted(str(name) for name in body.keys() - own.keys()):
        problems.append(f"unexpected: {_some(unexpected)}")
    for name in sorted(own.keys() & body.keys()):
        if getattr(body[name], "shape", None) != own[name].shape:
            problems.append(f"{name} is {tuple(getattr(body[name], 'shape', ()))}, wanted {tuple(own[name].shape)}")
    if problems:
        origin = f" (made for backbone {made_for!r})" if made_for else ""
        raise AdaptFocusError(
            f"the weights at {url}{origin} are not those of {type(model).__name__}: {'; '.join(problems)}. "
            "Choose the backbone that they were made for, or other weights"
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN_KEYS} more" if len(names) > _SHOWN_KEYS else ""
    return ", ".join(names[:_SHOWN_KEYS]) + more


def _small3d(num_classes: int) -> nn.Module:
    from trainers.backbones.small3d import Small3D  # here, since small3d takes InputSpec from this file

    return Small3D(num_classes)


BUILDERS: dict[str, Callable[[int], nn.Module]] = {"small3d": _small3d}
