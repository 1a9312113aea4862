"""Renames weights between our names and those of public files.

A style is a function from our name to the public one. Reading a file applies it to all names of the model and looks
backwards, so that nothing can land in a wrong place, and whatever is left over is known.

Our names are already those of one upstream project, except the head. ``num_batches_tracked`` is left out on both sides:
it counts steps, and no output depends on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from adaptfocus.trainers.backbones.x3d import SHORTCUT_NORM

State = dict[str, torch.Tensor]
HEAD_PREFIX = "head."
COUNTER = ".num_batches_tracked"


@dataclass(frozen=True)
class KeyStyle:
    """One way to name weights.

    `head`: the prefix that the head has there. `ignored`: a regular expression on the names that a file may hold
    besides the body. `prepare`: turns a file's weights into one for each of ours (fused projections are split).
    `always`: our optional weights that every file of this style has.
    """

    name: str
    public: Callable[[str], str]
    head: str = HEAD_PREFIX
    ignored: str = r"(?!)"
    prepare: Callable[[State], State] = dict
    always: tuple[str, ...] = ()

    def public_name(self, own: str) -> str:
        if own.startswith(HEAD_PREFIX):
            return self.head + own.removeprefix(HEAD_PREFIX)
        return self.public(own)


def rename_keys(pairs: list[tuple[str, str]]) -> Callable[[str], str]:
    """A function that renames by regular expressions, applied one after the other."""
    compiled = [(re.compile(pattern), new) for pattern, new in pairs]

    def rename(name: str) -> str:
        for pattern, new in compiled:
            name = pattern.sub(new, name)
        return name

    return rename


def unwrap_state(state: Mapping[str, torch.Tensor]) -> State:
    """A state without the prefixes that DistributedDataParallel and torch.compile put before names."""
    return {re.sub(r"(?:(?<=^)|(?<=\.))(?:module|_orig_mod)\.", "", name): value for name, value in state.items()}


def body_names(model: nn.Module) -> list[str]:
    """The model's own names of all that is loaded from a file: everything but the head and counters."""
    return [name for name in model.state_dict() if not name.startswith(HEAD_PREFIX) and not name.endswith(COUNTER)]


def nearest_style(state: State, model: nn.Module, styles: tuple[KeyStyle, ...]) -> KeyStyle:
    """The style in which the file has most of the model's weights; the name of the head decides between equal ones."""
    names = body_names(model)

    def found(style: KeyStyle) -> int:
        held = style.prepare(state).keys()
        return len({style.public_name(name) for name in names} & held) + any(k.startswith(style.head) for k in held)

    return max(styles, key=found)


def public_state(model: nn.Module, style: KeyStyle, state: Mapping[str, torch.Tensor] | None = None) -> State:
    """A model's weights, or a given state with the model's names, under the public names, including the head."""
    own = unwrap_state(model.state_dict() if state is None else state)
    return {style.public_name(name): value for name, value in own.items()}


def style_of_exports(model: nn.Module, styles: tuple[KeyStyle, ...]) -> KeyStyle:
    """The style to export in: the first one, or one whose files always have more of this model's optional weights."""
    names = set(model.state_dict())
    return max(styles, key=lambda style: len(style.always) if names.issuperset(style.always) else 0, default=OWN)


# pytorchvideo has our names. Its head is a separate block.
def pytorchvideo(head: str) -> KeyStyle:
    return KeyStyle("pytorchvideo", str, head)


OWN = KeyStyle("adaptfocus", str)
PYTORCH_I3D = KeyStyle("pytorch-i3d", str, "logits.conv3d.")

_BRANCHES = [
    (r"\.branch1_conv\.", ".branch1."),
    (r"\.branch1_norm\.", ".branch1_bn."),
    (r"\.branch2\.conv_([abc])\.", r".branch2.\1."),
    (r"\.branch2\.norm_([abc])\.", r".branch2.\1_bn."),
]


def _with_bn(state: State) -> State:
    """PySlowFast's non-local blocks call their norm ``bn``; in its first months they called it ``norm``."""
    result: State = {}
    for name, value in state.items():
        newer = re.sub(r"(\.pathway\d_nonlocal\d+)\.norm\.", r"\1.bn.", name)
        result[name if newer in state else newer] = value
    return result


# PySlowFast counts stages from s1, the stem. In ResNet50-I3D our block 2 is a maximum, which it has between s2 and s3.
PYSLOWFAST_RESNET = KeyStyle(
    "PySlowFast",
    rename_keys(
        [
            (r"^blocks\.0\.conv\.", "s1.pathway0_stem.conv."),
            (r"^blocks\.0\.norm\.", "s1.pathway0_stem.bn."),
            (r"^blocks\.1\.", "s2."),
            (r"^blocks\.([345])\.", r"s\1."),
            (r"\.res_blocks\.(\d+)\.", r".pathway0_res\1."),
            (r"\.nonlocal_blocks\.(\d+)\.norm\.", r".pathway0_nonlocal\1.bn."),
            (r"\.nonlocal_blocks\.(\d+)\.", r".pathway0_nonlocal\1."),
            *_BRANCHES,
        ]
    ),
    "head.projection.",
    prepare=_with_bn,
)
PYSLOWFAST_SLOWFAST = KeyStyle(
    "PySlowFast",
    rename_keys(
        [
            (r"^blocks\.(\d)\.multipathway_fusion\.conv_fast_to_slow\.", r"blocks.\1_fuse.conv_f2s."),
            (r"^blocks\.(\d)\.multipathway_fusion\.norm\.", r"blocks.\1_fuse.bn."),
            (r"^blocks\.0\.multipathway_blocks\.(\d)\.conv\.", r"blocks.0.pathway\1_stem.conv."),
            (r"^blocks\.0\.multipathway_blocks\.(\d)\.norm\.", r"blocks.0.pathway\1_stem.bn."),
            (r"\.multipathway_blocks\.(\d)\.res_blocks\.(\d+)\.", r".pathway\1_res\2."),
            *_BRANCHES,
            *((rf"^blocks\.{n}(\.|_)", rf"s{n + 1}\1") for n in range(5)),
        ]
    ),
    "head.projection.",
)
PYSLOWFAST_X3D = KeyStyle(
    "PySlowFast",
    rename_keys(
        [
            (r"^blocks\.0\.conv\.conv_t\.", "s1.pathway0_stem.conv_xy."),
            (r"^blocks\.0\.conv\.conv_xy\.", "s1.pathway0_stem.conv."),
            (r"^blocks\.0\.norm\.", "s1.pathway0_stem.bn."),
            (r"^blocks\.5\.pool\.pre_conv\.", "head.conv_5."),
            (r"^blocks\.5\.pool\.pre_norm\.", "head.conv_5_bn."),
            (r"^blocks\.5\.pool\.post_conv\.", "head.lin_5."),
            (r"\.norm_b\.0\.", ".norm_b."),
            (r"\.norm_b\.1\.block\.0\.", ".se.fc1."),
            (r"\.norm_b\.1\.block\.2\.", ".se.fc2."),
            (r"\.res_blocks\.(\d+)\.", r".pathway0_res\1."),
            *_BRANCHES,
            *((rf"^blocks\.{n}\.", f"s{n + 1}.") for n in range(1, 5)),
        ]
    ),
    "head.projection.",
    always=SHORTCUT_NORM,
)

_CAFFE2_ENDINGS = [
    (r"bn\.weight$", "bn_s"),
    (r"bn\.bias$", "bn_b"),
    (r"bn\.running_mean$", "bn_rm"),
    (r"bn\.running_var$", "bn_riv"),
    (r"\.weight$", "_w"),
    (r"\.bias$", "_b"),
]
_CAFFE2 = rename_keys(
    [
        (r"pathway0_stem\.conv\.", "conv1."),
        (r"pathway1_stem\.conv\.", "t_conv1."),
        (r"pathway0_stem\.bn\.", "res_conv1_bn."),
        (r"pathway1_stem\.bn\.", "t_res_conv1_bn."),
        (r"^s1\.", ""),
        (r"^s1_fuse\.conv_f2s\.", "t_pool1_subsample."),
        (r"^s1_fuse\.bn\.", "t_pool1_subsample_bn."),
        # The fast pathway hands over after the last block of a stage: 3, 4 and 6 of them.
        *(
            pair
            for stage, last in ((2, 2), (3, 3), (4, 5))
            for pair in (
                (rf"^s{stage}_fuse\.conv_f2s\.", f"t_res{stage}_{last}_branch2c_bn_subsample."),
                (rf"^s{stage}_fuse\.bn\.", f"t_res{stage}_{last}_branch2c_bn_subsample_bn."),
            )
        ),
        (r"^s(\d)\.pathway0_nonlocal(\d+)\.(?:conv_)?", r"nonlocal_conv\1_\2_"),
        (r"^s(\d)\.pathway0_res(\d+)\.", r"res\1_\2_"),
        (r"^s(\d)\.pathway1_res(\d+)\.", r"t_res\1_\2_"),
        (r"branch2\.([abc])", r"branch2\1"),
        *_CAFFE2_ENDINGS,
    ]
)


def caffe2(pyslowfast: KeyStyle) -> KeyStyle:
    """Names in the Caffe2 files that PySlowFast's zoo links to. These also hold momenta and the rate."""
    return KeyStyle(
        "Caffe2", lambda own: _CAFFE2(pyslowfast.public_name(own)), "pred_", r".*_momentum$|lr$|model_iter$|pred_[wb]$"
    )


def _split_projections(state: State) -> State:
    """Fused projections [3 C, C] as three."""
    result: State = {}
    for name, value in state.items():
        if match := re.fullmatch(r"(.*\.attn\.)qkv\.(weight|bias)", name):
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                result[f"{match[1]}{letter}.{match[2]}"] = part
        else:
            result[name] = value
    return result


def _without_copies(state: State) -> State:
    """Leave out the second copy of each pool and norm that pytorchvideo's main saves; a copy that differs stays."""
    result: State = {}
    for name, value in _split_projections(state).items():
        match = re.fullmatch(r"(.*\.attn\.)_attention_pool_([qkv])\.(pool|norm)\.(weight|bias)", name)
        original = f"{match[1]}{match[3]}_{match[2]}.{match[4]}" if match else ""
        if original not in state:
            result[name] = value
        elif not torch.equal(value, state[original]):
            result[f"{name} (a copy that differs from {original})"] = value
    return result


PYTORCHVIDEO_MVIT = KeyStyle("pytorchvideo", str, "head.proj.", prepare=_without_copies)
PYSLOWFAST_MVIT = KeyStyle(
    "PySlowFast",
    rename_keys(
        [
            (r"^patch_embed\.patch_model\.", "patch_embed.proj."),
            (r"^cls_positional_encoding\.", ""),
            (r"^norm_embed\.", "norm."),
        ]
    ),
    "head.projection.",
    prepare=_split_projections,
)
TORCHVISION_MVIT = KeyStyle(
    "torchvision",
    rename_keys(
        [
            (r"^patch_embed\.patch_model\.", "conv_proj."),
            (r"^cls_positional_encoding\.cls_token$", "pos_encoding.class_token"),
            (r"^cls_positional_encoding\.pos_embed_(spatial|temporal|class)$", r"pos_encoding.\1_pos"),
            (r"\.pool_([qkv])\.weight$", r".pool_\1.pool.weight"),
            (r"\.norm_([qkv])\.", r".pool_\1.norm_act.0."),
            (r"\.attn\.proj\.", ".attn.project.0."),
            (r"\.mlp\.fc1\.", ".mlp.0."),
            (r"\.mlp\.fc2\.", ".mlp.3."),
            (r"^(blocks\.\d+)\.proj\.", r"\1.project."),
            (r"^norm_embed\.", "norm."),
        ]
    ),
    "head.1.",
    prepare=_split_projections,
)
TRANSFORMERS = KeyStyle("transformers", str, "classifier.")
# Files of VideoMAE keep the biases of queries and values separately from the projections, and have none for keys.
TRANSFORMERS_VIDEOMAE = KeyStyle(
    "transformers",
    rename_keys([(r"\.query\.bias$", ".q_bias"), (r"\.value\.bias$", ".v_bias")]),
    "classifier.",
)
# A file holds a classifier on the encoder, whose attentive pooler we do not have, or the self-supervised model with its
# predictor.
TRANSFORMERS_VJEPA2 = KeyStyle(
    "transformers", lambda own: f"vjepa2.{own}", "classifier.", r"(vjepa2\.)?predictor\..*|pooler\..*"
)
TRANSFORMERS_VJEPA2_ENCODER = KeyStyle("transformers encoder", str, "classifier.", r"predictor\..*")
EFFICIENTNET_PYTORCH = KeyStyle("EfficientNet-PyTorch", rename_keys([(r"^picture\.", "")]), "_fc.")
