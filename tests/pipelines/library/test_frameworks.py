"""Clips under Lightning and Accelerate: their own checkpoints hold the position, and a resume reads the rest once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.library import Clips, Index, uniform
from tests.pipelines.library.conftest import CLIP

pytestmark = [pytest.mark.library, pytest.mark.filterwarnings("ignore")]


def clips_of(index: Index) -> Clips:
    return Clips(index, uniform(index, CLIP, 2), CLIP, isolation=None)


def test_lightning_resumes_in_mid_epoch(index: Index, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, len(index.classes))
            self.seen: list[int] = []

        def training_step(self, batch: dict[str, Any], _: int) -> torch.Tensor:
            self.seen += batch["place"].tolist()
            logits = self.head(batch["frames"].float().mean((1, 3, 4)) / 255)
            return nn.functional.binary_cross_entropy_with_logits(logits, batch["labels"])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    def trainer(**more: Any) -> Any:
        return lightning.Trainer(
            accelerator="cpu", devices=1, max_epochs=2, logger=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=tmp_path, **more,
        )  # fmt: skip

    saving = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, "mid", every_n_train_steps=3)
    first, second = Module(), Module()
    trainer(max_steps=3, callbacks=[saving]).fit(first, clips_of(index).loader(4, 2))
    trainer().fit(second, clips_of(index).loader(4, 1), ckpt_path=tmp_path / "mid.ckpt")
    assert first.seen == [*range(12)]
    assert second.seen == [*range(12, 36), *range(36)]


def test_accelerate_keeps_the_position_in_its_checkpoints(index: Index, tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    seen: list[int] = []
    accelerator, loader = accelerate.Accelerator(cpu=True), clips_of(index).loader(4, 2)
    accelerator.register_for_checkpointing(loader)
    for batch in loader:
        seen += batch["place"].tolist()
        if len(seen) == 12:
            accelerator.save_state(str(tmp_path / "state"))
            break
    other, resumed = accelerate.Accelerator(cpu=True), clips_of(index).loader(6, 1)
    other.register_for_checkpointing(resumed)
    other.load_state(str(tmp_path / "state"))
    seen += [place for batch in resumed for place in batch["place"].tolist()]
    assert seen == [*range(36)]


def test_accelerate_prepares_torchs_loader_of_clips(index: Index) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    prepared = accelerator.prepare(DataLoader(clips_of(index), 4))  # type: ignore[arg-type]
    rest = accelerator.skip_first_batches(prepared, 3)
    assert [place for batch in rest for place in batch["place"].tolist()] == [*range(12, 36)]
    with pytest.raises(ConfigError, match=r"accelerator\.prepare does that"):
        next(iter(accelerator.prepare(clips_of(index).loader(4))))
