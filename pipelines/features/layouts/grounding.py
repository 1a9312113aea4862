"""CPL, MMN and D3G: all videos in one HDF5 file, and sentences with their moments.

Input: feature sets, and a `grounding.jsonl` if there is one.
Does: writes and checks

    features.hdf5          f[id] float32 [T, D] (CPL), or [32, D] with rows of length 1 (MMN, D3G)
    {train,test}.json      [[id, duration, [start, end], sentence], ...] (CPL), or
                           {id: {"duration", "timestamps", "sentences"}} (MMN, D3G; "glances" as well for D3G)

Output: what was written, or what is wrong with it. MMN and D3G normalise each row that they read and average to 32 of
them: what is written here is what comes out of that as it went in.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.tasks import Moment, read_grounding
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.features.layouts.axes import Problems, check_axes, check_matrix, check_values
from adaptfocus.pipelines.features.layouts.given import (
    FACTS,
    Given,
    average_steps,
    check_any,
    leave_out,
    normalise_rows,
    read_facts,
)
from adaptfocus.pipelines.features.store import VideoFeatures
from adaptfocus.pipelines.store import strict_json

FILE = "features.hdf5"
STEPS = 32


@dataclass(frozen=True)
class Reader:
    """What one of these projects reads."""

    name: str
    is_fixed: bool = False  # as many rows for each video, of length 1
    has_glances: bool = False  # trains on one time inside each moment, and not on the moment

    def steps(self, given: Given, facts: dict[str, Any]) -> int | None:
        return facts.get("steps") or given.steps or STEPS if self.is_fixed else None

    def laid_out(self, video: VideoFeatures, steps: int | None) -> np.ndarray:
        """[T, D], or [steps, D]."""
        return video.features if steps is None else normalise_rows(average_steps(normalise_rows(video.features), steps))


CPL, MMN, D3G = Reader("CPL"), Reader("MMN", is_fixed=True), Reader("D3G", is_fixed=True, has_glances=True)


def h5py_library() -> Any:
    """The h5py module. Raises ConfigError if it is not installed."""
    try:
        import h5py
    except ImportError as error:
        raise ConfigError(
            "this layout is an HDF5 file, which needs h5py: pip install 'adaptfocus[features]'"
        ) from error
    return h5py


def write(url: str, given: Given, reader: Reader) -> dict[str, int]:
    """Write the layout; how many videos, and moments."""
    library = h5py_library()
    done: Counter[str] = Counter()
    durations: dict[str, float] = {}
    steps = reader.steps(given, {})
    with _new_file(store.join(url, FILE)) as path, library.File(path, "w") as file:
        for video in given.videos():
            if "/" in video.video_id:
                raise ConfigError(f"{video.video_id!r} has a slash, which HDF5 takes for a folder; rename the video")
            try:
                rows = reader.laid_out(video, steps)
            except Exception as error:
                leave_out(done, video.video_id, error)
                continue
            file.create_dataset(video.video_id, data=rows)
            durations[video.video_id] = video.duration_seconds
            done["videos"] += 1
    if given.grounding_url:
        moments: dict[str, list[Moment]] = {}
        for moment in read_grounding(given.grounding_url):
            if moment.video_id in durations:
                moments.setdefault(moment.split or "all", []).append(moment)
            else:
                done["moments without a video"] += 1
        for split, rows in moments.items():
            content = _annotations(rows, durations, reader)
            if f"{split}.json" == FACTS:
                raise InputError(f"{given.grounding_url} has a split {split!r}, whose file would be {FACTS}; rename it")
            store.write_bytes(store.inside(url, f"{split}.json"), json.dumps(content).encode())
            done["moments"] += len(rows)
    return check_any(done)


def _annotations(moments: list[Moment], durations: dict[str, float], reader: Reader) -> Any:
    if not reader.is_fixed:
        return [[m.video_id, durations[m.video_id], [m.start_seconds, m.end_seconds], m.sentence] for m in moments]
    videos: dict[str, dict[str, Any]] = {}
    for m in moments:
        empty = {"duration": durations[m.video_id], "timestamps": [], "sentences": []}
        video = videos.setdefault(m.video_id, empty)
        video["timestamps"].append([m.start_seconds, m.end_seconds])
        video["sentences"].append(m.sentence)
        if reader.has_glances:
            video.setdefault("glances", []).append(glance_seconds(m, durations[m.video_id]))
    return videos


def glance_seconds(moment: Moment, duration_seconds: float) -> float:
    """The one time inside a moment that D3G trains on: drawn evenly, as its authors drew theirs, by what it is of.

    The same moment of a video has the same glance in each export. None is behind the video's end.
    """
    key = json.dumps([moment.video_id, moment.start_seconds, moment.end_seconds, moment.sentence])
    share = int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48
    start, end = (min(seconds, duration_seconds) for seconds in (moment.start_seconds, moment.end_seconds))
    return min(max(round(start + share * (end - start), 3), start), end)


def check(url: str, given: Given, reader: Reader) -> tuple[int, Problems]:
    """(videos, what is wrong) of what the reader would see."""
    problems, facts = Problems(), read_facts(url)
    steps = reader.steps(given, facts)
    place = store.join(url, FILE)
    if not store.exists(place):
        problems.say("missing", f"{FILE} is missing; export again")
        return 0, problems
    library = h5py_library()
    filesystem, path = store.filesystem(place)
    try:
        with filesystem.open(path, "rb") as raw, library.File(raw, "r") as file:
            ids, shapes = _check_arrays(file, given, reader, steps, problems)
    except OSError as error:
        problems.say("not HDF5", f"{FILE} is no HDF5 file ({str(error)[:100]}); export again")
        return 0, problems
    dim = given.sets[0].dim if given.sets else (facts.get("feature_shape") or [None])[-1]
    wanted = {} if steps is None else dict.fromkeys(shapes, steps)
    bad = check_axes(shapes, problems, reader=reader.name, time_axis=0, dim=dim, steps=wanted)
    for name in sorted(shapes.keys() - bad):
        if steps is not None and shapes[name][0] != steps:
            text = f"{name} has {shapes[name][0]} rows; {reader.name} reads {steps}: export with --steps {steps}"
            problems.say("steps", text)
    _check_annotations(url, set(ids), reader, problems)
    return len(ids), problems


def _check_arrays(
    file: Any, given: Given, reader: Reader, steps: int | None, problems: Problems
) -> tuple[list[str], dict[str, tuple[int, ...]]]:
    """(ids, shapes of those that are matrices and not known to be wrong), of an open file."""
    ids = [key for key in file if hasattr(file[key], "shape")]
    if groups := sorted(set(file) - set(ids)):
        text = f"{FILE} has groups ({groups[:3]}); {reader.name} reads f[id], an array: export again"
        problems.say("group", text)
    hertz = 1 / given.sets[0].stride_seconds if given.sets else 1.0
    owners = {video_id: each for each in given.sets for video_id in each.video_ids}
    shapes: dict[str, tuple[int, ...]] = {}
    for video_id in ids:
        name, array = f"f[{video_id!r}]", np.asarray(file[video_id])
        if not check_matrix(name, array, problems, reader.name):
            continue
        if owners and video_id not in owners:
            problems.say("unknown name", f"{name} is of no video in the features; keys are the videos' ids")
        elif owners:
            wanted = reader.laid_out(owners[video_id].video(video_id), steps)
            if not check_values(name, array, wanted, problems, reader=reader.name, time_axis=0, hertz=hertz):
                continue
        shapes[name] = array.shape
        if steps is not None and array.shape[0] == steps:
            _check_length(name, array, problems, reader)
    if missing := sorted(owners.keys() - set(ids)):
        problems.say("missing", f"{FILE} lacks {len(missing)} videos of the features: {missing[:3]}; export again")
    return ids, shapes


def _check_length(name: str, array: np.ndarray, problems: Problems, reader: Reader) -> None:
    length = np.linalg.norm(array, axis=1)
    if not np.allclose(length[length > 0], 1, atol=1e-3):
        problems.say(
            "length",
            f"{name} has rows of length {length.min():.3g} to {length.max():.3g}; {reader.name} reads rows "
            "that are L2-normalised: divide each by its length",
        )


def _check_annotations(url: str, ids: set[str], reader: Reader, problems: Problems) -> None:
    for place in store.list_files(url):
        name = posixpath.basename(place)
        if not name.endswith(".json") or name == FACTS:
            continue
        try:
            content = strict_json.loads(store.read_bytes(place))
            rows = [*content] if reader.is_fixed else [row[0] for row in content if len(row[2]) == 2 and row[3]]
            whole = isinstance(content, dict) == reader.is_fixed and len(rows) == len(content)
        except (ValueError, TypeError, KeyError, IndexError):
            whole, rows = False, []
        if not whole:
            form = (
                "{id: {duration, timestamps, sentences}}" if reader.is_fixed else "[[id, duration, [s, e], sentence]]"
            )
            problems.say("annotations", f"{name} does not have {reader.name}'s form {form}: export again")
        elif strange := sorted(set(rows) - ids):
            problems.say("annotations", f"{name} names videos that {FILE} lacks: {strange[:3]}; export again")
        elif reader.has_glances and "train" in name:  # as the reader tells what it trains on
            for video_id in rows:
                _check_glances(f"{name}: {video_id!r}", content[video_id], reader, problems)


def _check_glances(what: str, video: Any, reader: Reader, problems: Problems) -> None:
    """Each moment that is trained on has one time inside it, in seconds, and before the video's end."""
    try:
        moments, glances, duration = video["timestamps"], video["glances"], video["duration"]
        inside = [start <= seen <= min(end, duration) for (start, end), seen in zip(moments, glances, strict=True)]
    except KeyError as error:
        problems.say("glances", f"{what} has no {error}, which {reader.name} reads for training: export again")
    except (TypeError, ValueError):
        text = f"{what} does not have one glance for each of its moments, in seconds; {reader.name} reads them by place"
        problems.say("glances", f"{text}: export again")
    else:
        if not all(inside):
            number = inside.index(False)
            text = f"{what} has a glance at {glances[number]} s, outside its moment {moments[number]}; {reader.name} "
            problems.say("glances", text + "trains on a time inside it: export again")


@contextmanager
def _new_file(url: str) -> Iterator[str]:
    """A path to write to, which becomes the object at the URL once it is whole."""
    filesystem, path = store.filesystem(url)
    local = store.is_local(url)
    if local:
        os.makedirs(posixpath.dirname(path), exist_ok=True)  # noqa: PTH103
    with tempfile.TemporaryDirectory(dir=posixpath.dirname(path) if local else None, prefix=".adaptfocus-") as folder:
        part = posixpath.join(folder, FILE)
        yield part
        if local:
            os.replace(part, path)  # noqa: PTH105
        else:
            filesystem.put_file(part, path)
