"""The worlds and starts of the regimes' benchmark, made where they are not there yet.

Input: a WorldConfig, a folder. Does: renders and encodes its videos, packs them into tars, indexes those; pre-trains
the start of the backbone. Output: URLs of indexes and weights.

    OUT/worlds/a-0/            world.json (last: what the world is), shards/, index/train, index/test
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
    """What tells the worlds of a benchmark apart, as the name of a folder."""
    return f"{world.kind}-{world.seed}" + ("-tail" if world.long_tail else "")


def index_url(out: Path, world: WorldConfig, split: str) -> str:
    return str(world_folder(out, world) / "index" / split)


def annotated_url(out: Path, world: WorldConfig, how: Imprecision) -> str:
    """The training index with an imprecise annotation."""
    rates = "-".join(f"{share:g}" for share in (how.early, how.late, how.missing, how.most))
    return f"{index_url(out, world, 'train')}-imprecise-{rates}"


def start_url(out: Path, seed: int) -> str:
    return str(out / "starts" / f"{seed}.pt")


def is_made(out: Path, world: WorldConfig) -> bool:
    """Whether the world is there, whole.

    Raises:
        ConfigError: another world lies in its place.
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
    """Make a world from nothing: what a killed process left of it is removed."""
    folder = world_folder(out, world)
    shutil.rmtree(folder, ignore_errors=True)
    worlds.make_world(world, str(folder), processes=1)


def make_world_and_annotations(out: Path, world: WorldConfig, annotations: Sequence[Imprecision]) -> None:
    """What of a world and of its imprecise annotations is not there yet."""
    if not is_made(out, world):
        make_world(out, world)
    for how in annotations:
        if not Path(annotated_url(out, world, how)).exists():
            write_imprecise(Path(index_url(out, world, "train")), Path(annotated_url(out, world, how)), world.seed, how)


def has_annotations(out: Path, world: WorldConfig, annotations: Sequence[Imprecision]) -> bool:
    return all(Path(annotated_url(out, world, how)).exists() for how in annotations)


def make_start(out: Path, seed: int) -> None:
    """Pre-train the backbone. The weights are written whole or not at all."""
    pretrain(start_url(out, seed), seed)


def has_start(out: Path, seed: int) -> bool:
    return store.exists(start_url(out, seed))
