"""The small backbone's start: trained on trimmed clips of another label set than the worlds'.

Input: nothing but a seed. Does: renders short clips of sprites that run, drift or blink, and trains Small3D to name
*which sprites are there* and *which movements are there*, apart from each other: which sprite does which movement,
and so every action of the worlds, is never a label. Output: weights at a URL, for `backbones.load_pretrained`.

It stands for what Kinetics is to the real backbones: trimmed clips, other classes, the same kind of pixels.

    python -m trainers.pretrain --out weights.pt --seed 0
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from pipelines import storage
from pipelines.world_clips import LABELS, draw_clip
from trainers.backbones import build, normalise
from trainers.backbones.small3d import Small3D

BACKBONE = "small3d"
STEPS = 320
BATCH_CLIPS = 48
PEAK_LEARNING_RATE = 8e-3
# H.264 at crf 20 moves a pixel of the worlds by about 1.2 of 255 on average, more at the edges of what moves.
NOISE_LEVELS = 2.0


def pretrain(
    out_url: str, seed: int = 0, steps: int = STEPS, progress: Callable[[int, int, float], None] | None = None
) -> float:
    """Train, and write ``{"backbone": "small3d", "state_dict": ..., "labels": ..., "seed": ...}`` to `out_url`.

    Args:
        out_url: where the weights go.
        seed: of the clips and of the fresh weights; the caller's random state is left as it was.
        steps: optimiser steps of 48 clips; 320 take 13 s on one core.
        progress: called with (steps done, steps in all, loss).

    Returns:
        The mean loss of the last tenth of the steps.
    """
    rng = np.random.default_rng([seed, 77])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(BACKBONE, len(LABELS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=0.02, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=steps + 1)
    losses = []
    for step in range(steps):
        frames, targets = make_clips(rng, BATCH_CLIPS)
        loss = functional.binary_cross_entropy_with_logits(model(normalized(frames)), torch.from_numpy(targets))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if progress is not None:
            progress(step + 1, steps, losses[-1])
    buffer = io.BytesIO()
    torch.save({"backbone": BACKBONE, "state_dict": model.state_dict(), "labels": list(LABELS), "seed": seed}, buffer)
    storage.write_bytes(out_url, buffer.getvalue())
    return float(np.mean(losses[-max(1, steps // 10) :]))


def make_clips(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Trimmed clips and what is in them: frames uint8 [B, T, S, S, 3], targets float32 [B, len(LABELS)].

    One to three sprites a clip, each with a movement of its own, before a random scene.
    """
    spec = Small3D.input_spec
    frames = np.empty((count, spec.frames, spec.size_pixels, spec.size_pixels, 3), dtype=np.uint8)
    targets = np.zeros((count, len(LABELS)), dtype=np.float32)
    for clip, target in zip(frames, targets, strict=True):
        target[draw_clip(rng, clip)] = 1.0
    noise = rng.standard_normal(frames.shape, dtype=np.float32) * NOISE_LEVELS
    return np.clip(frames + noise, 0, 255).astype(np.uint8), targets


def normalized(frames: np.ndarray) -> torch.Tensor:
    """Frames uint8 [B, T, H, W, 3] -> float [B, 3, T, H, W] as Small3D wants them."""
    return normalise(torch.from_numpy(frames).permute(0, 1, 4, 2, 3), Small3D.input_spec).contiguous()


def main() -> None:
    """The command line of this script."""
    parser = argparse.ArgumentParser(description="Train the small backbone's start.")
    parser.add_argument("--out", required=True, help="where the weights go: a path or a URL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    loss = pretrain(args.out, args.seed, args.steps)
    print(f"wrote {args.out}: {args.steps} steps, final loss {loss:.3f}")


if __name__ == "__main__":
    main()
