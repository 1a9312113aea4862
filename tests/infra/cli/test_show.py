"""`adaptfocus show`: what a user sees of one clip."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from adaptfocus.infra.report.contact_sheet import contact_sheet
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs.preparation import prepare
from tests.worlds import SmallWorld


def test_a_clip_in_words_and_as_a_picture(type_, small_world: SmallWorld, tmp_path: Path) -> None:
    config = small_world.run_config(tmp_path, "r", "epochs=1")
    prepare(config)
    train(config, LocalEngine(4))
    code, out, _ = type_("show", config.url, 1, "--out", tmp_path / "clip.png", "--size-pixels", 32)
    assert code == 0
    for said in ("epoch 1, slot 0, clip 2 of 3", "trained", "it explores", "decoded from the keyframe at", "p of this"):
        assert said in out
    assert "1 request, 8 frames ->" in out
    with av.open(str(tmp_path / "clip.png")) as picture:
        frame = next(picture.decode(video=0))
    assert (frame.width, frame.height) == (8 * 32 + 7 * 2, 32)
    code, _, err = type_("show", config.url, 77)
    assert (code, "77 is draw 77 of slot 0 of epoch 1" in err) == (2, True)


@pytest.mark.parametrize(("frames", "rows", "columns"), [(1, 1, 1), (8, 1, 8), (9, 2, 8)])
def test_frames_stand_in_their_order(tmp_path: Path, frames: int, rows: int, columns: int) -> None:
    pixels = np.stack([np.full((3, 10, 12), 20 * n, np.uint8) for n in range(frames)])
    (tmp_path / "sheet.png").write_bytes(contact_sheet(pixels))
    with av.open(str(tmp_path / "sheet.png")) as picture:
        sheet = next(picture.decode(video=0)).to_ndarray(format="rgb24")
    assert sheet.shape == (rows * 12 - 2, columns * 14 - 2, 3)
    for n in range(frames):
        assert (sheet[n // 8 * 12 : n // 8 * 12 + 10, n % 8 * 14 : n % 8 * 14 + 12] == 20 * n).all()
