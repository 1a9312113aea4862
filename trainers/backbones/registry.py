"""All backbones by name: what they take, where their public weights come from, what they need.

Input: nothing. Does: lists. Output: `BACKBONES`; `HEADS`, which are trained on features of them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from adaptfocus.trainers.backbones import inception_i3d, key_styles, mvit, resnet3d, slowfast, transformers_models, x3d
from adaptfocus.trainers.backbones.contract import Backbone, InputSpec
from adaptfocus.trainers.backbones.inception_i3d import InceptionI3D
from adaptfocus.trainers.backbones.key_styles import KeyStyle
from adaptfocus.trainers.backbones.mvit import MViT
from adaptfocus.trainers.backbones.r2plus1d_tiny import R2Plus1DTiny
from adaptfocus.trainers.backbones.resnet3d import NONLOCAL_AFTER, ResNet3D
from adaptfocus.trainers.backbones.slowfast import SlowFast
from adaptfocus.trainers.backbones.small3d import Small3D
from adaptfocus.trainers.backbones.temporal_head import TemporalHead
from adaptfocus.trainers.backbones.transformers_models import VJEPA2, TimeSformer, VideoMAE
from adaptfocus.trainers.backbones.x3d import X3D


@dataclass(frozen=True)
class Entry:
    """One backbone. `styles`: the names its public weights have; exports use the first.

    `parameters_millions`: with a head of 400 classes. `gflops`: multiply-adds of a clip of `spec` in a forward pass,
    in 1e9, as papers count them. Both are counted by a test. `weights`: where they come from, for people. `extra`: what
    has to be installed beside the core.
    """

    make: Callable[..., Backbone]
    spec: InputSpec
    styles: tuple[KeyStyle, ...]
    parameters_millions: float
    gflops: float
    weights: str
    extra: str | None = None

    @property
    def installed(self) -> bool:
        return self.extra is None or importlib.util.find_spec(self.extra) is not None


_RESNET = key_styles.PYSLOWFAST_RESNET
_SLOWFAST = key_styles.PYSLOWFAST_SLOWFAST
_MVIT = (key_styles.PYTORCHVIDEO_MVIT, key_styles.PYSLOWFAST_MVIT, key_styles.TORCHVISION_MVIT)
_X3D = (key_styles.pytorchvideo("blocks.5.proj."), key_styles.PYSLOWFAST_X3D)
_VJEPA2 = (key_styles.TRANSFORMERS_VJEPA2, key_styles.TRANSFORMERS_VJEPA2_ENCODER)
_POSITIONS = "those of another length: positions are interpolated"


def _mvit(frames: int, stride: int, millions: float, gflops: float, weights: str, depth: int = 16) -> Entry:
    return Entry(partial(MViT, depth=depth), mvit.spec(frames, stride), _MVIT, millions, gflops, weights)


BACKBONES: dict[str, Entry] = {
    "small3d": Entry(Small3D, Small3D.input_spec, (), 0.03, 0.004, "trainers.pretraining makes them"),
    "r2plus1d_tiny": Entry(
        R2Plus1DTiny, R2Plus1DTiny.input_spec, (), 0.23, 0.016, "none: it learns from scratch; or adaptfocus pretrain"
    ),
    "inception_i3d": Entry(
        InceptionI3D, inception_i3d.SPEC, (key_styles.PYTORCH_I3D,), 12.70, 111.2, "pytorch-i3d: models/rgb_imagenet.pt"
    ),
    "i3d_r50": Entry(
        ResNet3D, resnet3d.I3D_SPEC, (key_styles.pytorchvideo("blocks.6.proj."), _RESNET, key_styles.caffe2(_RESNET)),
        28.04, 28.4, "pytorchvideo: I3D_8x8_R50.pyth",
    ),
    "nonlocal_i3d_r50": Entry(
        partial(ResNet3D, nonlocal_after=NONLOCAL_AFTER), resnet3d.I3D_SPEC, (_RESNET, key_styles.caffe2(_RESNET)),
        35.40, 36.5, "PySlowFast's zoo (Caffe2): I3D_NLN_8x8_R50.pkl",
    ),
    "slowfast_r50": Entry(
        SlowFast, slowfast.SPEC,
        (key_styles.pytorchvideo("blocks.6.proj."), _SLOWFAST, key_styles.caffe2(_SLOWFAST)),
        34.57, 50.3, "pytorchvideo: SLOWFAST_8x8_R50.pyth",
    ),
    "x3d_s": Entry(partial(X3D, depths=x3d.DEPTHS_M), x3d.SPEC_S, _X3D, 3.79, 1.96, "pytorchvideo: X3D_S.pyth"),
    "x3d_m": Entry(partial(X3D, depths=x3d.DEPTHS_M), x3d.SPEC_M, _X3D, 3.79, 4.73, "pytorchvideo: X3D_M.pyth"),
    "x3d_l": Entry(partial(X3D, depths=x3d.DEPTHS_L), x3d.SPEC_L, _X3D, 6.15, 18.4, "pytorchvideo: X3D_L.pyth"),
    "mvit_b_16x4": _mvit(16, 4, 36.61, 70.6, "pytorchvideo: MVIT_B_16x4.pyth; torchvision: mvit_v1_b"),
    "mvit_b_32x3": _mvit(32, 3, 36.61, 170.0, "pytorchvideo: MVIT_B_32x3_f294077834.pyth"),
    "mvit_b_64x3": _mvit(64, 3, 36.61, 455.1, _POSITIONS),
    "mvit_b_24_32x3": _mvit(32, 3, 53.17, 236.2, "PySlowFast's zoo", depth=24),
    "videomae_b": Entry(
        VideoMAE, transformers_models.VIDEOMAE_SPEC, (key_styles.TRANSFORMERS_VIDEOMAE, key_styles.TRANSFORMERS),
        86.53, 180.3, "Hugging Face: MCG-NJU/videomae-base-finetuned-kinetics", "transformers",
    ),
    "timesformer_b": Entry(
        TimeSformer, transformers_models.TIMESFORMER_SPEC, (key_styles.TRANSFORMERS,),
        121.57, 195.8, "Hugging Face: facebook/timesformer-base-finetuned-k400", "transformers",
    ),
    "vjepa2_l": Entry(
        VJEPA2, transformers_models.VJEPA2_SPEC, _VJEPA2, 304.30, 5785.3,
        "Hugging Face: facebook/vjepa2-vitl-fpc64-256", "transformers",
    ),
}  # fmt: skip

HEAD = "temporal_head"  # what is trained where `features` is given
HEADS: dict[str, Entry] = {HEAD: Entry(TemporalHead, TemporalHead.input_spec, (), 0.3, 0.002, "none")}
