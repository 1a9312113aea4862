"""Annotated videos -> WebDataset shards.

Input: AnnotatedVideo rows (pipelines/datasets) and a place to write to.
Does: checks that each video begins to decode, learns its true duration, streams its bytes untouched into tars.
Output: ``OUT/shard-000000.tar``, ... with ``KEY.mp4`` and ``KEY.json`` for each sample; ``classes.txt``; ``pack.json``.

The same videos give the same bytes: no clock, no user, no machine is written into a tar. A video is read twice, once
to demux it and once to copy it; never more than a few megabytes of it are in memory.
"""

from __future__ import annotations

import io
import json
import os
import posixpath
import tarfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.groups import check_groups
from adaptfocus.pipelines.annotations.names import (
    VIDEO_EXTENSIONS,
    check_id,
    check_unique,
    key_and_extension,
    key_of,
    normal,
)
from adaptfocus.pipelines.annotations.rows import (
    AnnotatedVideo,
    Problem,
    check_group,
    check_labels,
    check_split,
    labels_and,
    parse_intervals,
    parse_labels,
    tidy_intervals,
)
from adaptfocus.pipelines.annotations.tasks import ANNOTATIONS
from adaptfocus.pipelines.apart.pool import read_packet_table_apart
from adaptfocus.pipelines.decode.settings import DEFAULT_ISOLATION
from adaptfocus.pipelines.errors import BadVideoError, InputError, StorageError, as_bad_video
from adaptfocus.pipelines.inspection.demux import DEMUX_BLOCK_BYTES, DEMUX_MAX_BLOCKS
from adaptfocus.pipelines.shards.members import is_companion
from adaptfocus.pipelines.store.range_file import RangeFile
from adaptfocus.pipelines.store.urls import redact_url
from adaptfocus.pipelines.video.table import PacketTable

Progress = Callable[[int, int, str], None]  # videos done, videos in all, the id of the one just done
# Seconds of each packed video by id -> what is wrong with what else is known of the videos.
Annotate = Callable[[Mapping[str, float]], Sequence[Problem]]

# Large enough that a shard is read with few listings and small enough that one process indexes it in minutes.
SHARD_SIZE_BYTES = 1 << 30
COPY_BYTES = 1 << 20
UPLOAD_PART_BYTES = 64 << 20  # S3 takes 10,000 parts an object: 640 GB a shard


@dataclass(frozen=True)
class PackSummary:
    """What `pack` wrote and what it left out; also the content of pack.json."""

    out_url: str
    shards: list[str]
    videos: int
    bytes: int
    duration_seconds: float
    classes: list[str]
    groups: int  # of the videos
    ids_renamed: int  # dots became "_"
    counts: dict[str, int]  # problems by kind
    problems: list[Problem] = field(repr=False)


def pack(
    videos: Sequence[AnnotatedVideo],
    out_url: str,
    *,
    classes: Sequence[str] | None = None,
    shard_size_bytes: int = SHARD_SIZE_BYTES,
    problems: Sequence[Problem] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
    annotate: Annotate | None = None,
) -> PackSummary:
    """Write the videos, in their order, into shards of about `shard_size_bytes`.

    Args:
        classes: the class list; the sorted labels of the packed videos if None.
        problems: of the reader that made `videos`; they go into the summary before those found here.
        overwrite: remove shards that are in `out_url` already.
        annotate: called when all shards are there, with the seconds of each packed video by its id; writes into
            ``OUT/annotations``. The problems that it returns are counted with the others.

    Raises:
        InputError: there are shards in `out_url`, an id is unsafe or occurs twice, a label is not a class, a group is
            in two splits, or not one video could be packed.
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
    _clear(out_url, overwrite)
    done = _Packing(out_url, shard_size_bytes, problems=list(problems))
    try:
        for number, video in enumerate(videos, start=1):
            done.add(video)
            if progress:
                progress(number, len(videos), video.video_id)
    except BaseException:
        done.abandon()
        raise
    done.end_shard()
    if not done.keys:
        first = "; ".join(f"{p.where}: {p.message}" for p in done.problems[:3]) or "there were no videos to begin with"
        raise InputError(f"none of {len(videos)} videos could be packed: {first}")
    if annotate:
        done.problems += annotate(done.seconds)
    return _summary(done, sorted(done.labels) if classes is None else list(classes))


class _Packing:
    """The shard being written, and what has been written so far."""

    def __init__(self, out_url: str, shard_size_bytes: int, problems: list[Problem]) -> None:
        self.out_url, self.shard_size_bytes, self.problems = out_url, shard_size_bytes, problems
        self.shards: list[str] = []
        self.keys: dict[str, str] = {}  # key -> id
        self.labels: set[str] = set()
        self.groups: set[str | None] = set()
        self.seconds: dict[str, float] = {}  # id -> duration
        self.bytes = self.ids_renamed = 0
        self._tar: tarfile.TarFile | None = None
        self._file: _ShardFile | None = None

    def add(self, video: AnnotatedVideo) -> None:
        """Write one sample, or note why not."""
        key = key_of(video.video_id)
        try:
            if key in self.keys:
                raise BadVideoError("key_collision", f"its key {key!r} is that of {self.keys[key]!r}; rename one")
            if is_companion(f"{key}.mp4") or key_and_extension(f"{key}.mp4") != (key, "mp4"):
                raise BadVideoError("reserved_key", f"readers of tars skip names such as {key!r}; rename it")
            size_bytes = _size_of(video.path)
            file = RangeFile(video.path, 0, size_bytes, DEMUX_BLOCK_BYTES, max_blocks=DEMUX_MAX_BLOCKS)
            table = read_packet_table_apart(file, size_bytes, b"", DEFAULT_ISOLATION)
            annotation, changed = _annotation(video, table)
            text = json.dumps(annotation, ensure_ascii=False, sort_keys=True).encode()
        except Exception as error:
            bad = as_bad_video(_of_file(error, video.path))
            self.problems.append(Problem(bad.kind, video.video_id, f"{redact_url(video.path)}: {bad}"))
            return
        tar = self._shard_for(size_bytes + len(text))
        file = RangeFile(video.path, 0, size_bytes, DEMUX_BLOCK_BYTES, max_blocks=1)
        _add_member(tar, f"{key}.{_extension(video.path)}", size_bytes, file)
        _add_member(tar, f"{key}.json", len(text), io.BytesIO(text))
        self.keys[key] = video.video_id
        self.problems += changed
        self.labels.update(annotation["labels"])
        self.groups.add(video.group)
        self.ids_renamed += key != video.video_id
        self.bytes += size_bytes
        self.seconds[video.video_id] = table.duration_seconds

    def _shard_for(self, size_bytes: int) -> tarfile.TarFile:
        """The open shard, or a new one if the sample does not fit; a video larger than a shard gets its own."""
        if self._tar is not None and self._tar.offset and self._tar.offset + size_bytes > self.shard_size_bytes:
            self.end_shard()
        if self._tar is None:
            self._file = _ShardFile(store.join(self.out_url, f"shard-{len(self.shards):06d}.tar"))
            self._tar = tarfile.TarFile(
                None, "w", cast(Any, self._file.stream), format=tarfile.PAX_FORMAT, copybufsize=COPY_BYTES
            )
            self.shards.append(self._file.url)
        return self._tar

    def end_shard(self) -> None:
        """Finish the open shard; it appears under its name now."""
        if self._tar is not None and self._file is not None:
            self._tar.close()
            self._file.commit()
        self._tar = self._file = None

    def abandon(self) -> None:
        """Drop the open shard: no half of a shard is left under a shard's name."""
        if self._file is not None:
            self._file.discard()
        self._tar = self._file = None


class _ShardFile:
    """A stream whose file appears under `url` when it is committed, and never if it is discarded."""

    def __init__(self, url: str) -> None:
        self.url = url
        fs, self._path = store.filesystem(url)
        self._is_local = store.is_local(url)
        if self._is_local:
            os.makedirs(posixpath.dirname(self._path) or ".", exist_ok=True)  # noqa: PTH103
            self.stream: Any = open(f"{self._path}.part", "wb")  # noqa: SIM115
        else:  # a multipart upload becomes an object when it is closed
            self.stream = fs.open(self._path, "wb", block_size=UPLOAD_PART_BYTES)

    def commit(self) -> None:
        try:
            self.stream.close()
            if self._is_local:
                os.replace(f"{self._path}.part", self._path)  # noqa: PTH105
        except OSError as error:
            raise StorageError(
                f"{self.url} could not be written ({error}); check the place, its quota and the network"
            ) from error

    def discard(self) -> None:
        if self._is_local:
            self.stream.close()
            os.unlink(f"{self._path}.part")  # noqa: PTH108
        else:
            self.stream.discard()
            self.stream.closed = True  # or its end would upload what is in the buffer


def _normal(video: AnnotatedVideo) -> AnnotatedVideo:
    """The video with its id, labels and split as they are compared. Raises InputError if one cannot be used."""
    where = f"video {video.video_id!r} ({redact_url(video.path)})"
    try:
        labels, intervals = parse_labels(video.labels), parse_intervals(video.intervals)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    video_id, split = check_id(video.video_id, redact_url(video.path)), check_split(video.split, where)
    group = check_group(video.group, where)
    return replace(video, video_id=video_id, labels=labels, intervals=intervals, split=split, group=group)


def _annotation(video: AnnotatedVideo, table: PacketTable) -> tuple[dict[str, Any], list[Problem]]:
    """The sample's .json, with intervals that lie inside the video."""
    intervals, problems = tidy_intervals(video.intervals, video.video_id, table.duration_seconds)
    annotation: dict[str, Any] = {
        "id": video.video_id,
        "labels": list(labels_and(video.intervals, video.labels)),
        "duration_seconds": round(table.duration_seconds, 6),
    }
    if intervals is not None:
        annotation["intervals"] = [
            {"label": label, "start_seconds": start, "end_seconds": end} for label, start, end in intervals
        ]
    if video.split is not None:
        annotation["split"] = video.split
    if video.group is not None:
        annotation["group"] = video.group
    return annotation, problems


def _size_of(url: str) -> int:
    """Size in bytes; a file that has gone is that video's problem, a store that cannot be reached is the run's."""
    try:
        return store.size_and_tag(url)[0]
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise BadVideoError("missing_file", str(error)) from None
        raise


def _of_file(error: Exception, path: str) -> Exception:
    """A folder, or a file that may not be read, is that video's problem on this machine's disks."""
    is_file = isinstance(error, StorageError) and isinstance(error.__cause__, IsADirectoryError | PermissionError)
    return BadVideoError("unreadable_file", str(error)) if is_file and store.is_local(path) else error


def _extension(path: str) -> str:
    """The file's own extension in lower case; mp4 for a name without one, so that an indexer knows it for a video."""
    extension = posixpath.splitext(path.split("?", 1)[0])[1].removeprefix(".").lower()
    return extension if extension in VIDEO_EXTENSIONS else "mp4"


def _add_member(tar: tarfile.TarFile, name: str, size_bytes: int, file: Any) -> None:
    info = tarfile.TarInfo(name)  # mtime, uid and gid are 0 and the names empty: the same bytes on every machine
    info.size = size_bytes
    tar.addfile(info, file)
    cast(Any, tar).members.clear()  # tarfile would keep a million of them


def _clear(out_url: str, overwrite: bool) -> None:
    """Make room: an index of the folder must not find shards of an earlier pack."""
    old = [url for url in store.list_files(out_url) if url.endswith(".tar")]
    if old and not overwrite:
        raise InputError(f"{out_url} holds tars already ({len(old)}); give another folder, or --overwrite")
    store.check_writable(out_url)
    for url in [*old, *store.list_files(store.join(out_url, ANNOTATIONS))]:
        store.delete(url)


def _summary(done: _Packing, classes: list[str]) -> PackSummary:
    counts = dict(sorted(Counter(problem.kind for problem in done.problems).items()))
    summary = PackSummary(
        out_url=done.out_url,
        shards=done.shards,
        videos=len(done.keys),
        bytes=done.bytes,
        duration_seconds=round(sum(done.seconds.values()), 3),
        classes=classes,
        groups=len(done.groups - {None}),
        ids_renamed=done.ids_renamed,
        counts=counts,
        problems=done.problems,
    )
    store.write_bytes(store.join(done.out_url, "classes.txt"), "".join(f"{c}\n" for c in classes).encode())
    text = json.dumps(asdict(summary), ensure_ascii=False, indent=1)
    store.write_bytes(store.join(done.out_url, "pack.json"), text.encode())
    return summary
