"""What a step is told of its clips: the plan's own words, whatever way the frames came."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from adaptfocus.pipelines.errors import RETRY_REASONS
from adaptfocus.pipelines.schemas import DECODE_SCHEMA, NEVER_VISITED, NO_LABEL, STEP_SCHEMA
from adaptfocus.pipelines.stream.batches import ERROR_BYTES, KIND_BYTES, DecodedBatch
from adaptfocus.trainers.batches import ClipBatch, LabelShape, join, join_batches, step_columns

CLIPS, LABELS = 2, LabelShape(max_labels=3, bins=2)


def row(slot: int, ids: list[int], epoch: int = 0) -> dict[str, Any]:
    """A bag, every value of which says its epoch, its slot, and its place in the row."""
    base, values = 1000 * epoch + 10 * slot, len(ids) * LABELS.bins
    clip = {"center_seconds": 1.0, "frame_pts": [1]}
    return {
        "slot": slot, "video_row": base, "duration_seconds": base + 0.5, "label_ids": ids,
        "clips": [clip | {"clip_id": base + n, "tau": base + n / 4, "focus_label_id": NO_LABEL if n else 7}
                  for n in range(CLIPS)],
        "clip_positive": [(slot + place) % 3 == 0 for place in range(CLIPS * len(ids))],
        "saliency_score": [base + place for place in range(values)],
        "saliency_tau": [place / 8 for place in range(values)],
        "saliency_epoch": [epoch] * values,
    }  # fmt: skip


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=STEP_SCHEMA)


def decoded(*slots: int) -> DecodedBatch:
    bags, numbers = len(slots), np.array(slots)
    return DecodedBatch(
        slot=numbers, ok=numbers % 2 == 0,
        kind=np.zeros((bags, KIND_BYTES), np.uint8), error=np.zeros((bags, ERROR_BYTES), np.uint8),
        frames=np.broadcast_to(numbers[:, None, None, None, None, None], (bags, CLIPS, 1, 3, 2, 2)).astype(np.uint8),
        read_bytes=numbers * 7, read_requests=numbers, wait_seconds=np.zeros(bags), decode_seconds=np.zeros(bags),
        read_retries=np.zeros((bags, len(RETRY_REASONS)), np.int64),
    )  # fmt: skip


def check(batch: ClipBatch, rows: list[dict[str, Any]]) -> None:
    """Bag by bag, value by value: no code of the product, and no arrays as a whole."""
    assert batch.slot.tolist() == [each["slot"] for each in rows]
    assert batch.frames[:, 0, 0, 0, 0, 0].tolist() == batch.slot.tolist()
    assert batch.read_bytes.tolist() == [7 * each["slot"] for each in rows]
    for bag, each in enumerate(rows):
        ids = each["label_ids"]
        assert batch.video_row[bag] == each["video_row"]
        assert batch.duration_seconds[bag] == each["duration_seconds"]
        assert batch.label_ids[bag].tolist() == ids + [NO_LABEL] * (LABELS.max_labels - len(ids))
        for n, clip in enumerate(each["clips"]):
            assert (batch.clip_id[bag, n], batch.tau[bag, n]) == (clip["clip_id"], clip["tau"])
            assert batch.explores[bag, n] == (clip["focus_label_id"] == NO_LABEL)
            for place in range(LABELS.max_labels):
                wanted = place < len(ids) and each["clip_positive"][n * len(ids) + place]
                assert batch.clip_positive[bag, n, place] == wanted
        for name, empty in (("saliency_score", 0), ("saliency_tau", 0), ("saliency_epoch", NEVER_VISITED)):
            for place in range(LABELS.max_labels):
                for b in range(LABELS.bins):
                    wanted = each[name][place * LABELS.bins + b] if place < len(ids) else empty
                    assert getattr(batch, name)[bag, place, b] == wanted


def test_each_bag_gets_its_own_row_over_parts_of_a_plan_and_epochs() -> None:
    """A rank has some bags of each batch; a batch may lie in two parts; slots begin anew in each epoch."""
    first = [row(0, [4]), row(1, []), row(2, [1, 2, 3]), row(3, [0, 9]), row(4, [5]), row(5, [6, 8])]
    second = [row(slot, [slot, 9], epoch=1) for slot in range(4)]
    # The second table is a slice of a larger one, as a chunk of a part is.
    plans = [table(*first[:3]), STEP_SCHEMA.empty_table(), table(first[0], *first[3:]).slice(1), table(*second)]
    batches = list(join_batches([decoded(1, 0), decoded(2, 3), decoded(5), decoded(0, 2)], iter(plans), LABELS))
    check(batches[0], [first[1], first[0]])
    check(batches[1], first[2:4])
    check(batches[2], first[5:])
    check(batches[3], [second[0], second[2]])


def test_an_evaluations_plan_has_no_saliency() -> None:
    none: dict[str, list] = {"saliency_score": [], "saliency_tau": [], "saliency_epoch": []}
    (batch,) = join_batches([decoded(3)], [table(row(3, [1, 2]) | none)], LABELS)
    assert (batch.saliency_epoch == NEVER_VISITED).all()
    assert batch.label_ids.tolist() == [[1, 2, NO_LABEL]]


def test_a_bag_never_gets_another_bags_labels() -> None:
    columns = step_columns(table(row(0, [1]), row(1, [2])), LABELS)
    with pytest.raises(ValueError, match=r"bags of slots \[1\] were given rows of \[0\]"):
        join(decoded(1), [(columns, 0)])
    with pytest.raises(RuntimeError, match=r"slots \[8\] were decoded, but the rest of the plans has none of them"):
        list(join_batches([decoded(1, 8)], [table(row(0, [1]), row(1, [2]))], LABELS))


def test_what_is_decoded_carries_nothing_that_is_learnt_from() -> None:
    """Rows of the plan go to decoding tasks, and their results to ranks: through a cluster's object store."""
    assert set(STEP_SCHEMA.names) & set(DECODE_SCHEMA.names) == {"slot", "video_row", "clips"}
    assert not {"label_ids", "clip_positive", "saliency_score"} & set(DecodedBatch.__dataclass_fields__)
