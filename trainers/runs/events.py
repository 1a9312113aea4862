"""TensorBoard events beside a run, on any store: `tensorboard/events.out.tfevents.NUMBER.commit` and `.epoch`.

A file is a pure function of one entry of the log, or of one epoch's summary, and is written whole. So writing it twice
gives the same bytes, and a run that is killed between a commit and its file writes that file when it is resumed. Their
names are in the order of the log, in which TensorBoard reads the files of a folder.
"""

from __future__ import annotations

import importlib.util
import logging
import struct
from collections.abc import Mapping
from typing import Any

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import AdaptFocusError, ConfigError
from adaptfocus.trainers.runs.log import Commit, Run
from adaptfocus.trainers.runs.measured import RETRIES

FOLDER = "tensorboard"
OF_AN_EPOCH = ("share_unmasked", "mean_spike_actionness", "spike_contrast", "hit_rate", "precision_of_positives",
               "precision_of_negatives", "temperature_over_p", "excluded", "bags_lost")  # fmt: skip

_log = logging.getLogger(__name__)


def check_installed() -> None:
    """Raise ConfigError if the library that makes events is not here."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise ConfigError(
            "checkpoint.tensorboard=true needs the package tensorboardX; pip install 'adaptfocus[tensorboard]', or "
            "leave it out"
        )


class EventFiles:
    """The event files of one run. A file that cannot be written is said in the log, and never fails a run."""

    def __init__(self, run: Run, last: Commit | None) -> None:
        """Begin, or resume from `last`: files of later commits, which are no longer part of the run, are removed."""
        self.run = run
        try:
            self._drop_after(-1 if last is None else last.number)
        except AdaptFocusError as error:
            _log.warning("event files of %s: %s", run.url, error)
        if last is not None:
            self.add_commit(last)

    def add_commit(self, commit: Commit) -> None:
        """Write the events of a commit."""
        self._write(commit, "commit", step_of(commit), scalars_of_commit(commit))

    def add_epoch(self, commit: Commit, summary: Mapping[str, Any]) -> None:
        """Write the events of the epoch that a commit ends, by its summary."""
        self._write(commit, "epoch", step_of(commit), scalars_of_summary(summary))

    def _drop_after(self, number: int) -> None:
        for url in store.list_files(self.run.at(FOLDER)):
            _, _, rest = url.rsplit("/", 1)[-1].partition("tfevents.")
            if (found := rest.split(".")[0]).isdigit() and int(found) > number:
                store.delete(url)

    def _write(self, commit: Commit, kind: str, step: int, scalars: Mapping[str, float]) -> None:
        url = self.run.at(FOLDER, f"events.out.tfevents.{commit.number:010d}.{kind}")
        try:
            store.write_bytes(url, encode(step, commit.seconds, scalars))
        except AdaptFocusError as error:
            _log.warning("%s is not written: %s", url, error)


def step_of(commit: Commit) -> int:
    """The bags that are trained up to a commit, in all epochs: the same at any number of workers."""
    return commit.number if commit.bags is None else commit.bags


def scalars_of_commit(commit: Commit) -> dict[str, float]:
    """What a commit has measured since the one before, by the name of its chart."""
    m, workers = commit.metrics, commit.workers
    seconds, clips = m.get("seconds") or 0.0, m.get("clips") or 0.0
    found = {"train/loss": m.get("loss"), "train/learning_rate": m.get("learning_rate")}
    found |= {"train/epoch": commit.epoch + (commit.cursor / commit.num_bags if commit.num_bags else 0.0)}
    if seconds:
        found["speed/clips_per_second"] = clips / seconds
        found["time/waiting_share"] = min(1.0, m.get("input_wait_seconds", 0.0) / seconds)
    found |= {f"time/{name}": m.get(name) for name in ("commit_stall_seconds", "commit_write_seconds")}
    if clips:
        found["reading/decode_ms_per_clip"] = 1000 * m.get("decode_seconds", 0.0) / clips
        found["reading/store_ms_per_clip"] = 1000 * m.get("wait_seconds", 0.0) / clips
        found["reading/bytes_per_clip"] = m.get("read_bytes", 0.0) / clips
        found["reading/requests_per_clip"] = m.get("read_requests", 0.0) / clips
    found |= {f"retries/{name.removeprefix('read_retries_')}": m[name] for name in RETRIES if m.get(name)}
    return {name: float(value) for name, value in (found | {"run/workers": workers}).items() if value is not None}


def scalars_of_summary(summary: Mapping[str, Any]) -> dict[str, float]:
    """What an epoch's summary says, by the name of its chart."""
    return {f"epoch/{name}": float(summary[name]) for name in OF_AN_EPOCH if summary.get(name) is not None}


def encode(step: int, seconds: float, scalars: Mapping[str, float]) -> bytes:
    """An event file with one point of each scalar.

    Args:
        seconds: wall clock, since 1970.
    """
    # In a function: it takes half a second to import, and only runs that ask for events need it.
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
    from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

    values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
    events = [
        Event(wall_time=seconds, file_version="brain.Event:2"),
        Event(wall_time=seconds, step=step, summary=Summary(value=values)),
    ]
    return b"".join(_record(event.SerializeToString(deterministic=True)) for event in events)


def _record(data: bytes) -> bytes:
    """A record of the format TFRecord: length and data, each with its masked CRC-32C."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))
