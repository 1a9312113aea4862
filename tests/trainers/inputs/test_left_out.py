"""Dropout and stochastic depth: by clip, only in training, and the same where a forward pass is repeated."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.trainers.backbones.mvit import MViT
from adaptfocus.trainers.inputs.left_out import check, leave_out
from tests.trainers.backbones.small_backbones import NAMES, clips_for, small
from tests.trainers.inputs.test_augment import ids

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("one_thread")]
# The other backbones differ from one of these in depth, or in the clips that they take.
FAMILIES = [n for n in NAMES if n not in ("x3d_m", "x3d_l", "mvit_b_32x3", "mvit_b_64x3", "mvit_b_24_32x3")]


@pytest.mark.parametrize("name", FAMILIES)
def test_dropout_only_hides_features_from_the_head_in_training(name: str) -> None:
    model = small(name)
    x, own = clips_for(model, 3), ids(3)
    before = model(x)
    leave_out(model, own, 1, dropout=0.5, drop_path=0)
    dropped = model(x)
    kept = model.feature_scale
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    torch.testing.assert_close(model.head(model.pooled(x) * kept), dropped, atol=1e-5, rtol=1e-4)
    assert (dropped - before).abs().max() > 1e-5
    model.eval()
    torch.testing.assert_close(model(x), before, atol=1e-5, rtol=1e-4)
    assert list(model.state_dict()) == list(small(name).state_dict()), "nothing that a checkpoint would have to hold"


def test_a_clip_loses_the_same_in_any_company() -> None:
    model = small("mvit_b_16x4")
    x, own = clips_for(model, 6), ids(6)
    leave_out(model, own, 1, 0.5, 0.6)
    whole = model(x)
    order = torch.tensor([4, 1])
    leave_out(model, own[order], 1, 0.5, 0.6)
    torch.testing.assert_close(model(x[order]), whole[order], atol=1e-5, rtol=1e-4)
    leave_out(model, own[order], 2, 0.5, 0.6)
    assert (model(x[order]) - whole[order]).abs().max() > 1e-4, "another seed"


def test_what_stays_makes_up_for_what_is_left_out() -> None:
    model, many = small("mvit_b_16x4"), ids(4000)
    leave_out(model, many, 1, dropout=0.5, drop_path=0.3)
    assert model.feature_scale is not None
    assert abs(model.feature_scale.mean() - 1) < 0.01
    blocks = model.paths()
    assert len(blocks) == 16
    for number, block in enumerate(blocks):
        share = 0.3 * number / 15  # from 0 to 0.3
        for branch in block.path_scale.T:
            assert abs((branch == 0).float().mean() - share) < 0.03
            assert abs(branch.mean() - 1) < 0.05
    first, second = blocks[-1].path_scale.T == 0
    assert 0.05 < (first & second).float().mean() < 0.13, "attention and MLP apart from each other: 0.09"


def test_a_branch_that_is_left_out_is_as_if_it_were_not_there() -> None:
    model = small("mvit_b_16x4")
    assert isinstance(model, MViT)
    x, block = clips_for(model, 2), model.paths()[1]
    block.path_scale = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    found = model(x)
    block.path_scale = None
    for clip, last in ((0, block.attn.proj), (1, block.mlp.fc2)):
        kept = {name: value.clone() for name, value in last.state_dict().items()}
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        torch.testing.assert_close(model(x)[clip], found[clip], atol=1e-5, rtol=1e-4)
        last.load_state_dict(kept)
    assert (model(x) - found).abs().min() > 1e-6


def test_a_repeated_forward_pass_leaves_out_the_same() -> None:
    """Activation checkpointing: a mask that differed in the second pass would give gradients of another model."""
    model = small("mvit_b_16x4")
    x = clips_for(model, 4)
    leave_out(model, ids(4), 1, 0.5, 0.6)
    gradients = []
    forwards = [block.forward for block in model.paths()]
    for repeats in (False, True):
        for block, forward in zip(model.paths(), forwards, strict=True):
            block.forward = (lambda *a, f=forward: checkpoint(f, *a, use_reentrant=False)) if repeats else forward
        model.zero_grad()
        model(x).square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-5)


def test_a_compiled_model_sees_each_pass_anew() -> None:
    """Factors are inputs of the graph, not constants that were baked in when it was made; and it is made once."""
    model = small("mvit_b_16x4")
    x, graphs = clips_for(model, 2), []

    def counted(graph: torch.fx.GraphModule, _: list) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    compiled = torch.compile(model, backend=counted, fullgraph=True)
    for number in range(3):
        leave_out(model, ids(12)[2 * number : 2 * number + 2], 1, 0.5, 0.6)
        torch.testing.assert_close(compiled(x), model(x), atol=1e-5, rtol=1e-4)
    assert len(graphs) == 1


def test_a_backbone_without_such_branches_says_so() -> None:
    check(small("slowfast_r50"), 0.5, 0)
    check(small("mvit_b_16x4"), 0.5, 0.2)
    with pytest.raises(ConfigError, match=r"drop_path is 0.2, and SlowFast has no branches .* leave drop_path out"):
        check(small("slowfast_r50"), 0, 0.2)
    with pytest.raises(ConfigError, match=r"Linear is not a Backbone"):
        check(nn.Linear(2, 2), 0.5, 0)
