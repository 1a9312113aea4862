"""Our outputs are those of the library that made the public weights, on the same weights and clips, to 1e-4.

transformers for VideoMAE, TimeSformer and V-JEPA 2. What pytorchvideo gave is recorded: `test_run_upstream`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from adaptfocus.trainers.backbones import MAKERS, build, own_weights
from tests.trainers.backbones.small_backbones import shaken, small

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("one_thread")]


def compare(name: str, reference: nn.Module, ours: nn.Module, x: torch.Tensor, shown: Any = None) -> None:
    """Give ours the reference's weights by their public names, head and all; both see the same clips."""
    shaken(reference).eval()
    ours.eval()
    state = dict(reference.state_dict())
    body = own_weights(ours, dict(state), "reference", {})
    head = {f"head.{part}": state[f"{MAKERS[name].styles[0].head}{part}"] for part in ("weight", "bias")}
    left = ours.load_state_dict(body | head, strict=False)
    assert [n for n in left.missing_keys if not n.endswith("num_batches_tracked")] == []
    with torch.no_grad():
        wanted, given = reference(x if shown is None else shown), ours(x)
    wanted = getattr(wanted, "logits", wanted)
    assert wanted.std() > 0.01, "the weights say something"
    torch.testing.assert_close(given, wanted, atol=1e-4 * float(wanted.abs().max().clamp(min=1)), rtol=1e-4)


def clips(frames: int, size: int) -> torch.Tensor:
    return torch.randn(1, 3, frames, size, size, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", ["videomae_b", "timesformer_b"])
def test_library_classifiers(name: str) -> None:
    """The library's own classifier on top, its pooling with it."""
    model = small(name, 7)
    import transformers

    if name == "videomae_b":
        settings = model.videomae.config
        settings.num_labels = 7
        reference: nn.Module = transformers.VideoMAEForVideoClassification(settings)
    else:
        settings = model.timesformer.config
        settings.num_labels = 7
        reference = transformers.TimesformerForVideoClassification(settings)
    compare(name, reference, model, (x := clips(4, 32)), x.transpose(1, 2))


def test_vjepa2_features_are_the_means_of_the_librarys_tokens() -> None:
    model = small("vjepa2_l").eval()
    import transformers

    settings = model.encoder.config
    settings.pred_hidden_size, settings.pred_num_attention_heads, settings.pred_num_hidden_layers = 24, 2, 1
    reference = shaken(transformers.VJEPA2Model(settings)).eval()
    model.load_state_dict(own_weights(model, dict(reference.state_dict()), "reference", {}), strict=False)
    x = clips(4, 32)
    with torch.no_grad():
        tokens = reference(x.transpose(1, 2), skip_predictor=True).last_hidden_state
        features = model.forward_features(x)
    torch.testing.assert_close(features, tokens.view(1, 2, 4, -1).mean(dim=2), atol=1e-4, rtol=1e-4)


def test_inception_pads_as_tensorflow_does() -> None:
    """No library has it. Its padding by hand: 7 wide, stride 2, on 224: 112 out, so 5 zeros, 2 before and 3 behind."""
    from adaptfocus.trainers.backbones.inception_i3d import pad_same

    x = torch.ones(1, 1, 64, 224, 225)
    assert pad_same(x, (7, 7, 7), (2, 2, 2)).shape == (1, 1, 69, 229, 231)  # 225 -> 113 out: 6 zeros
    row = pad_same(x, (7, 7, 7), (2, 2, 2))[0, 0, 10, :, 100]
    assert row.tolist() == [0, 0] + [1] * 224 + [0, 0, 0]
    assert pad_same(x, (1, 3, 3), (1, 2, 2)).shape == (1, 1, 64, 225, 227)
    with torch.device("meta"):
        features = build("inception_i3d", 400).forward_features(torch.empty(1, 3, 64, 224, 224))
    assert features.shape == (1, 7, 1024), "of 8 times, means of 2, as upstream's average pooling of (2, 7, 7)"
