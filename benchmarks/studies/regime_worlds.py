"""Makes the worlds and starts of the regimes' benchmark where they are missing.

The videos of a world are rendered, encoded, packed into tars and indexed. The start of the backbone is pre-trained.

    OUT/worlds/a-0/            world.json (the settings, written last), shards/, index/train, index/test
    OUT/worlds/a-0/index/train-imprecise-...    the same videos, annotated as people do (imprecision.py)
    OUT/starts/0.pt            the start of seed 0
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from adaptfocus.infra.running import worlds
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.worlds.config import WorldConfig
from adaptfocus.trainers.pretraining.training import pretrain
from benchmarks.studies.imprecision import Imprecision, write_imprecise


def world_folder(out: Path, world: WorldConfig) -> Path:
    return out / "worlds" / world_name(world)


def world_name(world: WorldConfig) -> str:
    """The name of a world's folder, which distinguishes the worlds of a benchmark."""
    return f"{world.kind}-{world.seed}" + ("-tail" if world.long_tail else "")


def index_url(out: Path, world: WorldConfig, split: str) -> str:
    return str(world_folder(out, world) / "index" / split)


def annotated_url(out: Path, world: WorldConfig, how: Imprecision) -> str:
    """The URL of the training index with an imprecise annotation."""
    rates = "-".join(f"{share:g}" for share in (how.early, how.late, how.missing, how.most))
    return f"{index_url(out, world, 'train')}-imprecise-{rates}"


def start_url(out: Path, seed: int) -> str:
    return str(out / "starts" / f"{seed}.pt")


def is_made(out: Path, world: WorldConfig) -> bool:
    """Whether the world is there and complete.

    Raises:
        ConfigError: there is another world in its place.
    """
    folder = world_folder(out, world)
    if not (folder / "world.json").exists():
        return False
    found, wanted = json.loads((folder / "world.json").read_text()), asdict(world)
    differing = {key: (found.get(key), wanted[key]) for key in wanted if found.get(key) != wanted[key]}
    if differing:
        listed = ", ".join(f"{key}: {old!r} -> {new!r}" for key, (old, new) in differing.items())
        raise ConfigError(f"{folder} holds another world ({listed}); choose another --out, or the same sizes")
    return True


def make_world(out: Path, world: WorldConfig) -> None:
    """Make a world from the beginning. Files that a killed process left are removed."""
    folder = world_folder(out, world)
    shutil.rmtree(folder, ignore_errors=True)
    worlds.make_world(world, str(folder), processes=1)


def make_world_and_annotations(out: Path, world: WorldConfig, annotations: Sequence[Imprecision]) -> None:
    """Make the parts of a world and of its imprecise annotations that are missing."""
    if not is_made(out, world):
        make_world(out, world)
    for how in annotations:
        if not Path(annotated_url(out, world, how)).exists():
            write_imprecise(Path(index_url(out, world, "train")), Path(annotated_url(out, world, how)), world.seed, how)


def has_annotations(out: Path, world: WorldConfig, annotations: Sequence[Imprecision]) -> bool:
    return all(Path(annotated_url(out, world, how)).exists() for how in annotations)


def make_start(out: Path, seed: int) -> None:
    """Pre-train the backbone. The weights are written completely or not at all."""
    pretrain(start_url(out, seed), seed)


def has_start(out: Path, seed: int) -> bool:
    return store.exists(start_url(out, seed))
