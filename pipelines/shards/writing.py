"""Write the tars of a pack. Each appears under its name only when it is whole; written again, it has the same bytes."""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError, StorageError
from adaptfocus.pipelines.inspection.demux import DEMUX_BLOCK_BYTES
from adaptfocus.pipelines.shards.assigning import Sample, Shard, space_of
from adaptfocus.pipelines.store.range_file import RangeFile
from adaptfocus.pipelines.store.urls import redact_url

COPY_BYTES = 1 << 20
UPLOAD_PART_BYTES = 64 << 20  # S3 allows 10,000 parts an object: 640 GB a shard


def write_shard(shard: Shard) -> None:
    """Copy the videos of a shard and their texts into its tar.

    Raises:
        InputError: a video is gone, or has another size than when it was inspected.
        StorageError: a place cannot be read or written.
    """
    with whole_file(shard.url) as stream:
        tar = tarfile.TarFile(None, "w", cast(Any, stream), format=tarfile.PAX_FORMAT, copybufsize=COPY_BYTES)
        for sample in shard.samples:
            _check_unchanged(sample)
            video, text = sample.members()
            tar.addfile(
                video.info(), cast(Any, RangeFile(sample.video_url, 0, sample.size_bytes, DEMUX_BLOCK_BYTES, 1))
            )
            tar.addfile(text.info(), io.BytesIO(sample.text))
            cast(Any, tar).members.clear()  # tarfile would keep a million of them
        tar.close()


def write_missing_shard(shard: Shard) -> None:
    """Write a shard, unless it is there: with the assigned size, and the headers and texts of its samples.

    Raises:
        InputError, StorageError: as `write_shard`.
    """
    if not _is_there(shard):
        write_shard(shard)


def remove_parts(out_url: str) -> None:
    """Remove from a folder of this machine what processes that were killed had begun to write."""
    if store.is_local(out_url):
        for part in Path(store.filesystem(out_url)[1]).glob("shard-*.tar.*part"):
            part.unlink(missing_ok=True)


def _is_there(shard: Shard) -> bool:
    if not store.exists(shard.url) or store.size_and_tag(shard.url)[0] != shard.size_bytes:
        return False
    offset, offsets, wanted = 0, [], []
    for sample in shard.samples:
        video, text = sample.members()
        offsets += [offset, offset + space_of(video)]
        wanted += [video.header(), text.header() + sample.text]
        offset += space_of(video) + space_of(text)
    return store.read_ranges([shard.url] * len(wanted), offsets, list(map(len, wanted))) == wanted


def _check_unchanged(sample: Sample) -> None:
    """Its shard has room for the bytes that it had, and its text states the length that it had."""
    try:
        size_bytes = store.size_and_tag(sample.video_url)[0]
    except StorageError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        found = "is gone"
    else:
        if size_bytes == sample.size_bytes:
            return
        found = f"has {size_bytes} bytes now"
    raise InputError(
        f"{redact_url(sample.video_url)} had {sample.size_bytes} bytes when it was checked, and {found}; pack again "
        "when nothing changes the videos (--resume keeps the shards that are right)"
    )


@contextlib.contextmanager
def whole_file(url: str) -> Iterator[Any]:
    """A stream whose file appears under `url` at the end of the block, and never if that fails."""
    fs, path = store.filesystem(url)
    part = f"{path}.{uuid.uuid4().hex}.part"  # of this call: a task that is done twice may write twice at a time
    if store.is_local(url):
        os.makedirs(posixpath.dirname(path) or ".", exist_ok=True)  # noqa: PTH103
        stream: Any = open(part, "wb")  # noqa: SIM115
    else:  # a multipart upload becomes an object when it is closed
        stream = fs.open(path, "wb", block_size=UPLOAD_PART_BYTES)
    try:
        yield stream
        stream.close()
        if store.is_local(url):
            os.replace(part, path)  # noqa: PTH105
    except BaseException as error:
        with contextlib.suppress(OSError):
            if store.is_local(url):
                os.unlink(part)  # noqa: PTH108
                stream.close()
            else:
                stream.discard()
        if not store.is_local(url):
            stream.closed = True  # otherwise its destructor would upload the buffer
        if isinstance(error, OSError):
            raise StorageError(
                f"{url} could not be written ({error}); check the place, its quota and the network"
            ) from error
        raise
