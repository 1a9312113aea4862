"""Backbones that need a library: VideoMAE, TimeSformer and V-JEPA 2 (the extra `transformers`), EfficientNet-Lite0
(the extra `pictures`).

An encoder of `transformers` reads the clip, and its tokens become features along time. Weights keep the library's names
(``videomae.encoder.layer.N...``), except the head (its ``classifier``). VideoMAE (arXiv 2203.12602), TimeSformer (arXiv
2102.05095), V-JEPA 2 (arXiv 2506.09985).

EfficientNet-Lite0 (arXiv 1905.11946) sees single frames. Its weights have seen pictures, and no video.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.trainers.backbones import specs
from adaptfocus.trainers.backbones.contract import Backbone
from adaptfocus.trainers.backbones.specs import InputSpec

PATCH_PIXELS = 16  # of the three of transformers
PICTURE_FEATURES = 1280  # of EfficientNet-Lite0
BOTTLENECK = 128
VJEPA2_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}


def library() -> Any:
    """The `transformers` module.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            "this backbone needs the transformers library: pip install 'adaptfocus[transformers]'"
        ) from error
    return transformers


class LibraryBackbone(Backbone):
    """An encoder of the library. Its first convolution belongs to the library, and is not adapted."""

    embeddings = ("cls_token", "position_embeddings", "time_embeddings")

    def first_convolutions(self) -> list[nn.Conv3d]:
        return []

    def layers(self) -> list[nn.Module]:
        return [layer for module in self.modules() if isinstance(module, nn.ModuleList) for layer in module]

    def _head(self, dim: int, num_classes: int) -> None:
        self.head = nn.Linear(dim, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)


class VideoMAE(LibraryBackbone):
    """VideoMAE ViT-B: tubelets of two frames. The mean over all tokens goes through a norm, and then to the head."""

    def __init__(self, num_classes: int, spec: InputSpec = specs.VIDEOMAE, **config: Any) -> None:
        super().__init__()
        self.input_spec = spec
        models = library()
        settings = models.VideoMAEConfig(
            image_size=spec.size_pixels, num_frames=spec.frames, use_mean_pooling=True, **config
        )
        self.videomae = models.VideoMAEModel(settings)
        # The library keeps this table on the CPU and copies it in each step, which would wait for the GPU.
        table = self.videomae.embeddings.__dict__.pop("position_embeddings")
        self.videomae.embeddings.register_buffer("position_embeddings", table, persistent=False)
        self.fc_norm = nn.LayerNorm(settings.hidden_size)
        self._head(settings.hidden_size, num_classes)

    def feature_maps(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> maps float [B, 768, T/2, H/16, W/16]."""
        tokens = self.videomae(x.transpose(1, 2)).last_hidden_state
        return tokens.unflatten(1, (x.shape[2] // 2, x.shape[3] // PATCH_PIXELS, -1)).movedim(4, 1)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> features float [B, T/2, 768]."""
        tokens = self.videomae(x.transpose(1, 2)).last_hidden_state
        return tokens.unflatten(1, (x.shape[2] // 2, -1)).mean(dim=2)

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc_norm(self.forward_features(x).mean(dim=1))


class TimeSformer(LibraryBackbone):
    """TimeSformer B with divided space-time attention. The head reads the class token."""

    def __init__(self, num_classes: int, spec: InputSpec = specs.TIMESFORMER, **config: Any) -> None:
        super().__init__()
        self.input_spec = spec
        models = library()
        settings = models.TimesformerConfig(image_size=spec.size_pixels, num_frames=spec.frames, **config)
        self.timesformer = models.TimesformerModel(settings)
        self._head(settings.hidden_size, num_classes)

    def feature_maps(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> maps float [B, 768, T, H/16, W/16]."""
        tokens = self.timesformer(x.transpose(1, 2)).last_hidden_state
        return tokens[:, 1:].unflatten(1, (x.shape[3] // PATCH_PIXELS, -1, x.shape[2])).permute(0, 4, 3, 1, 2)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> features float [B, T, 768]."""
        tokens = self.timesformer(x.transpose(1, 2)).last_hidden_state
        return tokens[:, 1:].unflatten(1, (-1, x.shape[2])).mean(dim=1)  # the times of one patch lie together

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        return self.timesformer(x.transpose(1, 2)).last_hidden_state[:, 0]


class VJEPA2(LibraryBackbone):
    """V-JEPA 2's encoder (ViT-L). The head reads the mean over its tokens.

    The library's predictor and attentive pooler are left out.
    """

    def __init__(self, num_classes: int, spec: InputSpec = specs.VJEPA2, **config: Any) -> None:
        super().__init__()
        self.input_spec = spec
        models = library()
        # Imported from its module, because the library does not export the encoder.
        from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2Encoder

        settings = models.VJEPA2Config(
            crop_size=spec.size_pixels, frames_per_clip=spec.frames, **(VJEPA2_LARGE | config)
        )
        settings._attn_implementation = "sdpa"
        self.encoder = VJEPA2Encoder(settings)
        self.encoder.apply(_initialise)
        self._head(settings.hidden_size, num_classes)

    def feature_maps(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> maps float [B, 1024, T/2, H/16, W/16]."""
        tokens = self.encoder(x.transpose(1, 2)).last_hidden_state
        return tokens.unflatten(1, (x.shape[2] // 2, x.shape[3] // PATCH_PIXELS, -1)).movedim(4, 1)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> features float [B, T/2, 1024]."""
        tokens = self.encoder(x.transpose(1, 2)).last_hidden_state
        return tokens.unflatten(1, (x.shape[2] // 2, -1)).mean(dim=2)


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Conv3d)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def picture_library() -> Any:
    """The class of the picture network.

    Raises:
        ConfigError: its package is not installed.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ConfigError(
            "this backbone needs the package efficientnet-lite-pytorch: pip install 'adaptfocus[pictures]'"
        ) from error
    return EfficientNet


class TemporalBlock(nn.Module):
    """x + a norm and two convolutions over time, of which the first sees three frames.

    The second begins at zero, so a new block changes nothing: a model that starts from weights of pictures gives
    exactly their features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mix = nn.Conv1d(channels, BOTTLENECK, 3, padding=1)
        self.expand = nn.Conv1d(BOTTLENECK, channels, 1)
        for weight in self.expand.parameters():
            nn.init.zeros_(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, T, C] -> float [B, T, C]."""
        mixed = self.expand(torch.relu(self.mix(self.norm(x).transpose(1, 2))))
        return x + mixed.transpose(1, 2)


class EfficientNetLite0(Backbone):
    """Each frame through the picture network, the mean over its places, two temporal blocks, and the mean over time.

    T' = T. A time sees the two frames before it and the two after it. `TemporalHead` is no part of this, because it
    changes features before it is trained.
    """

    fresh = ("temporal.",)

    def __init__(self, num_classes: int, spec: InputSpec = specs.EFFICIENTNET_LITE0, **settings: Any) -> None:
        super().__init__()
        self.input_spec = spec
        # Without a size its convolutions pad by the size of what they get. Nothing is dropped at random.
        fixed = {"image_size": None, "drop_connect_rate": 0.0}
        self.picture: Any = picture_library().from_name("efficientnet-lite0", **settings, **fixed)
        self.picture._fc = nn.Identity()
        for module in self.picture.modules():
            if isinstance(module, nn.Conv2d):  # with torch's own beginning, nothing reaches the end of a fresh network
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        self.temporal = nn.Sequential(TemporalBlock(PICTURE_FEATURES), TemporalBlock(PICTURE_FEATURES))
        self.head = nn.Linear(PICTURE_FEATURES, num_classes)

    def layers(self) -> list[nn.Module]:
        return [*self.picture._blocks, *self.temporal]

    def feature_maps(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> maps float [B, 1280, T, H/32, W/32] of single frames, before the temporal blocks."""
        # With channels innermost, a core takes 9.3 ms a frame of 112 pixels instead of 14.5.
        frames = x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return self.picture.extract_features(frames).unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> features float [B, T, 1280]."""
        return self.temporal(self.feature_maps(x).mean(dim=(3, 4)).transpose(1, 2))
