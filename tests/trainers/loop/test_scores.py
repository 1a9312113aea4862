"""The ledger holds exactly what a step notes: bag by bag, clip by clip, label by label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.schemas import LEDGER_SCHEMA, NO_LABEL
from adaptfocus.pipelines.stream.batches import encode_error
from adaptfocus.trainers.loop.scores import Scores
from adaptfocus.trainers.runs.measured import READING, RETRIES
from benchmarks.focus_overhead import Shape, random_batch

SHAPE = Shape(bags=3, clips=2, frames=1, size_pixels=4, classes=9, labels=(0, 4), commit_steps=1)


def test_the_ledger_holds_every_bag_with_its_own_labels() -> None:
    steps, scores, expected = [random_batch(SHAPE, seed) for seed in range(3)], Scores(), []
    steps[1] = replace(steps[1], ok=np.array([True, False, True]))
    steps[1].kind[1], steps[1].error[1] = encode_error(BadVideoError("decode_error", "no keyframe: in 2 packets"))
    for number, batch in enumerate(steps):
        p = torch.rand(3, 2, 4, generator=torch.Generator().manual_seed(number))
        highest = torch.rand(3, 9, generator=torch.Generator().manual_seed(number))
        scores.add(batch, p, highest)
        for bag in range(3):
            labels = [int(k) for k in batch.label_ids[bag] if k != NO_LABEL]
            expected.append(
                {
                    "slot": int(batch.slot[bag]),
                    "video_row": int(batch.video_row[bag]),
                    "ok": bool(batch.ok[bag]),
                    "kind": "" if batch.ok[bag] else "decode_error",
                    "error": "" if batch.ok[bag] else "no keyframe: in 2 packets",
                    "clip_id": batch.clip_id[bag].tolist(),
                    "tau": batch.tau[bag].tolist(),
                    "label_ids": labels,
                    "probability": [p[bag, clip, place].item() for clip in range(2) for place in range(len(labels))],
                }
            )
    table = scores.to_arrow()
    table.validate(full=True)
    assert table.schema.equals(LEDGER_SCHEMA)
    without_ranks = table.drop_columns(["null_rank", "null_variance"])
    assert without_ranks.to_pylist() == expected
    assert {len(row["label_ids"]) for row in expected} >= {0, 4}, "both ends of the padding were there"
    assert scores.clips_decoded() == 2 * 8
    totals, by_reason = scores.reading()[: len(READING)], scores.reading()[len(READING) :]
    assert totals == [float(sum(getattr(batch, name).sum() for batch in steps)) for name in READING]
    assert by_reason == sum(batch.read_retries.sum(axis=0) for batch in steps).tolist()
    assert len(by_reason) == len(RETRIES)


def test_nothing_of_the_frames_is_held() -> None:
    """On Ray the columns of a batch, even frames, are views of shared memory; a ledger of views would fill it up."""
    batch, scores = random_batch(SHAPE, 0), Scores()
    before = batch.tau.copy()
    scores.add(batch, torch.zeros(3, 2, 4), torch.zeros(3, 9))
    batch.tau[:] = 7
    assert scores.to_arrow().column("tau").to_pylist() == before.tolist()
