"""Train a model of your own with Lightning, stop in the middle of an epoch, and resume with another number of workers.

    python examples/train_with_lightning.py FOLDER

FOLDER is what train_on_a_world.py wrote. Lightning is not part of this package: `pip install lightning`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

import adaptfocus


class Tagger(lightning.LightningModule):
    """A small 3D network. `seen` has the place in the epoch's order of each clip that was trained."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(3, 16, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self.head = nn.Linear(16, num_classes)
        self.seen: list[int] = []

    def training_step(self, batch: dict[str, Any], _: int) -> torch.Tensor:
        self.seen += batch["place"].tolist()
        clips = batch["frames"].transpose(1, 2) / 255  # [B, 3, T, S, S]
        return nn.functional.binary_cross_entropy_with_logits(self.head(self.body(clips)), batch["labels"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main(folder: str) -> None:
    index = adaptfocus.open_index(f"{folder}/world/index/train")
    clip = adaptfocus.ClipConfig(frames=8, frame_stride=1, fps=4, size_pixels=64)

    # 1. A loader is given to `fit` as any DataLoader. Its position goes into Lightning's checkpoints.
    def loader(num_workers: int) -> Any:
        sampler = adaptfocus.uniform(index, clip, clips_per_video=4)
        return adaptfocus.Clips(index, sampler, clip).loader(batch_size=4, num_workers=num_workers)

    def trainer(**more: Any) -> lightning.Trainer:
        return lightning.Trainer(accelerator="auto", devices=1, max_epochs=1, logger=False, default_root_dir=folder,
                                 enable_progress_bar=False, enable_model_summary=False, **more)  # fmt: skip

    # 2. Stop after three steps, with one worker.
    first = Tagger(len(index.classes))
    saving = ModelCheckpoint(f"{folder}/lightning", "last", every_n_train_steps=3, enable_version_counter=False)
    trainer(max_steps=3, callbacks=[saving]).fit(first, loader(1))

    # 3. Resume with two.
    second = Tagger(len(index.classes))
    trainer(enable_checkpointing=False).fit(second, loader(2), ckpt_path=f"{folder}/lightning/last.ckpt")
    counts = [(first.seen + second.seen).count(place) for place in range(4 * len(index))]
    print(f"{len(first.seen)} clips, then {len(second.seen)}: {counts.count(0)} lost, "
          f"{sum(count > 1 for count in counts)} twice")  # fmt: skip


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()))
