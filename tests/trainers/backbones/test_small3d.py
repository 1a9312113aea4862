"""The small backbone keeps the promises of every backbone; wrong weights are refused, and not loaded by half."""

from __future__ import annotations

import io

import pytest
import torch

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import AdaptFocusError, ConfigError, StorageError
from adaptfocus.trainers.backbones import InputSpec, build, load_pretrained


def clips(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 8, 20, 20, generator=torch.Generator().manual_seed(seed))


def save(url: str, content: object) -> str:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    store.write_bytes(url, buffer.getvalue())
    return url


def test_shapes_and_input_spec():
    model = build("small3d", 12)
    assert isinstance(model.input_spec, InputSpec)
    assert (model.input_spec.frames, model.input_spec.size_pixels) == (8, 20)
    assert model.forward_features(clips(2)).shape == (2, 8, 32)
    assert model(clips(2)).shape == (2, 12)
    pooled = model.forward_features(clips(2)).mean(dim=1)
    torch.testing.assert_close(model(clips(2)), model.head(pooled))


def test_a_clip_scores_the_same_in_any_batch():
    """If one clip could see another, the number of workers would change what is trained."""
    model = build("small3d", 12).train()
    x = clips(8)
    whole = model(x)
    halves = torch.cat([model(x[:3]), model(x[3:])])
    torch.testing.assert_close(whole, halves, atol=1e-6, rtol=0)
    assert whole.std(dim=0).min() > 1e-3, "and the clips do differ"


def test_every_weight_is_trained():
    model = build("small3d", 4)
    model(clips(4)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_order_of_frames_counts():
    """A model that ignores time cannot tell the worlds' classes apart."""
    model = build("small3d", 4)
    x = clips(4)
    shuffled = x[:, :, [3, 0, 6, 1, 7, 2, 5, 4]]
    assert (model(x) - model(shuffled)).abs().max() > 1e-3


def test_an_unknown_backbone_names_the_nearest():
    with pytest.raises(ConfigError, match="no backbone 'smal3d'; did you mean 'small3d'"):
        build("smal3d", 3)
    with pytest.raises(ConfigError, match="num_classes is 0"):
        build("small3d", 0)


def test_pretrained_weights_of_another_label_set_leave_the_head_alone(tmp_path):
    source, model = build("small3d", 10), build("small3d", 12)
    fresh_head = model.head.weight.detach().clone()
    url = save(str(tmp_path / "w.pt"), {"backbone": "small3d", "state_dict": source.state_dict(), "labels": ["x"]})
    assert load_pretrained(model, url) == {"backbone": "small3d", "labels": ["x"]}
    torch.testing.assert_close(model.forward_features(clips(2)), source.forward_features(clips(2)))
    assert torch.equal(model.head.weight, fresh_head)


def test_a_bare_state_dict_is_taken(tmp_path):
    source, model = build("small3d", 12), build("small3d", 12)
    assert load_pretrained(model, save(str(tmp_path / "w.pt"), source.state_dict())) == {}
    torch.testing.assert_close(model.forward_features(clips(2)), source.forward_features(clips(2)))


def test_weights_of_another_model_are_refused_by_name_and_nothing_is_loaded(tmp_path):
    model = build("small3d", 12)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = dict(build("small3d", 12).state_dict())
    state["stem.weight"] = state.pop("body.0.weight")
    state["body.3.weight"] = torch.zeros(2, 2)
    with pytest.raises(AdaptFocusError) as caught:
        load_pretrained(model, save(str(tmp_path / "w.pt"), {"backbone": "other", "state_dict": state}))
    for part in ("missing: body.0.weight", "unexpected: stem.weight", "body.3.weight is (2, 2)", "'other'"):
        assert part in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_file_that_would_run_code_is_refused(tmp_path):
    url = save(str(tmp_path / "w.pt"), {"state_dict": build})  # a pickled function
    with pytest.raises(AdaptFocusError, match="not a weights file that torch can load safely"):
        load_pretrained(build("small3d", 3), url)


def test_no_file_and_no_weights_are_told_apart(tmp_path):
    with pytest.raises(StorageError, match="there is nothing at"):
        load_pretrained(build("small3d", 3), str(tmp_path / "missing.pt"))
    store.write_bytes(str(tmp_path / "text.pt"), b"hello")
    with pytest.raises(AdaptFocusError, match="not a weights file"):
        load_pretrained(build("small3d", 3), str(tmp_path / "text.pt"))
