"""Fine-tune a VideoMAE of `transformers` on the tags of an index, in a loop of your own.

    python examples/fine_tune_videomae.py FOLDER [WEIGHTS]

FOLDER is what train_on_a_world.py wrote. WEIGHTS is what `from_pretrained` takes, such as MCG-NJU/videomae-base.
Without it, the model is a tiny one with random weights, which shows that all fits together. The library comes with
`pip install 'adaptfocus[transformers]'`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import VideoMAEConfig, VideoMAEForVideoClassification

import adaptfocus


def main(folder: str, weights: str | None = None, epochs: int = 2) -> None:
    # 1. Two clips of each video, at random times, others in each epoch: 16 frames of 8 a second.
    index = adaptfocus.open_index(f"{folder}/world/index/train")
    clip = adaptfocus.ClipConfig(frames=16, frame_stride=1, fps=8, size_pixels=224 if weights else 32)
    sampler = adaptfocus.uniform(index, clip, clips_per_video=2)
    loader = adaptfocus.Clips(index, sampler, clip, transform=as_input).loader(batch_size=4, num_workers=1)

    # 2. A model with an output for each class. A video may have several tags.
    tags = {"num_labels": len(index.classes), "problem_type": "multi_label_classification"}
    tiny = {"image_size": 32, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = (
        VideoMAEForVideoClassification.from_pretrained(weights, **tags)
        if weights
        else VideoMAEForVideoClassification(VideoMAEConfig(**tiny, intermediate_size=96, **tags))
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)

    # 3. Train. A clip that could not be decoded is black, and its reason is in `error`.
    for epoch in range(epochs):
        losses = []
        for batch in loader:
            good = torch.tensor([error == "" for error in batch["error"]])
            loss = model(pixel_values=batch["pixel_values"][good], labels=batch["labels"][good]).loss
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}: {len(losses)} steps, mean loss {np.mean(losses):.3f}")
        torch.save({"model": model.state_dict(), "clips": loader.state_dict()}, f"{folder}/videomae.pt")


def as_input(sample: dict) -> dict:
    """uint8 [T, 3, S, S] -> what VideoMAE takes. It runs in the worker that decodes."""
    mean, std = (np.array(each, np.float32)[:, None, None] for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = (sample["frames"] / np.float32(255) - mean) / std
    return {"pixel_values": pixels, "labels": sample["labels"], "error": sample["error"]}


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()), sys.argv[2] if len(sys.argv) > 2 else None)
