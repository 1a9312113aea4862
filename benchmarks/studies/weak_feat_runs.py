"""Makes features of each kind on world d, and trains and scores small heads on them; each call in a separate process.

The worlds, starts and runs come from `benchmarks.regimes`. Feature sets, and the one JSON file of each probe, are not
made again where they exist.

    OUT/features/d-0/weak/train      features of the training videos by the run of the weak recipe
    OUT/probes/d-0/weak/activity.json
"""

from __future__ import annotations

import json
from pathlib import Path

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.tasks import ANNOTATIONS
from adaptfocus.pipelines.worlds.config import SPLITS, WorldConfig
from adaptfocus.trainers.evaluation.extraction import Extraction, classes_of, extract, make_here
from adaptfocus.trainers.evaluation.feature_model import weights_of
from adaptfocus.trainers.probes.run import run_probe
from adaptfocus.trainers.runs.open import load_config
from adaptfocus.trainers.settings.parts import InputConfig
from benchmarks.studies.regime_worlds import index_url, world_folder, world_name

STRIDE_SECONDS = 0.5
# Kind of feature -> the run that it comes from (`variants.py`); both runs have the same input, schedule and clips.
# None: the start of these runs, before any training.
KINDS = {"full": "full_moving", "pretrained": None, "weak": "best_moving"}


def run_url(out: Path, world: WorldConfig, variant: str) -> str:
    """The URL where `benchmarks.regimes` trains a variant with --cached."""
    return str(out / "cached-runs" / world_name(world) / variant)


def features_url(out: Path, world: WorldConfig, kind: str, split: str) -> str:
    return str(out / "features" / world_name(world) / kind / split)


def probe_file(out: Path, world: WorldConfig, kind: str, task: str) -> Path:
    return out / "probes" / world_name(world) / kind / f"{task}.json"


def make_features(out: Path, world: WorldConfig, kind: str) -> None:
    """Extract the features of both splits; complete sets stay."""
    variant = KINDS[kind]
    config = load_config(run_url(out, world, variant or KINDS["full"] or ""))
    if variant is None:
        config = config.model_copy(update={"input": InputConfig()})  # the start was trained on plain clips
    weights = weights_of(config, start=variant is None)
    for split in SPLITS:
        job = Extraction(
            config, len(classes_of(config)), weights, index_url(out, world, split), "pooled", STRIDE_SECONDS, split
        )
        url = features_url(out, world, kind, split)
        if not store.exists(store.join(url, "features.json")):
            extract(job, url, make_here)


def make_probe(out: Path, world: WorldConfig, kind: str, task: str) -> None:
    """Train and score the heads of a task, and write their result; the seed of the heads is the world's."""
    features = [features_url(out, world, kind, split) for split in SPLITS]
    result = run_probe(task, features, str(world_folder(out, world) / ANNOTATIONS), seeds=(world.seed,))
    store.write_bytes(str(probe_file(out, world, kind, task)), json.dumps(result.as_json(), indent=1).encode())


def score_of(out: Path, world: WorldConfig, kind: str, task: str, metric: str) -> float:
    """A metric of a finished probe, as a fraction."""
    return json.loads(probe_file(out, world, kind, task).read_text())["metrics"][metric]["mean"]
