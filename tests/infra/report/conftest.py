"""Two regimes compared: by real runs that are trained here once, and by numbers that need no run."""

from __future__ import annotations

import numpy as np
import pytest

from adaptfocus.infra.report.data import Curve, Dropped, ReportData, RunRow
from adaptfocus.trainers.evaluation.scoring import evaluate, predict_here
from adaptfocus.trainers.runs.open import load_config
from tests.infra.report.pages import ACTIONS, FOUND, WARNINGS, sample
from tests.infra.report.real_runs import EPOCHS, NEGATIVES, Compared
from tests.infra.report.test_verdict import scored
from tests.trainers.loop.test_training import trained
from tests.worlds import SmallWorld


@pytest.fixture(scope="session")
def compared(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """Noisy and Ours, trained once for all files here; a test that changes a run changes a copy."""
    runs, urls = tmp_path_factory.mktemp("runs"), []
    for regime in ("noisy", "ours"):
        config = small_world.run_config(runs, regime, f"focus.regime={regime}", f"epochs={EPOCHS}", NEGATIVES)
        run = trained(config)
        evaluate(run, load_config(run.url), small_world.test_index, 4, "test", predict_here)
        urls.append(run.url)
    return Compared(*urls)


@pytest.fixture
def data() -> ReportData:
    """Noisy against Ours, as a run of the demo might leave them."""
    rng = np.random.default_rng(3)
    steps = np.arange(720) / 24
    curves, diagnostics = [], []
    for run, end, mean in (("noisy-seed0", 0.31, 0.49), ("ours-seed0", 0.2, 0.734)):
        loss = end + (0.69 - end) * np.exp(-steps / 6) + rng.normal(0, 0.012, 720)
        curves.append(Curve("Training loss", "mean BCE", steps.tolist(), loss.tolist(), run))
        epochs = list(range(1, 31))
        score = 100 * mean * (1 - np.exp(-np.array(epochs) / 7)) + rng.normal(0, 1, 30)
        curves.append(Curve("mAP, max over views", "%", epochs, score.tolist(), run))
        curves.append(Curve("Clips per second", "clips/s", epochs, (190 + rng.normal(0, 6, 30)).tolist(), run))
        if run.startswith("ours"):
            ramp = 1 - np.exp(-np.array(epochs) / 8)
            for name, values in (
                ("Positives left unmasked", 1 - 0.55 * ramp),
                ("Mean spike-actionness", 0.1 + 0.6 * ramp),
                ("Precision of weighted positives", 0.17 + 0.55 * ramp),
                ("Salient times inside a true interval", 0.16 + 0.64 * ramp),
                ("Temperature over median p", 0.1 / (0.1 + 0.6 * ramp)),
            ):
                unit = "T / mean a" if name == "Temperature over median p" else "share"
                diagnostics.append(Curve(name, unit, epochs, values.tolist(), run))
    names = [*ACTIONS, *(f"class {n}" for n in range(8))]
    aps, counts = {n: 0.1 * i % 1 for i, n in enumerate(names)}, {n: 3 + i for i, n in enumerate(names)}
    classes = scored(0.6, 0.02, class_ap=aps, class_positives=counts)
    return ReportData(
        title="Noisy against Ours on world A",
        created="2025-03-01 14:02 UTC",
        command="adaptfocus demo --out s3://demo/runs/world-a --epochs 30 --seed 0 focus.delta=0.15",
        runs=[
            RunRow("noisy-seed0", "Noisy", 30, 28_800, 0.489, 0.435, 0.159, None, 4, 812, 2, "", 0, evaluated=classes),
            RunRow(
                "ours-seed0",
                "Ours",
                30,
                28_796,
                0.734,
                0.664,
                0.567,
                0.80,
                4,
                861,
                2,
                "resumed once",
                0,
                evaluated=classes,
                found=FOUND,
                warnings=WARNINGS,
            ),
        ],
        curves=curves,
        diagnostics=diagnostics,
        samples=[sample("ours-seed0", "val_00017", rng), sample("noisy-seed0", "val_00017", rng)],
        dropped=[
            Dropped("no_video_stream", 3, "shard-000004.tar/clip_0193.mp4: the container holds audio only"),
            Dropped("decode_error", 1, "shard-000011.tar/clip_0467.mp4: Invalid data found, packet 312"),
        ],
        config_text="focus:\n  delta: 0.15\ndata:\n  index: s3://adaptfocus-demo/" + "x" * 120,
        ledger=[
            ("clips planned", [28_800, 28_800]),
            ("clips trained", [28_800, 28_796]),
            ("clips lost", [0, 4]),
            ("workers", ["2", "2, then 1 after resume"]),
        ],
    )
