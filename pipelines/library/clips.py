"""Clips of an index's videos for any training loop.

`Clips` is a sequence of samples, as map-style data sets are. Iterating over it reads ahead, and its position can be
saved. Samples are dicts of numpy arrays, numbers and strings, which torch's default collation makes batches of.
Nothing here imports torch; `Clips.loader` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.decode.settings import DEFAULT_ISOLATION, DecodeConfig, Isolation
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.library.index import Index, VideoKey, open_index
from adaptfocus.pipelines.library.moments import Moments, Sampler, digest, fingerprint_of
from adaptfocus.pipelines.library.reading import Clipped, Look, OfSource, read_clips
from adaptfocus.pipelines.library.shares import Share
from adaptfocus.pipelines.plan.settings import ClipConfig
from adaptfocus.pipelines.schemas import INDEX_SCHEMA
from adaptfocus.pipelines.store.reads import ReadConfig

if TYPE_CHECKING:
    from adaptfocus.pipelines.library.loader import ClipLoader
    from adaptfocus.pipelines.library.on_ray import Dataset

Sample = dict[str, Any]
Transform = Callable[[Sample], Sample]

STATE_VERSION = 1
BLOCK = 8  # clips that plain iteration decodes into one array


class Clips:
    """The clips at some moments of an index's videos, in order.

    A sample is a dict:

    - ``frames``: uint8 [T, 3, S, S], RGB; black if the clip could not be decoded
    - ``center_seconds``: float, from the first frame shown
    - ``video_id``: str
    - ``labels``: float32 [C], 1 for each label of the video, in the order of `classes`
    - ``error``: str, "" or "kind: message"
    - ``place``: int, in the order of the epoch
    - one more key for each of `columns`

    Args:
        index: what `open_index` gives, or its URL.
        sampler: the moments: any sequence or iterable of (video id, seconds), or a function that gives one for each
            epoch, such as `uniform(...)`. A sequence is read as it is needed; another iterable is made a list.
        clip: the shape of each clip.
        decode: how pictures are made of bytes.
        columns: columns of the index (numbers and strings) that samples have as well.
        transform: changes each sample, where it is decoded: in a worker, if there are workers.
        isolation: limits of the process in which clips are decoded, beside this one, so that no video can hang or end
            it; None: decode in this process, which saves some percent.
        read: how long to wait for the store.
        of_source: of the index of a run on several indexes: the clips, and the way to decode, of the videos of each, by
            its number, where they are not `clip` and `decode`. `Run.clips` gives them.

    Raises:
        ConfigError: a column does not exist or holds lists.
        InputError, StorageError: as `open_index`.
    """

    def __init__(
        self,
        index: Index | str,
        sampler: Sampler | Iterable[tuple[VideoKey, float]],
        clip: ClipConfig,
        *,
        decode: DecodeConfig | None = None,
        columns: Sequence[str] = (),
        transform: Transform | None = None,
        isolation: Isolation | None = DEFAULT_ISOLATION,
        read: ReadConfig | None = None,
        of_source: OfSource | None = None,
    ) -> None:
        self.index = open_index(index) if isinstance(index, str) else index
        self.columns = _checked(columns)
        self.transform = transform
        self.look = Look(self.index, clip, decode or DecodeConfig(), read or ReadConfig(), isolation, of_source or {})
        is_ready = callable(sampler) or isinstance(sampler, Sequence)
        self._sampler: Sampler | Moments = sampler if is_ready else list(sampler)  # type: ignore[assignment,arg-type]
        self._drawn: tuple[int, Moments] | None = None
        self._label_ids = {name: number for number, name in enumerate(self.index.classes)}
        self.position = Position()

    @property
    def clip(self) -> ClipConfig:
        return self.look.clip

    @property
    def classes(self) -> list[str]:
        return self.index.classes

    @property
    def epoch(self) -> int:
        """The epoch whose moments these are; `set_epoch` and the end of an iteration change it."""
        return self.position.epoch

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch, counted from 0."""
        self.position.go_to(epoch, 0)

    @property
    def moments(self) -> Moments:
        """The (video, seconds) of each clip of the epoch."""
        return self.moments_of(self.epoch)

    def moments_of(self, epoch: int) -> Moments:
        """The (video, seconds) of each clip of an epoch."""
        if not callable(self._sampler):
            return self._sampler
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = (epoch, self._sampler(epoch))
        return self._drawn[1]

    def __len__(self) -> int:
        return len(self.moments)

    def __getitem__(self, place: int) -> Sample:
        """One clip of the epoch, read now."""
        return self.__getitems__([place])[0]

    def __getitems__(self, places: Sequence[int]) -> list[Sample]:
        """Some clips of the epoch, in this order; their bytes are fetched at the same time. DataLoaders call it."""
        size = len(self)
        wanted = [int(place) + size if place < 0 else int(place) for place in places]
        if any(not 0 <= place < size for place in wanted):
            raise IndexError(f"clips {list(places)[:8]} of {size}")
        return [each for made in self.read([wanted]) for each in self.samples_of(made)] if wanted else []

    def __iter__(self) -> Iterator[Sample]:
        """The clips of an epoch in order, read ahead: from the loaded position, or else from the beginning of the next
        epoch (of the first one, at first)."""
        epoch, first = self.position.begin(lambda epoch, clips: clips >= len(self.moments_of(epoch)))
        places = range(first, len(self.moments_of(epoch)))
        blocks = [places[at : at + BLOCK] for at in range(0, len(places), BLOCK)]
        for made in self.read(blocks, epoch):
            for place, sample in zip(made.places, self.samples_of(made), strict=True):
                self.position.clips = place + 1
                yield sample

    def loader(
        self,
        batch_size: int,
        num_workers: int = 0,
        *,
        rank: int | None = None,
        world_size: int | None = None,
        drop_last: bool = False,
        **options: Any,
    ) -> ClipLoader:
        """A torch DataLoader of batches in order, whose position can be saved and resumed on any number of workers.

        Args:
            batch_size: clips of a batch of one rank.
            num_workers: processes that read and decode.
            rank: which share of each step is this process's; from `torch.distributed` or the variables RANK and
                WORLD_SIZE by default.
            world_size: the number of ranks; given with `rank`, or not at all.
            drop_last: leave out clips at the end that fill no batch of all ranks.
            options: others of torch's DataLoader.

        Raises:
            ConfigError: a number is out of range, or an option would change the order.
        """
        from adaptfocus.pipelines.library.loader import ClipLoader  # imports torch

        return ClipLoader(self, batch_size, num_workers, rank, world_size, drop_last, **options)

    def dataset(self, clips_per_block: int = 16, first: int = 0, concurrency: int | None = None) -> Dataset:
        """The clips of the epoch as a Ray Dataset: a row a clip, with the keys of a sample. Tasks read and decode.

        Rows come in the order of the epoch if Ray Data is told to keep it
        (``DataContext.get_current().execution_options.preserve_order = True``); `place` says it in any case.

        Args:
            clips_per_block: clips that a task decodes at once.
            first: begin at this clip: `clips` of a `state_dict`.
            concurrency: the most tasks at a time; as many as Ray has CPUs by default.

        Raises:
            ConfigError: a number is out of range, or Ray is not installed.
        """
        if find_spec("ray") is None:
            raise ConfigError("a Ray Dataset needs Ray, which is not installed; pip install 'adaptfocus[ray]'")
        from adaptfocus.pipelines.library.on_ray import clip_dataset

        return clip_dataset(self, clips_per_block, first, concurrency)

    def state_dict(self, delivered: int | None = None) -> dict[str, Any]:
        """The position, as numbers and strings.

        Args:
            delivered: the clips of the epoch that were used, in order; by default, those that iterating has given.
        """
        clips = self.position.clips if delivered is None else delivered
        moments = self.moments_of(self.epoch)
        if not 0 <= clips <= len(moments):
            raise ConfigError(f"{clips} clips delivered of {len(moments)}; give a number of this epoch's clips")
        return {"version": STATE_VERSION, "epoch": self.epoch, "clips": clips, "order": self._order_of(self.epoch)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a position: the next iteration begins with the clip after it.

        Raises:
            InputError: it is a position in other clips, or of another version.
        """
        try:
            version, epoch, clips, order = (state[name] for name in ("version", "epoch", "clips", "order"))
        except (KeyError, TypeError):
            raise InputError(f"this is no position of clips: {state!r:.200}; load what state_dict gave") from None
        if version != STATE_VERSION:
            raise InputError(f"the position has version {version}, not {STATE_VERSION}; begin the epoch again")
        if order != self._order_of(epoch) or not 0 <= clips <= len(self.moments_of(epoch)):
            raise InputError(
                f"the position (clip {clips} of epoch {epoch}) is one in other clips: the index has changed, or the "
                "sampler; open the index with the fingerprint that it had, and give the same sampler and seed"
            )
        self.position.go_to(epoch, clips)

    def share(self, epoch: int, first: int, batch_size: int, rank: int, world_size: int, drop_last: bool) -> Share:
        """The steps of a rank from a position on."""
        return Share(len(self.moments_of(epoch)), first, batch_size, rank, world_size, drop_last)

    def read(
        self,
        batches: Iterable[Sequence[int]],
        epoch: int | None = None,
        empty: Callable[[int], np.ndarray] | None = None,
    ) -> Iterator[Clipped]:
        """The clips at some places of an epoch, as they were decoded. Raises as `read_clips`."""
        return read_clips(self.look, self.moments_of(self.epoch if epoch is None else epoch), batches, empty)

    def samples_of(self, made: Clipped) -> list[Sample]:
        """Clips as samples."""
        arrays = self.batch_of(made)
        names = [*arrays]
        samples = (dict(zip(names, values, strict=True)) for values in zip(*arrays.values(), strict=True))
        found = [each | {name: each[name].item() for name in names if _is_number(each[name])} for each in samples]
        return [self.transform(each) for each in found] if self.transform else found

    def batch_of(self, made: Clipped) -> dict[str, Any]:
        """Clips as one batch: the keys of a sample, with arrays [B, ...] and lists of strings. No transform."""
        labels = np.zeros((len(made.rows), len(self.classes)), np.float32)
        for own, row in zip(labels, made.rows, strict=True):
            own[[self._label_ids[name] for name in row["labels"]]] = 1
        return {
            "frames": made.frames,
            "center_seconds": made.seconds,
            "video_id": [row["video_id"] for row in made.rows],
            "labels": labels,
            "error": made.errors,
            "place": np.array(made.places, np.int64),
            **{name: _column([row[name] for row in made.rows]) for name in self.columns},
        }

    def _order_of(self, epoch: int) -> str:
        return digest(self.index.fingerprint, fingerprint_of(self.moments_of(epoch)))

    def __getstate__(self) -> dict[str, Any]:
        """Other processes draw the moments again, if a sampler draws them."""
        return self.__dict__ | {"_drawn": None, "position": copy(self.position)}


class Position:
    """Where in its epochs an iteration is."""

    def __init__(self, epoch: int = 0, clips: int = 0) -> None:
        self.epoch, self.clips = epoch, clips  # after the clip that was given last
        self.first = clips  # of the iteration
        self._has_begun = False

    def go_to(self, epoch: int, clips: int) -> None:
        """The next iteration begins there."""
        if epoch < 0:
            raise ConfigError(f"epoch {epoch}: epochs count from 0")
        self.epoch, self.clips, self.first, self._has_begun = int(epoch), int(clips), int(clips), False

    def begin(self, is_over: Callable[[int, int], bool]) -> tuple[int, int]:
        """Begin an iteration -> (epoch, first clip). After another one, that is the next epoch.

        Args:
            is_over: whether no clip of an epoch is left after so many; then it is the next epoch as well.
        """
        if self._has_begun or (self.clips and is_over(self.epoch, self.clips)):
            self.epoch, self.clips, self.first = self.epoch + 1, 0, 0
        self._has_begun = True
        return self.epoch, self.clips


def _checked(columns: Sequence[str]) -> tuple[str, ...]:
    plain = [field.name for field in INDEX_SCHEMA if not pa.types.is_nested(field.type)]
    for name in columns:
        if name not in plain:
            raise ConfigError(f"columns: {name!r} is none of the index's; choose from: {', '.join(plain)}")
    return tuple(columns)


def _column(values: list[Any]) -> Any:
    return np.array(values) if values and isinstance(values[0], (bool, int, float)) else values


def _is_number(value: Any) -> bool:
    return isinstance(value, np.generic)
