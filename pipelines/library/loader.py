"""A torch DataLoader whose batches come in the global order, whatever the number of workers.

Worker w of W reads batches w, w + W, ... of its rank, whole, and the DataLoader takes them in turn. So the order in the
process that trains is that of the epoch, and a position is one number: the clips that all ranks have been given. What
workers have read ahead was not given, and is read again after a resume.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, default_collate, get_worker_info

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.library.shares import Share

if TYPE_CHECKING:
    from adaptfocus.pipelines.library.clips import Clips

# Options of a DataLoader that are settled here, or that would change the order.
SETTLED = ("sampler", "batch_sampler", "shuffle", "collate_fn", "in_order")


class ClipLoader(DataLoader):
    """Batches of `Clips`, in order: what `Clips.loader` gives.

    A batch is a dict of tensors and lists with the keys of a sample. Each iteration is an epoch. `state_dict` says
    where it is: the batch that was given last counts as used.
    """

    def __init__(
        self,
        clips: Clips,
        batch_size: int,
        num_workers: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        drop_last: bool = False,
        **options: Any,
    ) -> None:
        if refused := [name for name in SETTLED if name in options]:
            raise ConfigError(
                f"{', '.join(refused)}: the order of clips and batches is the sampler's, and a position is one in it; "
                "give a sampler that has another order, or use torch's DataLoader on the clips themselves"
            )
        if (rank is None) != (world_size is None):
            raise ConfigError(f"rank={rank}, world_size={world_size}: give both, or neither")
        self.clips, self.clips_per_batch, self.drop_last_step = clips, batch_size, drop_last
        self._place = (rank, world_size)
        # Workers that stay for the next epoch learn of it here: [epoch, first clip, rank, number of ranks].
        self._from = torch.zeros(4, dtype=torch.int64).share_memory_()
        super().__init__(_Batches(clips, batch_size, drop_last, self._from), batch_size=None, num_workers=num_workers,
                         **options)  # fmt: skip
        self._share()  # says now what is out of range

    @property
    def epoch(self) -> int:
        """The epoch of the batch that was given last, or of the first one to come."""
        return self.clips.epoch

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch, counted from 0."""
        self.clips.set_epoch(epoch)

    @property
    def left_out(self) -> int:
        """How many clips at the end of the epoch no rank gets: fewer than there are ranks, without `drop_last`."""
        return self._share().left_out

    def __len__(self) -> int:
        """The batches of a whole epoch; of a resumed one, with those before."""
        before = -(-self.clips.position.first // self._share().of_all_ranks)
        return before + self._share().steps

    def __iter__(self) -> Iterator[dict[str, Any]]:
        position = self.clips.position
        position.begin(lambda epoch, clips: not self._share_of(epoch, clips).steps)
        share = self._share()
        self._from.copy_(torch.tensor([position.epoch, position.first, share.rank, share.world_size]))
        for step, batch in enumerate(super().__iter__()):
            position.clips = share.after(step)
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """The position, as numbers and strings; the same on every rank."""
        return self.clips.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to a position, on any number of workers and ranks, and with any batch size. Raises InputError."""
        self.clips.load_state_dict(state_dict)

    def _share(self) -> Share:
        return self._share_of(self.clips.epoch, self.clips.position.first)

    def _share_of(self, epoch: int, first: int) -> Share:
        rank, world_size = place_of_process() if self._place[0] is None else self._place
        return self.clips.share(epoch, first, self.clips_per_batch, rank or 0, world_size or 1, self.drop_last_step)


class _Batches(IterableDataset):
    """What a worker reads."""

    def __init__(self, clips: Clips, batch_size: int, drop_last: bool, begin: torch.Tensor) -> None:
        self.clips, self.batch_size, self.drop_last, self.begin = clips, batch_size, drop_last, begin

    def __iter__(self) -> Iterator[dict[str, Any]]:
        epoch, first, rank, world_size = self.begin.tolist()
        if not world_size:
            raise ConfigError(
                "these batches belong to the loader that Clips.loader gave, and another DataLoader was made of it "
                "(accelerator.prepare does that); use the loader as it is, or give torch's DataLoader the clips"
            )
        worker = get_worker_info()
        own, of = (worker.id, worker.num_workers) if worker else (0, 1)
        share = self.clips.share(epoch, first, self.batch_size, rank, world_size, self.drop_last)
        steps = [share.places(step) for step in range(own, share.steps, of)]
        # A tensor that is in shared memory already is not copied on its way to the process that trains.
        isolation = self.clips.look.isolation
        empty = self._shared if worker and not isolation else None
        copied = worker and isolation and torch.multiprocessing.get_sharing_strategy() == "file_descriptor"
        for made in self.clips.read(steps, epoch, empty):
            if self.clips.transform:
                yield default_collate(self.clips.samples_of(made))
            else:
                batch = {name: _tensor(values) for name, values in self.clips.batch_of(made).items()}
                yield batch | {"frames": _to_shared(made.frames)} if copied else batch

    def _shared(self, clips: int) -> np.ndarray:
        shape = (clips, *self.clips.look.frames_shape)
        return _new_shared(int(np.prod(shape)))[0].view(shape).numpy()


def _to_shared(frames: np.ndarray) -> torch.Tensor:
    """A copy in shared memory. It is written as a file: as memory it costs a page fault for each 4 KiB, which made
    6.0 ms of CPU for a clip of 4.8 MB instead of 2.8."""
    whole, storage = _new_shared(frames.nbytes)
    fd, _ = storage._share_fd_cpu_()  # the storage's own
    data, at = frames.reshape(-1).data, 0
    while at < len(data):
        at += os.pwrite(fd, data[at:], at)
    return whole.view(frames.shape)


def _new_shared(size_bytes: int) -> tuple[torch.Tensor, torch.UntypedStorage]:
    storage = torch.UntypedStorage._new_shared(size_bytes)
    return torch.tensor([], dtype=torch.uint8).set_(storage), storage  # type: ignore[call-overload]


def place_of_process() -> tuple[int, int]:
    """(rank, number of ranks) of this process: of `torch.distributed`, or else of the variables that launchers set."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    values = [os.environ.get(name, default) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"))]
    try:
        rank, world_size = (int(value) for value in values)
    except ValueError:
        raise ConfigError(f"RANK={values[0]}, WORLD_SIZE={values[1]}: these variables must be whole numbers") from None
    return rank, world_size


def _tensor(values: Any) -> Any:
    return torch.from_numpy(values) if isinstance(values, np.ndarray) and values.dtype.kind in "biuf" else values
