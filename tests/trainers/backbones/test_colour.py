"""Planes of YUV, converted on the device, are the pictures that the decoder would have sent as RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from adaptfocus.pipelines.decode.pictures import write_picture
from adaptfocus.pipelines.video.display import Display
from adaptfocus.trainers.backbones.colour import is_yuv420p, rgb_of_yuv420p
from tests.footage import footage_folder
from tests.moving import kind, sequential


def both(path: Path, size: int, degrees: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Six frames as RGB and by way of YUV: [6, 3, S, S] each."""
    frames = list(sequential(path).values())[::5][:6]
    rgb, yuv = (
        np.empty((len(frames), 3, size, size), np.uint8),
        np.empty((len(frames), 1, size * 3 // 2, size), np.uint8),
    )
    for number, frame in enumerate(frames):
        write_picture(frame, 0.9, "rgb", Display(degrees), rgb[number])
        write_picture(frame, 0.9, "yuv420p", Display(degrees), yuv[number])
    return rgb.astype(np.float32), rgb_of_yuv420p(torch.from_numpy(yuv)).numpy()


@pytest.mark.parametrize("name", ["gop-60-faststart", "bt709", "full-range", "10-bit"])
def test_planes_become_the_same_colours(tmp_path: Path, name: str) -> None:
    """Half the chroma is gone, which shows in the noise of these videos; their colours are the same."""
    rgb, converted = both(kind(name, tmp_path), 66)
    assert np.abs(rgb - converted).mean() < 6
    assert np.abs((rgb - converted).mean(axis=(0, 2, 3))).max() < 2.5
    means = [picture.reshape(6, 3, 6, 11, 6, 11).mean(axis=(3, 5)) for picture in (rgb, converted)]
    assert np.abs(means[0] - means[1]).max() < 8


@pytest.mark.footage
@pytest.mark.parametrize("name", ["long/bottle-detection.mp4", "long/car-detection.mp4", "awkward/nasa_13013.mp4"])
def test_planes_of_real_footage_become_the_same_colours(name: str) -> None:
    rgb, converted = both(footage_folder() / name, 112)
    assert np.abs(rgb - converted).mean() < 2.5


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_turned_planes_stay_together(tmp_path: Path, degrees: int) -> None:
    rgb, converted = both(kind("gop-60-faststart", tmp_path), 66, degrees)
    assert np.abs(rgb - converted).mean() < 6


def test_primary_colours() -> None:
    """Red, green, blue, white and black of BT.601 in limited range."""
    colours = {(81, 90, 240): (255, 0, 0), (145, 54, 34): (0, 255, 0), (41, 240, 110): (0, 0, 255),
               (235, 128, 128): (255, 255, 255), (16, 128, 128): (0, 0, 0)}  # fmt: skip
    for (y, u, v), rgb in colours.items():
        planes = torch.tensor([y] * 16 + [u] * 4 + [v] * 4, dtype=torch.uint8).reshape(1, 1, 6, 4)
        assert torch.allclose(rgb_of_yuv420p(planes).mean(dim=(0, 2, 3)), torch.tensor(rgb).float(), atol=2)


def test_leading_axes_are_kept_and_other_shapes_refused() -> None:
    assert rgb_of_yuv420p(torch.zeros(2, 5, 1, 12, 8, dtype=torch.uint8)).shape == (2, 5, 3, 8, 8)
    assert not is_yuv420p(torch.zeros(2, 3, 8, 8))
    for shape in ((2, 3, 8, 8), (1, 8, 8)):
        with pytest.raises(ValueError, match="even S, not"):
            rgb_of_yuv420p(torch.zeros(shape, dtype=torch.uint8))
