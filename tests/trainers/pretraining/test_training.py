"""The pre-trained start must be a fair one: it learns, it repeats, and it never sees an action of the worlds."""

from __future__ import annotations

import io

import numpy as np
import torch

from adaptfocus.pipelines import store
from adaptfocus.pipelines.worlds.video import WorldConfig
from adaptfocus.trainers.backbones import build, load_pretrained
from adaptfocus.trainers.pretraining.training import LABELS, make_clips, normalise_frames, pretrain


def weights(url: str) -> dict[str, torch.Tensor]:
    return torch.load(io.BytesIO(store.read_bytes(url)), weights_only=True)["state_dict"]


def test_a_few_steps_lower_the_loss_and_the_weights_can_be_loaded(tmp_path):
    url, losses = str(tmp_path / "start.pt"), []
    final = pretrain(url, seed=0, steps=40, progress=lambda step, total, loss: losses.append((step, total, loss)))
    assert [at[:2] for at in losses] == [(n, 40) for n in range(1, 41)]
    assert final < 0.9 * losses[0][2]
    model = build("small3d", 12)
    assert load_pretrained(model, url)["labels"] == list(LABELS)
    assert torch.equal(model.state_dict()["body.0.weight"], weights(url)["body.0.weight"])


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(tmp_path):
    urls = [str(tmp_path / name) for name in ("a.pt", "b.pt", "c.pt")]
    for url, seed in zip(urls, (0, 0, 1), strict=True):
        torch.rand(3)
        pretrain(url, seed=seed, steps=2)
    a, b, c = (weights(url) for url in urls)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["body.0.weight"], c["body.0.weight"])


def test_pretraining_leaves_the_callers_random_state_alone(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    pretrain(str(tmp_path / "a.pt"), steps=1)
    assert torch.equal(torch.rand(1), expected)


def test_no_action_of_the_worlds_is_a_label():
    """If a combination of sprite and direction were a label, the start would hold the answers to the test."""
    assert not set(LABELS) & set(WorldConfig().classes)
    frames, targets = make_clips(np.random.default_rng(0), 600)
    assert frames.shape == (600, 8, 20, 20, 3)
    several = targets[targets[:, :6].sum(axis=1) == 3]
    assert len(several) > 50
    assert (several[:, 6:].sum(axis=1) > 1).any(), "targets say which sprites and which movements, never who does what"
    assert targets.mean(axis=0).min() > 0.15, "every label is seen often"


def test_normalized_clips_are_about_zero_and_of_unit_size():
    frames, _ = make_clips(np.random.default_rng(1), 64)
    x = normalise_frames(frames)
    assert x.shape == (64, 3, 8, 20, 20)
    assert abs(x.mean()) < 0.3
    assert 0.5 < x.std() < 1.5
