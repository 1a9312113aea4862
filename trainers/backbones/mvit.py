"""MViT-B with 16 and 24 layers: attention pools its tokens, so that channels grow as time and space shrink.

T must be even, and H and W multiples of 32. A patch spans 2 frames, so there are T/2 features along time, each a mean
over space. The head reads the class token.

Weights keep the names they have in pytorchvideo (``blocks.N.attn.pool_q.weight``), except the head. Positions along
time and space are interpolated where a clip is not of the size of the weights. Multiscale vision transformers
(arXiv 2104.11227).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from adaptfocus.trainers.backbones.contract import Backbone
from adaptfocus.trainers.backbones.specs import InputSpec

PATCH = (2, 4, 4)  # strides of the first convolution
GROWS_AT = {16: (1, 3, 14), 24: (2, 5, 21)}  # by depth: blocks that halve the size and double the heads
KEYS_AT = 8  # stride of the first keys and values; it halves where queries are pooled, so that their grid is constant

Grid = tuple[int, int, int]
# Kernels of the convolutions that pool: 3x3x3 everywhere, or one more than the stride along each axis. In the second
# form a convolution that would not pool is left out (PySlowFast without POOL_KVQ_KERNEL, as in MVIT_B_32x3_CONV).
Kernels = Literal["3x3x3", "of strides"]
# Of all norms, including those of pools, as in PySlowFast since June 2022, torchvision and pytorchvideo's main. In
# older versions, and in pytorchvideo 0.1.5, the norms of pools had 1e-5.
layer_norm = partial(nn.LayerNorm, eps=1e-6)


def pool_tokens(x: torch.Tensor, grid: Grid, pool: nn.Module | None) -> tuple[torch.Tensor, Grid]:
    """Tokens [B, heads, 1 + THW, C], the class token first -> tokens of a smaller grid, and that grid."""
    if pool is None:
        return x, grid
    first, rest = x[:, :, :1], x[:, :, 1:]
    rest = rest.flatten(0, 1).transpose(1, 2).unflatten(2, grid)
    rest = pool(rest.contiguous())
    smaller = (rest.shape[2], rest.shape[3], rest.shape[4])
    rest = rest.flatten(2).transpose(1, 2).unflatten(0, x.shape[:2])
    return torch.cat([first, rest], dim=2), smaller


class Attention(nn.Module):
    """Attention whose queries, keys and values are pooled first."""

    def __init__(self, dim: int, heads: int, stride_q: int, stride_kv: int, kernels: Kernels) -> None:
        super().__init__()
        self.heads, self.stride_q, self.stride_kv = heads, stride_q, stride_kv
        self.q, self.k, self.v, self.proj = (nn.Linear(dim, dim) for _ in range(4))
        self.make_pools(kernels)

    def make_pools(self, kernels: Kernels) -> None:
        """Make fresh pools: of queries only where their size shrinks, of keys and values unless the kernel is 1."""
        weight = self.q.weight
        each = weight.shape[0] // self.heads
        with torch.device(weight.device):
            keys = self.stride_kv > 1 or kernels == "3x3x3"
            self.pool_q = _depthwise(each, self.stride_q, kernels) if self.stride_q > 1 else None
            self.norm_q = layer_norm(each) if self.stride_q > 1 else None
            self.pool_k, self.pool_v = (_depthwise(each, self.stride_kv, kernels) if keys else None for _ in range(2))
            self.norm_k, self.norm_v = (layer_norm(each) if keys else None for _ in range(2))
        self.to(weight.dtype)

    def forward(self, x: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, Grid]:
        q, k, v = (layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        q, smaller = pool_tokens(q, grid, self.pool_q)
        q = q if self.norm_q is None else self.norm_q(q)
        k = k if self.norm_k is None else self.norm_k(pool_tokens(k, grid, self.pool_k)[0])
        v = v if self.norm_v is None else self.norm_v(pool_tokens(v, grid, self.pool_v)[0])
        found = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(found.transpose(1, 2).flatten(2)), smaller


class Mlp(nn.Module):
    """Two layers, with four times the width between them."""

    def __init__(self, dim: int, dim_out: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pooled attention, then an MLP that may widen. In training, either may be left out for some clips."""

    path_scale: torch.Tensor | None = None  # factors of attention and MLP, float [B, 2]; None: both count

    def __init__(
        self, dim: int, dim_out: int, heads: int, stride_q: int, stride_kv: int, kernels: Kernels = "3x3x3"
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = layer_norm(dim), layer_norm(dim)
        self.attn = Attention(dim, heads, stride_q, stride_kv, kernels)
        self.mlp = Mlp(dim, dim_out)
        self.proj = nn.Linear(dim, dim_out) if dim_out != dim else None
        self.pool_skip = nn.MaxPool3d((1, 3, 3), (1, stride_q, stride_q), (0, 1, 1)) if stride_q > 1 else None

    def forward(self, x: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, Grid]:
        seen, smaller = self.attn(self.norm1(x), grid)
        x = pool_tokens(x[:, None], grid, self.pool_skip)[0][:, 0] + self._kept(seen, 0)
        normed = self.norm2(x)
        return (x if self.proj is None else self.proj(normed)) + self._kept(self.mlp(normed), 1), smaller

    def _kept(self, branch: torch.Tensor, number: int) -> torch.Tensor:
        if not self.training or self.path_scale is None:
            return branch
        return branch * self.path_scale[:, number, None, None].to(branch.dtype)


class Patches(nn.Module):
    """Pixels to tokens."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.patch_model = nn.Conv3d(3, dim, (3, 7, 7), PATCH, (1, 3, 3))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, Grid]:
        x = self.patch_model(x)
        return x.flatten(2).transpose(1, 2), (x.shape[2], x.shape[3], x.shape[4])


class Positions(nn.Module):
    """Adds the class token, and the position of each token: the sum of a position in time and one in space."""

    def __init__(self, dim: int, grid: Grid) -> None:
        super().__init__()
        self.side = grid[1]
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed_spatial = nn.Parameter(torch.zeros(1, grid[1] * grid[2], dim))
        self.pos_embed_temporal = nn.Parameter(torch.zeros(1, grid[0], dim))
        self.pos_embed_class = nn.Parameter(torch.zeros(1, 1, dim))

    def forward(self, x: torch.Tensor, grid: Grid) -> torch.Tensor:
        time = along_time(self.pos_embed_temporal, grid[0])
        space = along_space(self.pos_embed_spatial, self.side, grid[1], grid[2])
        places = (time[:, :, None] + space[:, None]).flatten(1, 2)
        first = (self.cls_token + self.pos_embed_class).expand(x.shape[0], -1, -1)
        return torch.cat([first, x + places], dim=1)


class MViT(Backbone):
    """MViT-B; `depth` is 16 or 24. Loading weights whose pools have kernels that follow the strides sets `kernels`."""

    embeddings = ("cls_token", "pos_embed_spatial", "pos_embed_temporal", "pos_embed_class")

    layer_kinds = (Block,)

    def __init__(self, num_classes: int, spec: InputSpec, depth: int = 16, width: int = 96) -> None:
        super().__init__()
        self.input_spec = spec
        self.kernels: Kernels = "3x3x3"
        grid = (spec.frames // PATCH[0], spec.size_pixels // PATCH[1], spec.size_pixels // PATCH[2])
        self.patch_embed = Patches(width)
        self.cls_positional_encoding = Positions(width, grid)
        self.blocks = nn.ModuleList()
        dim, heads, stride_kv = width, 1, KEYS_AT
        for number in range(depth):
            grows = number in GROWS_AT[depth]
            heads, stride_kv = (2 * heads, max(stride_kv // 2, 1)) if grows else (heads, stride_kv)
            dim_out = 2 * dim if number + 1 in GROWS_AT[depth] else dim
            self.blocks.append(Block(dim, dim_out, heads, 2 if grows else 1, stride_kv))
            dim = dim_out
        self.norm_embed = layer_norm(dim)
        self.head = nn.Linear(dim, num_classes)
        self._initialise()

    def feature_maps(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> maps float [B, 768, T/2, H/32, W/32]."""
        tokens, grid = self._tokens(x)
        return tokens[:, 1:].unflatten(1, grid).movedim(4, 1)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """float [B, 3, T, H, W] -> features float [B, T/2, 768]."""
        tokens, grid = self._tokens(x)
        return tokens[:, 1:].unflatten(1, grid).mean(dim=(2, 3))

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """The class token, float [B, 768]."""
        return self._tokens(x)[0][:, 0]

    def paths(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def optional_weights(self) -> tuple[str, ...]:
        """Pools of keys and values of stride 1; they do not exist where kernels follow the strides."""
        parts = ("pool_k.weight", "pool_v.weight", "norm_k.weight", "norm_k.bias", "norm_v.weight", "norm_v.bias")
        still = [n for n, block in enumerate(self.paths()) if block.attn.stride_kv == 1]
        return tuple(f"blocks.{number}.attn.{part}" for number in still for part in parts)

    def take_form(self, shapes: Mapping[str, torch.Size]) -> None:
        """Take the kernels of the first block's keys, of stride 8: [C, 1, 3, 3, 3], or [C, 1, 1, 9, 9]."""
        shape = shapes.get("blocks.0.attn.pool_k.weight")
        follows = shape is not None and tuple(shape[-3:]) == _kernel(KEYS_AT, "of strides")
        kernels: Kernels = "of strides" if follows else "3x3x3"
        if shape is not None and kernels != self.kernels:
            self.kernels = kernels
            for block in self.paths():
                block.attn.make_pools(kernels)

    def fitted(self, name: str, value: torch.Tensor, wanted: torch.Size) -> torch.Tensor:
        """Interpolate positions along time of weights for another number of frames."""
        if name.endswith("pos_embed_temporal") and value.shape[-1] == wanted[2]:
            return along_time(value.reshape(1, -1, wanted[2]), wanted[1])
        return value

    def _tokens(self, x: torch.Tensor) -> tuple[torch.Tensor, Grid]:
        tokens, grid = self.patch_embed(x)
        tokens = self.cls_positional_encoding(tokens, grid)
        for block in self.blocks:
            tokens, grid = block(tokens, grid)
        return self.norm_embed(tokens), grid

    @torch.no_grad()
    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        for name, weight in self.named_parameters():
            if name.endswith(self.embeddings):
                nn.init.trunc_normal_(weight, std=0.02)


def along_time(positions: torch.Tensor, frames: int) -> torch.Tensor:
    """Positions [1, T, C] -> [1, frames, C], interpolated linearly."""
    if positions.shape[1] == frames:
        return positions
    longer = functional.interpolate(positions.transpose(1, 2), size=frames, mode="linear", align_corners=False)
    return longer.transpose(1, 2)


def along_space(positions: torch.Tensor, side: int, height: int, width: int) -> torch.Tensor:
    """Positions [1, side^2, C] -> [1, height * width, C], interpolated bicubically."""
    if (side, side) == (height, width):
        return positions
    square = positions.transpose(1, 2).unflatten(2, (side, side))
    resized = functional.interpolate(square, size=(height, width), mode="bicubic", align_corners=False)
    return resized.flatten(2).transpose(1, 2)


def _kernel(stride: int, kernels: Kernels) -> Grid:
    if kernels == "3x3x3":
        return (3, 3, 3)
    side = stride + 1 if stride > 1 else 1
    return (1, side, side)


def _depthwise(dim: int, stride: int, kernels: Kernels) -> nn.Conv3d:
    time, height, width = _kernel(stride, kernels)
    padding = (time // 2, height // 2, width // 2)
    return nn.Conv3d(dim, dim, (time, height, width), (1, stride, stride), padding, groups=dim, bias=False)
