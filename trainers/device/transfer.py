"""Copies batches to a GPU, and results back, without waiting for the GPU.

The columns of a batch that a step needs are packed into one block of page-locked memory. One copy brings them to the
GPU while the step before runs. Tensors that a step leaves behind come back in the same way. On a CPU both do nothing.

A copy from ordinary memory, `torch.tensor(..., device=...)`, `.item()`, `.cpu()` and `if tensor` make the host wait
until the GPU has done all that it was given. `tests/trainers/loop/test_no_sync.py` fails where a step has one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from adaptfocus.trainers.batches import ClipBatch

# The columns of ClipBatch that a step needs on its device: those of `trainers.method.objective`, and those that the
# input and the null ranks read.
OF_OBJECTIVE = ("ok", "tau", "duration_seconds", "label_ids", "clip_positive",
                "saliency_score", "saliency_tau", "saliency_epoch")  # fmt: skip
NEEDED = ("frames", "clip_id", "explores", *OF_OBJECTIVE)
ALIGNED_BYTES = 256  # a column begins at multiples of this: GPUs read these best, and all types' sizes divide it
SLOTS = 2  # pieces of memory for a batch: one is trained on while the other is filled


@dataclass(frozen=True)
class StagedBatch(ClipBatch):
    """A batch whose `NEEDED` columns are on a device as well."""

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Skip the checks: the batch that this one was made of has passed them."""


class Place(NamedTuple):
    """Where a column lies in a packed batch."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset_bytes: int
    size_bytes: int


def on_device(batch: ClipBatch, name: str, device: torch.device) -> torch.Tensor:
    """A column as a tensor on the device. Only a staged batch has it there without a wait."""
    if isinstance(batch, StagedBatch):
        return batch.tensors[name]
    return torch.from_numpy(getattr(batch, name)).to(device)


def part_of(batch: ClipBatch, bags: slice) -> ClipBatch:
    """Some bags of a batch; they are staged if the batch is."""
    columns = {name: getattr(batch, name)[bags] for name in ClipBatch.__dataclass_fields__}
    if isinstance(batch, StagedBatch):
        return StagedBatch(**columns, tensors={name: values[bags] for name, values in batch.tensors.items()})
    return ClipBatch(**columns)


def lanes_of(device: torch.device) -> Any:
    """Streams and events of a kind of device. Those of a CPU do nothing, because all its work is in order."""
    return torch.cuda if device.type == "cuda" else torch.cpu


class Staging:
    """Copies batches to a device on a stream of its own.

    When the next batch is staged, the step before has been launched but not finished, so the copy runs in parallel.
    Both sides have memory for two batches: the host gets at most two steps ahead of the GPU, and only waits here.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._lanes = device, lanes_of(device)
        self._stream = self._lanes.Stream()
        self._slots = [_Slot(self._lanes.Event()) for _ in range(SLOTS)]
        self._turn = 0
        self._before: Any = None  # marks the end of all launched steps except the last

    def __call__(self, batch: ClipBatch) -> StagedBatch:
        places, size_bytes = layout(batch)
        slot = self._slots[self._turn % SLOTS]
        self._turn += 1
        self._make_room(slot, size_bytes)
        slot.copied.synchronize()  # the copy of two batches ago, which ended long ago
        pack(batch, places, slot.host)
        launched = self._lanes.Event()
        launched.record(self._lanes.current_stream())
        with self._lanes.stream(self._stream):
            if self._before is not None:
                self._stream.wait_event(self._before)  # until the step that was trained on this memory is done
            slot.there.copy_(slot.host, non_blocking=True)
            slot.copied.record(self._stream)
        self._before = launched
        self._lanes.current_stream().wait_event(slot.copied)
        return StagedBatch(**batch.columns(), tensors=unpack(slot.there, places))

    def _make_room(self, slot: _Slot, size_bytes: int) -> None:
        if slot.host.numel() != size_bytes:
            self._lanes.synchronize()  # once, as training begins
            slot.host = torch.empty(size_bytes, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
            slot.there = torch.empty(size_bytes, dtype=torch.uint8, device=self._device)


@dataclass
class _Slot:
    """Memory for one batch, here and on the device, and the event that ends the last copy between them."""

    copied: Any
    host: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))
    there: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))


def layout(batch: ClipBatch) -> tuple[list[Place], int]:
    """Where each needed column lies when packed, and the size of all in bytes."""
    places, offset_bytes = [], 0
    for name in NEEDED:
        values = getattr(batch, name)
        dtype = torch.from_numpy(np.empty(0, values.dtype)).dtype
        places.append(Place(name, dtype, values.shape, offset_bytes, values.nbytes))
        offset_bytes += -(-values.nbytes // ALIGNED_BYTES) * ALIGNED_BYTES
    return places, offset_bytes


def pack(batch: ClipBatch, places: Sequence[Place], memory: torch.Tensor) -> None:
    """Copy the needed columns into memory, uint8 [bytes] on the CPU."""
    for place in places:
        values = np.ascontiguousarray(getattr(batch, place.name)).reshape(-1).view(np.uint8)
        memory[place.offset_bytes :][: place.size_bytes].copy_(torch.from_numpy(values))


def unpack(memory: torch.Tensor, places: Sequence[Place]) -> dict[str, torch.Tensor]:
    """The columns as views of packed memory, wherever that is."""
    return {
        place.name: memory[place.offset_bytes :][: place.size_bytes].view(place.dtype).view(place.shape)
        for place in places
    }


class Leaving:
    """Tensors on their way from a device to this process."""

    def __init__(self) -> None:
        self._last: Any = None

    def take(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor's numbers on the CPU, valid once `wait` has returned. Later changes to the tensor do not show.

        A tensor that is on the CPU already is returned as it is.
        """
        if tensor.device.type == "cpu":
            return tensor
        host = torch.empty_like(tensor, device="cpu", pin_memory=tensor.device.type == "cuda")
        host.copy_(tensor, non_blocking=True)
        lanes = lanes_of(tensor.device)
        self._last = lanes.Event()
        self._last.record(lanes.current_stream())
        return host

    def wait(self) -> None:
        """Wait until all taken tensors have arrived. Any thread may call this; other threads keep running."""
        if self._last is not None:
            self._last.synchronize()

    def arrived(self) -> bool:
        """Whether all taken tensors have arrived. This does not wait."""
        return self._last is None or self._last.query()
