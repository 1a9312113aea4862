"""Files like public checkpoints, in every style of names that they come in, which take no memory.

`golden/STYLE-BACKBONE.txt` lists the names and shapes of such a file; its first line says where they were taken from.
In the files made here each weight holds a different number, so that a weight in a wrong place is seen.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import torch

from adaptfocus.trainers.backbones import BACKBONES, build
from tests.trainers.backbones.small_backbones import needs_library

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(path.stem for path in GOLDEN.glob("*.txt"))


def golden(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a golden list; ``a.{b,c} 2x3`` stands for two weights."""
    shapes: dict[str, tuple[int, ...]] = {}
    for line in (GOLDEN / f"{name}.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        pattern, size = line.split()
        stem, _, tails = pattern.partition("{")
        for tail in tails.removesuffix("}").split(","):
            shapes[stem + tail] = tuple(map(int, size.split("x")))
    return shapes


def backbone_of(name: str) -> str:
    return next(backbone for backbone in BACKBONES if name.endswith(f"-{backbone}"))


def file_of(name: str) -> dict[str, torch.Tensor]:
    """A public file: each weight holds one number everywhere, in no memory, and a fused weight holds three."""
    file = {}
    for number, (key, shape) in enumerate(golden(name).items()):
        if fused_in(name) and ".attn.qkv." in key:
            file[key] = torch.cat([torch.full((shape[0] // 3, *shape[1:]), number + part) for part in (0.0, 0.25, 0.5)])
        else:
            file[key] = torch.tensor(float(number)).expand(shape)
    for key in file.keys() & second_copies(name).keys():
        file[key] = file[second_copies(name)[key]]
    return file


def second_copies(name: str) -> dict[str, str]:
    """The names that pytorchvideo's main saves twice -> the weights that they repeat."""
    again = re.compile(r"_attention_pool_([qkv])\.(pool|norm)\.")
    return {key: again.sub(r"\2_\1.", key) for key in golden(name) if again.search(key)}


def whole_model(name: str) -> torch.nn.Module:
    """The backbone of a golden list, in full and without memory."""
    needs_library(backbone_of(name))
    with torch.device("meta"):
        return build(backbone_of(name), 3)


def fused_in(name: str) -> bool:
    return name.startswith(("pyslowfast-mvit", "torchvision"))


def save(url: Path, content: object) -> str:
    torch.save(content, url)
    return str(url)


def save_blobs(url: Path, content: object) -> str:
    """A Caffe2 pickle as Python 2 wrote it: numpy's old names."""
    url.write_bytes(pickle.dumps(content, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    return str(url)
