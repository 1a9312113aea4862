"""Makes features of each kind, and trains and scores small heads on them; each call in a separate process.

The runs come from `benchmarks.regimes` or `benchmarks.people`. Feature sets, and the one JSON file of each probe, are
not made again where they exist.

    OUT/features/d-0/weak/train      features of the training videos by the run that saw only tags
    OUT/probes/d-0/weak/activity.json
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptfocus.pipelines import store
from adaptfocus.pipelines.worlds.config import SPLITS
from adaptfocus.trainers.evaluation.extraction import Extraction, extract, make_here
from adaptfocus.trainers.evaluation.feature_model import weights_of
from adaptfocus.trainers.probes.run import run_probe
from adaptfocus.trainers.runs.open import classes_of, load_config
from adaptfocus.trainers.settings.parts import InputConfig
from benchmarks.studies.regime_runs import make_all, workers

STRIDE_SECONDS = 0.5
# Where the features come from: a run on intervals, the start of both runs before any training, a run on tags.
KINDS = ("full", "pretrained", "weak")


@dataclass(frozen=True)
class Material:
    """Videos of one seed, and the two runs whose backbones are compared on them. The runs share start and input."""

    out: Path
    name: str  # of its folders in `out`
    seed: int  # also of the heads
    indexes: dict[str, str]  # split -> URL
    annotations: str  # URL of the folder of the tasks' files
    full_run: str
    weak_run: str
    start_input: InputConfig | None = None  # what the start was trained on, if not on the input of the runs

    def features_url(self, kind: str, split: str) -> str:
        return str(self.out / "features" / self.name / kind / split)

    def probe_file(self, kind: str, task: str) -> Path:
        return self.out / "probes" / self.name / kind / f"{task}.json"

    def score(self, kind: str, task: str, metric: str) -> float:
        """A metric of a finished probe, as a fraction."""
        return json.loads(self.probe_file(kind, task).read_text())["metrics"][metric]["mean"]


def make_probes(materials: Sequence[Material], tasks: Sequence[str], out: Path, processes: int) -> None:
    """Make the features and probes that are missing, in parallel. The runs must be finished."""
    missing = [(m, k, t) for m in materials for k in KINDS for t in tasks if not m.probe_file(k, t).exists()]
    of = {f"features {kind}, {m.name}": (make_features, (m, kind)) for m, kind, _ in missing}
    with workers(processes, out / "logs") as pool:
        make_all(of, pool)
        make_all({f"{task} on {kind}, {m.name}": (make_probe, (m, kind, task)) for m, kind, task in missing}, pool)


def make_features(material: Material, kind: str) -> None:
    """Extract the features of both splits; complete sets stay."""
    config, is_start = load_config(material.weak_run if kind == "weak" else material.full_run), kind == "pretrained"
    if is_start and material.start_input:
        config = config.model_copy(update={"input": material.start_input})
    weights = weights_of(config, start=is_start)
    for split in SPLITS:
        index = material.indexes[split]
        job = Extraction(config, len(classes_of(config)), weights, index, "pooled", STRIDE_SECONDS, split)
        url = material.features_url(kind, split)
        if not store.exists(store.join(url, "features.json")):
            extract(job, url, make_here)


def make_probe(material: Material, kind: str, task: str) -> None:
    """Train and score the heads of a task, and write their result."""
    features = [material.features_url(kind, split) for split in SPLITS]
    result = run_probe(task, features, material.annotations, seeds=(material.seed,))
    store.write_bytes(str(material.probe_file(kind, task)), json.dumps(result.as_json(), indent=1).encode())
