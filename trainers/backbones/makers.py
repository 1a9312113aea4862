"""How each backbone is built, and the names that its public weights have. `MAKERS` has the names of `specs.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from adaptfocus.trainers.backbones import key_styles, x3d
from adaptfocus.trainers.backbones.contract import Backbone
from adaptfocus.trainers.backbones.inception_i3d import InceptionI3D
from adaptfocus.trainers.backbones.key_styles import KeyStyle
from adaptfocus.trainers.backbones.library_models import VJEPA2, EfficientNetLite0, TimeSformer, VideoMAE
from adaptfocus.trainers.backbones.mvit import MViT
from adaptfocus.trainers.backbones.r2plus1d_tiny import R2Plus1DTiny
from adaptfocus.trainers.backbones.resnet3d import NONLOCAL_AFTER, ResNet3D
from adaptfocus.trainers.backbones.slowfast import SlowFast
from adaptfocus.trainers.backbones.small3d import Small3D
from adaptfocus.trainers.backbones.specs import HEAD, entry_of
from adaptfocus.trainers.backbones.temporal_head import TemporalHead
from adaptfocus.trainers.backbones.x3d import X3D


@dataclass(frozen=True)
class Maker:
    """How to build one backbone: `make(num_classes, spec=InputSpec)`.

    `styles` are the styles in which its public weights are named; exports use the first.
    """

    make: Callable[..., Backbone]
    styles: tuple[KeyStyle, ...] = ()


_RESNET = key_styles.PYSLOWFAST_RESNET
_SLOWFAST = key_styles.PYSLOWFAST_SLOWFAST
_MVIT = (key_styles.PYTORCHVIDEO_MVIT, key_styles.PYSLOWFAST_MVIT, key_styles.TORCHVISION_MVIT)
_X3D = (key_styles.pytorchvideo("blocks.5.proj."), key_styles.PYSLOWFAST_X3D)
_VJEPA2 = (key_styles.TRANSFORMERS_VJEPA2, key_styles.TRANSFORMERS_VJEPA2_ENCODER)
_OF_BLOCKS_6 = key_styles.pytorchvideo("blocks.6.proj.")

MAKERS: dict[str, Maker] = {
    "small3d": Maker(Small3D),
    "r2plus1d_tiny": Maker(R2Plus1DTiny),
    "inception_i3d": Maker(InceptionI3D, (key_styles.PYTORCH_I3D,)),
    "i3d_r50": Maker(ResNet3D, (_OF_BLOCKS_6, _RESNET, key_styles.caffe2(_RESNET))),
    "nonlocal_i3d_r50": Maker(partial(ResNet3D, nonlocal_after=NONLOCAL_AFTER), (_RESNET, key_styles.caffe2(_RESNET))),
    "slowfast_r50": Maker(SlowFast, (_OF_BLOCKS_6, _SLOWFAST, key_styles.caffe2(_SLOWFAST))),
    "x3d_s": Maker(partial(X3D, depths=x3d.DEPTHS_M), _X3D),
    "x3d_m": Maker(partial(X3D, depths=x3d.DEPTHS_M), _X3D),
    "x3d_l": Maker(partial(X3D, depths=x3d.DEPTHS_L), _X3D),
    "mvit_b_16x4": Maker(partial(MViT, depth=16), _MVIT),
    "mvit_b_32x3": Maker(partial(MViT, depth=16), _MVIT),
    "mvit_b_64x3": Maker(partial(MViT, depth=16), _MVIT),
    "mvit_b_24_32x3": Maker(partial(MViT, depth=24), _MVIT),
    "videomae_b": Maker(VideoMAE, (key_styles.TRANSFORMERS_VIDEOMAE, key_styles.TRANSFORMERS)),
    "timesformer_b": Maker(TimeSformer, (key_styles.TRANSFORMERS,)),
    "vjepa2_l": Maker(VJEPA2, _VJEPA2),
    "efficientnet_lite0": Maker(EfficientNetLite0, (key_styles.EFFICIENTNET_PYTORCH,)),
    HEAD: Maker(TemporalHead),
}


def maker_of(name: str) -> Maker:
    """How a backbone is built.

    Raises:
        ConfigError: there is no backbone of that name.
    """
    entry_of(name)
    return MAKERS[name]
