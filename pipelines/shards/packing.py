"""Pack annotated videos into WebDataset shards.

Each video is checked to begin to decode, and its true duration is measured (`inspecting`). Sizes and names decide which
videos go into which shard (`assigning`). Then the bytes of each video are streamed unchanged into a tar (`writing`).
The result is ``OUT/shard-000000.tar``, ... with ``KEY.mp4`` and ``KEY.json`` for each sample, ``classes.txt`` and
``pack.json``.

Videos are checked, and shards written, in any number of processes. The same videos give the same bytes: no clock, user
or machine is written into a tar. A video is read twice, once to demux it and once to copy it; at most a few megabytes
of it are in the memory of a process.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.groups import check_groups
from adaptfocus.pipelines.annotations.names import check_id, check_unique, key_of, normal
from adaptfocus.pipelines.annotations.rows import (
    AnnotatedVideo,
    Problem,
    check_group,
    check_labels,
    check_split,
    labels_and,
    parse_intervals,
    parse_labels,
)
from adaptfocus.pipelines.annotations.tasks import ANNOTATIONS
from adaptfocus.pipelines.errors import BadVideoError, InputError
from adaptfocus.pipelines.over import Over, in_processes
from adaptfocus.pipelines.shards.assigning import Sample, Shard, assign
from adaptfocus.pipelines.shards.inspecting import Inspected, inspect_some, left_out
from adaptfocus.pipelines.shards.writing import remove_parts, write_missing_shard, write_shard
from adaptfocus.pipelines.store.urls import redact_url

# Steps done, steps in all, what was just done: the id of a video that was checked, or the URL of a shard that is there.
# How many shards there will be is known, and counted, when all videos have been checked.
Progress = Callable[[int, int, str], None]
# id -> seconds of each packed video; returns problems with other annotations of the videos.
Annotate = Callable[[Mapping[str, float]], Sequence[Problem]]

# Large enough for few listings, and small enough that one process indexes a shard in minutes.
SHARD_SIZE_BYTES = 1 << 30
TASK_VIDEOS = 16  # that a task checks
CLASSES = "classes.txt"
SUMMARY = "pack.json"  # is written last


@dataclass(frozen=True)
class PackSummary:
    """What `pack` wrote and what it left out; also the content of pack.json."""

    out_url: str
    shards: list[str]
    videos: int
    bytes: int
    duration_seconds: float
    classes: list[str]
    groups: int  # number of groups of the videos
    ids_renamed: int  # dots became "_"
    counts: dict[str, int]  # kind -> number of problems
    problems: list[Problem] = field(repr=False)


def pack(
    videos: Sequence[AnnotatedVideo],
    out_url: str,
    *,
    classes: Sequence[str] | None = None,
    shard_size_bytes: int = SHARD_SIZE_BYTES,
    problems: Sequence[Problem] = (),
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
    annotate: Annotate | None = None,
    workers: int | None = None,
    over: Over | None = None,
) -> PackSummary:
    """Write the videos, in their order, into shards of about `shard_size_bytes`.

    Args:
        classes: the class list; the sorted labels of the packed videos if None.
        problems: problems of the reader that made `videos`; the summary lists them before those found here.
        overwrite: remove existing shards in `out_url`.
        resume: complete a pack of the same videos that was stopped. Shards that are there as they should be are kept.
        annotate: called when all shards exist, with id -> seconds of each packed video; writes into
            ``OUT/annotations``. The problems that it returns are counted with the others.
        workers: number of processes; one for each core if None. With 1, all runs in this process.
        over: what does the work, on a cluster for example; by default processes of this machine.

    Raises:
        InputError: there are shards in `out_url`, an id is unsafe or occurs twice, a label is not a class, a group is
            in two splits, no video could be packed, a video changed while it was packed, or there is nothing that can
            be resumed.
        StorageError: a place cannot be read or written.
    """
    classes = None if classes is None else list(dict.fromkeys(map(normal, classes)))
    videos = [_normal(video) for video in videos]
    for video in videos:
        check_labels(labels_and(video.intervals, video.labels), classes, f"video {video.video_id!r}")
    check_unique((video.video_id, redact_url(video.path)) for video in videos)
    check_groups(videos)
    if shard_size_bytes < 1:
        raise InputError(f"the shard size is {shard_size_bytes} bytes; give at least 1 (1 GiB is usual)")
    if overwrite and resume:
        raise InputError("--overwrite removes the shards that --resume keeps; give one of them")
    _make_room(out_url, overwrite, resume)
    over = over or in_processes(workers)
    done = _checked(videos, problems, over, progress)
    shards = assign(done.samples, out_url, shard_size_bytes)
    if resume:
        _check_no_others(out_url, shards)
    _write(shards, resume, over, progress, len(videos))
    remove_parts(out_url)
    if annotate:
        done.problems += annotate(done.seconds)
    return _summary(done, out_url, shards, sorted(done.labels) if classes is None else list(classes))


@dataclass
class _Checked:
    """The videos that are packed, in their order, and what is known of them."""

    problems: list[Problem]
    samples: list[Sample] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)  # key -> id
    labels: set[str] = field(default_factory=set)
    groups: set[str | None] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)  # id -> duration

    def add(self, video: AnnotatedVideo, found: Inspected) -> None:
        """Take a video in, or note why not."""
        key = key_of(video.video_id)
        if key in self.keys:
            repeated = BadVideoError("key_collision", f"{self.keys[key]!r} has the same key {key!r}; rename one")
            self.problems.append(left_out(video, repeated))
            return
        self.problems += found.problems
        if found.sample is None:
            return
        self.samples.append(found.sample)
        self.keys[key] = video.video_id
        self.labels.update(labels_and(video.intervals, video.labels))
        self.groups.add(video.group)
        self.seconds[video.video_id] = found.seconds


def _checked(
    videos: Sequence[AnnotatedVideo], problems: Sequence[Problem], over: Over, progress: Progress | None
) -> _Checked:
    """Look at all videos. Raises InputError if none can be packed."""
    done = _Checked(list(problems))
    groups = [videos[first : first + TASK_VIDEOS] for first in range(0, len(videos), TASK_VIDEOS)]
    for number, found in enumerate(chain.from_iterable(over(groups, inspect_some)), start=1):
        video = videos[number - 1]
        done.add(video, found)
        if progress:
            progress(number, len(videos), video.video_id)
    if not done.samples:
        first = "; ".join(f"{p.where}: {p.message}" for p in done.problems[:3]) or "no videos were given"
        raise InputError(f"none of {len(videos)} videos could be packed: {first}")
    return done


def _write(shards: Sequence[Shard], resume: bool, over: Over, progress: Progress | None, steps_before: int) -> None:
    """Write the shards; with `resume`, those that are not there."""
    for number, _ in enumerate(over(shards, write_missing_shard if resume else write_shard), start=1):
        if progress:
            progress(steps_before + number, steps_before + len(shards), shards[number - 1].url)


def _normal(video: AnnotatedVideo) -> AnnotatedVideo:
    """The video with id, labels and split in their normal form. Raises InputError if one cannot be used."""
    where = f"video {video.video_id!r} ({redact_url(video.path)})"
    try:
        labels, intervals = parse_labels(video.labels), parse_intervals(video.intervals)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    video_id, split = check_id(video.video_id, redact_url(video.path)), check_split(video.split, where)
    group = check_group(video.group, where)
    return replace(video, video_id=video_id, labels=labels, intervals=intervals, split=split, group=group)


def _make_room(out_url: str, overwrite: bool, resume: bool) -> None:
    """An index of the folder must not find shards of an earlier pack."""
    old, summary = _tars_in(out_url), store.join(out_url, SUMMARY)
    if resume and store.exists(summary):
        raise InputError(f"{out_url} holds a whole pack, nothing to resume; give another folder, or --overwrite")
    if old and not (overwrite or resume):
        raise InputError(
            f"{out_url} already holds tars ({len(old)}); give another folder, or --overwrite. If they are of this pack "
            "and it was stopped, give --resume"
        )
    store.check_writable(out_url)
    remove_parts(out_url)
    annotations = store.list_files(store.join(out_url, ANNOTATIONS))
    # The summary first: where it is, the shards are whole.
    for url in [summary, store.join(out_url, CLASSES), *([] if resume else old), *annotations]:
        store.delete(url)


def _check_no_others(out_url: str, shards: Sequence[Shard]) -> None:
    """Raises InputError: the folder holds a tar that is none of these shards."""
    others = sorted(set(_tars_in(out_url)) - {shard.url for shard in shards})
    if others:
        raise InputError(
            f"{others[0]} is not a shard of this pack; resume with the same videos, labels and "
            "--shard-size, or give another folder, or --overwrite"
        )


def _tars_in(out_url: str) -> list[str]:
    return [url for url in store.list_files(out_url) if url.endswith(".tar")]


def _summary(done: _Checked, out_url: str, shards: Sequence[Shard], classes: list[str]) -> PackSummary:
    counts = dict(sorted(Counter(problem.kind for problem in done.problems).items()))
    summary = PackSummary(
        out_url=out_url,
        shards=[shard.url for shard in shards],
        videos=len(done.samples),
        bytes=sum(sample.size_bytes for sample in done.samples),
        duration_seconds=round(sum(done.seconds.values()), 3),
        classes=classes,
        groups=len(done.groups - {None}),
        ids_renamed=sum(key != video_id for key, video_id in done.keys.items()),
        counts=counts,
        problems=done.problems,
    )
    store.write_bytes(store.join(out_url, CLASSES), "".join(f"{c}\n" for c in classes).encode())
    text = json.dumps(asdict(summary), ensure_ascii=False, indent=1)
    store.write_bytes(store.join(out_url, SUMMARY), text.encode())
    return summary
