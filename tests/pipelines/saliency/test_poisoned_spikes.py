"""Wrong saliency returns to the truth, because bins are visited again; a running maximum never does."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from adaptfocus.pipelines.saliency.bins import spikes
from adaptfocus.pipelines.saliency.settings import SaliencyConfig
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable, merge
from adaptfocus.pipelines.schemas import LEDGER_SCHEMA

VIDEOS, CLIPS, WIDTH, DELTA = 200, 4, 0.2, 0.15
CONFIG = SaliencyConfig()
FALSE_SCORE = 0.9


def scripted(tau: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """p(tau) of an honest model: 0.8 inside the action (WIDTH of the video around `truth`), 0.1 outside."""
    return np.where(np.abs(tau - truth) <= WIDTH / 2, 0.8, 0.1).astype(np.float32)


def drawn(salient: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Clip centres [videos, clips], as an epoch draws them: half anywhere, half within DELTA of the salient time."""
    anywhere = random.random((VIDEOS, CLIPS))
    near = np.clip(salient[:, None] + random.uniform(-DELTA, DELTA, (VIDEOS, CLIPS)), 0, 1)
    return np.where(random.random((VIDEOS, CLIPS)) < 0.5, anywhere, near)


def scored(table: SaliencyTable, tau: np.ndarray, p: np.ndarray, epoch: int) -> SaliencyTable:
    """The next snapshot, made from the ledger of an epoch."""
    rows = [
        {"slot": v, "video_row": v, "ok": True, "error": "", "clip_id": list(range(CLIPS)), "tau": tau[v].tolist(),
         "label_ids": [0], "probability": p[v].tolist()}
        for v in range(VIDEOS)
    ]  # fmt: skip
    return merge(table, pa.Table.from_pylist(rows, schema=LEDGER_SCHEMA), epoch, CONFIG)


def salient_times(table: SaliencyTable, epoch: int) -> np.ndarray:
    return spikes(table.bins, epoch, CONFIG.staleness)[1].double().numpy()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_poisoned_spikes_recover_where_a_running_maximum_would_not(seed: int) -> None:
    """Half of all spikes are set to a = 0.9 at a wrong time; then the model is honest for twelve epochs."""
    random = np.random.default_rng(seed)
    truth = random.uniform(WIDTH / 2, 1 - WIDTH / 2, VIDEOS)
    table, salient = SaliencyTable.empty([[0]] * VIDEOS, CONFIG.bins), np.full(VIDEOS, 0.5)
    for epoch in range(3):
        tau = drawn(salient, random)
        table = scored(table, tau, scripted(tau, truth[:, None]), epoch)
        salient = salient_times(table, epoch)

    poisoned = np.arange(VIDEOS) % 2 == 0
    wrong = np.floor(20 * ((truth + 0.5) % 1)) / 20 + 0.025  # the middle of a bin half a video away
    where = torch.from_numpy((20 * wrong).astype(np.int64))[poisoned]
    rows = torch.arange(VIDEOS)[torch.from_numpy(poisoned)]
    table.bins.score[rows, where], table.bins.epoch[rows, where] = FALSE_SCORE, 2
    table.bins.tau[rows, where] = torch.from_numpy(wrong[poisoned]).float()
    best, best_at = np.where(poisoned, FALSE_SCORE, 0.0), np.where(poisoned, wrong, salient)

    def lost(times: np.ndarray) -> np.ndarray:
        return np.abs(times - truth) > WIDTH / 2

    salient = salient_times(table, 3)
    assert lost(salient)[poisoned].all()
    for epoch in range(3, 15):
        tau = drawn(salient, random)
        p = scripted(tau, truth[:, None])
        table = scored(table, tau, p, epoch)
        salient = salient_times(table, epoch)
        higher = p.max(axis=1) > best
        best_at = np.where(higher, tau[np.arange(VIDEOS), p.argmax(axis=1)], best_at)
        best = np.maximum(best, p.max(axis=1))
    assert lost(salient)[poisoned].mean() <= 0.05
    assert lost(salient)[~poisoned].mean() <= 0.05, "and the others are not harmed"
    assert lost(best_at)[poisoned].all(), "nothing that an honest model says is higher than 0.9"
