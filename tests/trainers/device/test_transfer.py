"""Batches go to a device, and scores come back: what arrives is what was sent.

Streams and events decide the order of copies and steps. On a CPU these do nothing, so tests check the calls to them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from adaptfocus.trainers.device import transfer
from adaptfocus.trainers.device.transfer import NEEDED, Leaving, StagedBatch, Staging, on_device, part_of, unpack
from benchmarks.focus_overhead import Shape, random_batch

CPU = torch.device("cpu")
SHAPE = Shape(bags=3, clips=2, frames=3, size_pixels=7, classes=5, labels=(1, 3), commit_steps=1)


def test_what_arrives_is_what_was_sent() -> None:
    staging = Staging(CPU)
    for seed in range(3):
        batch = random_batch(SHAPE, seed)
        staged = staging(batch)
        for name in NEEDED:
            sent = torch.from_numpy(getattr(batch, name))
            assert torch.equal(on_device(staged, name, CPU), sent), name
            assert on_device(staged, name, CPU).dtype == sent.dtype
        assert staged.columns().keys() - {"tensors"} == batch.columns().keys()


def test_one_copy_takes_all_columns_over() -> None:
    staged = Staging(CPU)(random_batch(SHAPE, 0))
    assert len({values.untyped_storage().data_ptr() for values in staged.tensors.values()}) == 1
    for values in staged.tensors.values():
        assert values.storage_offset() * values.element_size() % transfer.ALIGNED_BYTES == 0


def test_a_batch_in_the_making_leaves_the_one_before_alone() -> None:
    staging = Staging(CPU)
    first, _ = staging(random_batch(SHAPE, 0)), staging(random_batch(SHAPE, 1))
    assert torch.equal(first.tensors["frames"], torch.from_numpy(random_batch(SHAPE, 0).frames))


def test_arrays_that_are_views_are_packed_as_they_read() -> None:
    batch = random_batch(SHAPE, 0)
    turned = type(batch)(**batch.columns() | {"frames": batch.frames.swapaxes(4, 5)})
    places, size_bytes = transfer.layout(turned)
    memory = torch.zeros(size_bytes, dtype=torch.uint8)
    transfer.pack(turned, places, memory)
    assert np.array_equal(unpack(memory, places)["frames"].numpy(), turned.frames)


def test_a_part_of_a_staged_batch_is_staged() -> None:
    batch = random_batch(SHAPE, 0)
    part = part_of(Staging(CPU)(batch), slice(1, 3))
    assert isinstance(part, StagedBatch)
    assert part.num_bags == 2
    assert torch.equal(part.tensors["tau"], torch.from_numpy(batch.tau[1:]))
    assert np.array_equal(part.slot, batch.slot[1:])
    assert not isinstance(part_of(batch, slice(0, 1)), StagedBatch)


class Recorded:
    """Streams and events that record the calls to them; events are numbered as they are made."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.events = 0
        recorded = self

        class Event:
            def __init__(self) -> None:
                self.number, recorded.events = recorded.events, recorded.events + 1

            def record(self, stream: Any) -> None:
                recorded.said.append(f"{stream.name} records {self.number}")

            def synchronize(self) -> None:
                recorded.said.append(f"host waits for {self.number}")

        class Stream(torch.cpu.Stream):
            name = "side"

            def wait_event(self, event: Any) -> None:
                recorded.said.append(f"{self.name} waits for {event.number}")

        self.Event, self.Stream, self.main = Event, Stream, Stream()
        self.main.name = "main"
        self.stream = torch.cpu.stream

    def current_stream(self) -> Any:
        return self.main

    def synchronize(self) -> None: ...


def test_a_copy_waits_for_the_step_that_had_its_memory_and_runs_beside_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Events 0 and 1 are those of the two slots' copies; 2, 3, 4, ... follow the steps launched before each batch."""
    lanes = Recorded()
    monkeypatch.setattr(transfer, "lanes_of", lambda device: lanes)
    staging = Staging(CPU)
    for seed in range(3):
        staging(random_batch(SHAPE, seed))
    first = ["host waits for 0", "main records 2", "side records 0", "main waits for 0"]
    second = ["host waits for 1", "main records 3", "side waits for 2", "side records 1", "main waits for 1"]
    third = ["host waits for 0", "main records 4", "side waits for 3", "side records 0", "main waits for 0"]
    assert lanes.said == first + second + third


def test_the_next_step_does_not_change_what_leaves() -> None:
    leaving, tensor = Leaving(), torch.ones(3)
    assert leaving.take(tensor) is tensor, "on a CPU nothing has to leave"
    leaving.wait()
