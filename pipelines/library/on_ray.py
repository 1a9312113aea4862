"""Clips as a Ray Dataset. Only `Clips.dataset` imports this, so that Ray need not be installed for anything else."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import ray.data
from ray.data import Dataset, TaskPoolStrategy

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.library.clips import Clips


def clip_dataset(clips: Clips, clips_per_block: int, first: int, concurrency: int | None) -> Dataset:
    """A row for each clip of the epoch from `first` on; the arguments are those of `Clips.dataset`."""
    count = len(clips) - first
    if clips_per_block < 1 or first < 0 or count < 0:
        raise ConfigError(
            f"{clips_per_block} clips of a block, from clip {first} of {len(clips)}: a block has at least 1 clip, and "
            "the first clip is in the epoch"
        )
    blocks = ray.data.range(count, override_num_blocks=max(-(-count // clips_per_block), 1))
    return blocks.map_batches(
        partial(_read, clips=clips, epoch=clips.epoch, first=first),
        batch_size=clips_per_block,
        # A fixed number of tasks, which keep their processes: a new process imports for a second.
        compute=TaskPoolStrategy(size=concurrency or max(int(ray.cluster_resources().get("CPU", 1)), 1)),
    )


def _read(rows: Any, clips: Clips, epoch: int, first: int) -> Iterator[dict[str, Any]]:
    """One block of clips."""
    places = (rows["id"] + first).tolist()
    for made in clips.read([places], epoch) if places else ():
        if clips.transform is None:
            yield {name: np.asarray(values) for name, values in clips.batch_of(made).items()}
        else:
            samples = clips.samples_of(made)
            yield {name: np.stack([np.asarray(each[name]) for each in samples]) for name in samples[0]}
