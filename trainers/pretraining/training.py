"""Pre-trains the small backbone on trimmed clips whose labels are not those of the worlds.

Small3D learns to name *which sprites* and *which movements* a short clip has, separately. Which sprite does which
movement, and so every action of the worlds, is never a label. The clips come from a set (`adaptfocus world --kind
pretrain`); without a set they are rendered during training, with noise in place of the codec. The weights are for
`backbones.load_pretrained`.

This plays the part of Kinetics for the real backbones: trimmed clips, other classes, the same kind of pixels. For your
own videos and trimmed clips use `adaptfocus pretrain` (docs/training.md).

    python -m adaptfocus.trainers.pretraining.training --out weights.pt --seed 0
    python -m adaptfocus.trainers.pretraining.training --out weights.pt --seed 0 --set URL
"""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Callable, Generator
from itertools import islice

import numpy as np
import torch
from torch.nn import functional

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import AdaptFocusError
from adaptfocus.pipelines.worlds.trimmed import LABELS, draw_clip
from adaptfocus.trainers.backbones import build, normalise
from adaptfocus.trainers.backbones.small3d import Small3D
from adaptfocus.trainers.pretraining.clips import batches_of_set

BACKBONE = "small3d"
STEPS = 320
BATCH_CLIPS = 48
PEAK_LEARNING_RATE = 8e-3
# H.264 at crf 20 changes a pixel of the worlds by about 1.2 of 255 on average, and more at the edges of moving things.
NOISE_LEVELS = 2.0


def pretrain(
    out_url: str,
    seed: int = 0,
    steps: int = STEPS,
    progress: Callable[[int, int, float], None] | None = None,
    set_url: str | None = None,
) -> float:
    """Train, and write ``{"backbone": "small3d", "state_dict": ..., "labels": ..., "seed": ...}`` to `out_url`.

    Args:
        out_url: where the weights go.
        seed: of the clips, or of their order, and of the fresh weights; the caller's random state does not change.
        steps: optimiser steps of 48 clips; 320 take 13 s of one core, or 40 s from a set.
        progress: called with (steps done, steps in all, loss).
        set_url: a set of encoded clips to train on; the weights file then names it (``"set"``).

    Returns:
        The mean loss of the last tenth of the steps.

    Raises:
        InputError, ConfigError: the set cannot be used.
        StorageError: a place cannot be read or written.
    """
    batches = encoded_batches(set_url, seed) if set_url else rendered_batches(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(BACKBONE, len(LABELS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=0.02, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=steps + 1)
    losses = []
    with contextlib.closing(batches):
        for step, (x, targets) in enumerate(islice(batches, steps)):
            loss = functional.binary_cross_entropy_with_logits(model(x), torch.from_numpy(targets))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            if progress is not None:
                progress(step + 1, steps, losses[-1])
    buffer = io.BytesIO()
    content = {"backbone": BACKBONE, "state_dict": model.state_dict(), "labels": list(LABELS), "seed": seed}
    torch.save(content | ({"set": set_url} if set_url else {}), buffer)
    store.write_bytes(out_url, buffer.getvalue())
    return float(np.mean(losses[-max(1, steps // 10) :]))


def rendered_batches(seed: int) -> Generator[tuple[torch.Tensor, np.ndarray], None, None]:
    """Freshly rendered clips, as Small3D takes them, and their targets."""
    rng = np.random.default_rng([seed, 77])
    while True:
        frames, targets = make_clips(rng, BATCH_CLIPS)
        yield normalise_frames(frames), targets


def encoded_batches(set_url: str, seed: int) -> Generator[tuple[torch.Tensor, np.ndarray], None, None]:
    """Clips of a set of encoded clips, as Small3D takes them, and their targets."""
    for frames, targets in batches_of_set(set_url, seed, BATCH_CLIPS, Small3D.input_spec):
        yield normalise(torch.from_numpy(frames), Small3D.input_spec).contiguous(), targets


def make_clips(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Trimmed clips and what is in them: frames uint8 [B, T, S, S, 3], targets float32 [B, len(LABELS)].

    Each clip has one to three sprites, each with its own movement, in front of a random scene.
    """
    spec = Small3D.input_spec
    frames = np.empty((count, spec.frames, spec.size_pixels, spec.size_pixels, 3), dtype=np.uint8)
    targets = np.zeros((count, len(LABELS)), dtype=np.float32)
    for clip, target in zip(frames, targets, strict=True):
        target[draw_clip(rng, clip)] = 1.0
    noise = rng.standard_normal(frames.shape, dtype=np.float32) * NOISE_LEVELS
    return np.clip(frames + noise, 0, 255).astype(np.uint8), targets


def normalise_frames(frames: np.ndarray) -> torch.Tensor:
    """Frames uint8 [B, T, H, W, 3] -> float [B, 3, T, H, W] as Small3D takes them."""
    return normalise(torch.from_numpy(frames).permute(0, 1, 4, 2, 3), Small3D.input_spec).contiguous()


def _say(step: int, steps: int, loss: float) -> None:
    if step % 10 == 0:
        print(f"step {step} of {steps}, loss {loss:.3f}", flush=True)


def main() -> None:
    """The command line of this script."""
    parser = argparse.ArgumentParser(description="Pre-train the small backbone.")
    parser.add_argument("--out", required=True, help="where the weights go: a path or a URL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--set", help="URL of a set of encoded clips; `adaptfocus world --kind pretrain` makes one")
    args = parser.parse_args()
    try:
        loss = pretrain(args.out, args.seed, args.steps, _say, set_url=args.set)
    except AdaptFocusError as error:
        parser.exit(2, f"error: {error}\n")
    print(f"wrote {args.out}: {args.steps} steps, final loss {loss:.3f}")


if __name__ == "__main__":
    main()
