"""Where training's time went, and what to do about it: the table of docs/operations.md, applied to a run.

Input: what a run measured. Does: tells decoding from the store from the beginnings of epochs. Output: a sentence.
"""

from __future__ import annotations

from adaptfocus.infra.report.data import RunRow, Waiting

LITTLE = 0.1  # of the time; less is not worth a change
MOSTLY = 0.7  # of the waiting


def advice(row: RunRow) -> str:
    """What a run waited for, and what to change; empty if nothing was measured."""
    w = row.waiting
    if w is None:
        return ""
    share = f"{row.run}: training waited for clips {100 * w.share:.0f} % of the time"
    if w.share < LITTLE:
        return f"{share}: the model is what takes the time. Nothing to change."
    return f"{share}: {_cause(w)}"


def _cause(w: Waiting) -> str:
    if w.at_epoch_starts > MOSTLY:
        return ("nearly all of it at the beginnings of epochs. Raise plan.lead_batches, in a new run; where an "
                "epoch has fewer than four batches, only more videos help.")  # fmt: skip
    decoding, store = 1000 * w.decode_seconds, 1000 * w.store_seconds
    costs = f"({decoding:.0f} ms of decoding a clip, {store:.0f} ms of waiting for the store)"
    if w.decode_workers is None:
        return (f"store and decoder work in the training process itself {costs}. Train with placement.engine=ray and "
                "placement.decode_workers to read and decode beside it.")  # fmt: skip
    if w.store_seconds > w.decode_seconds:
        return (f"store-bound {costs}. Take a nearer or faster store, or raise placement.decode_workers "
                f"(now {w.decode_workers}): more of them ask it for more at a time.")  # fmt: skip
    return (f"decode-bound {costs}. Raise placement.decode_workers (now {w.decode_workers}), if there are free cores, "
            "and resume with the same command.")  # fmt: skip
