"""The samples of one WebDataset tar, from its headers alone.

Input: a tar's URL and size.
Does: walks the headers through ranged reads (the media in between is skipped, not read), groups members by
WebDataset's key rule, reads the small ``.json`` and ``.cls`` beside each video.
Output: Sample rows (one video each, with its first bytes where a header's request has brought them) and (kind, member,
key, message) rows for everything that is not one.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

from pipelines import storage
from pipelines.datasets.annotations import unsafe_reason
from pipelines.range_file import RangeFile

VIDEO_EXTENSIONS = frozenset(
    ["mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "mts", "m2ts", "mpg", "mpeg", "flv", "wmv", "3gp", "ogv"]
)
# A header is 512 bytes and the .json beside it is about as small; a video's first 60 KB hold the headers of a short
# one. Larger requests would mostly fetch media.
HEADER_BLOCK_BYTES = 64 * 1024
MAX_HEADS_BYTES = 64 << 20  # first bytes kept for the videos of one shard; the videos behind cost a request more
MAX_HEADER_BYTES = 1 << 20  # of one extended header; tarfile would read one of any size into memory
MAX_TEXT_BYTES = 16 << 20  # of a sample's .json

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstandard"}


@dataclass(frozen=True)
class Member:
    """A file in the tar; the offset is that of its first byte of content."""

    name: str
    offset_bytes: int
    size_bytes: int
    head: bytes = field(default=b"", repr=False, compare=False)  # a video's first bytes, as many as are at hand


@dataclass
class Sample:
    """Consecutive members of one key."""

    key: str
    members: dict[str, Member] = field(default_factory=dict)  # by lower-case extension
    annotation: dict[str, Any] | None = None  # of the .json
    class_number: int | None = None  # of the .cls
    bad_text: str | None = None  # why .json or .cls cannot be used

    @property
    def video(self) -> Member | None:
        """The first member with a video's extension."""
        return next((m for ext, m in self.members.items() if is_video(ext)), None)


@dataclass(frozen=True)
class Refusal:
    """A member or a whole tar that is left out."""

    kind: str
    message: str
    member_name: str = ""
    video_id: str = ""


class _HeaderFile(RangeFile):
    """A tar's headers: each request begins where a header does, so that it brings the start of what follows it.

    Refuses long reads: walking headers needs none, a hostile header asks for them.
    """

    def __init__(self, url: str, size_bytes: int) -> None:
        super().__init__(url, 0, size_bytes)
        self.heads_left_bytes = MAX_HEADS_BYTES
        self._window_at, self._window = 0, b""

    def read(self, size: int = -1) -> bytes:
        if size > MAX_HEADER_BYTES or size < 0:
            raise tarfile.ReadError(f"a header of {size} bytes; the limit is {MAX_HEADER_BYTES}")
        data = self.read_at(self.tell(), min(size, max(0, self.size_bytes - self.tell())))
        self.seek(len(data), io.SEEK_CUR)
        return data

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Bytes of the tar; if they are not there yet, with what follows them up to HEADER_BLOCK_BYTES."""
        inside = offset_bytes - self._window_at
        if size_bytes > 0 and not (inside >= 0 and inside + size_bytes <= len(self._window)):
            wanted = min(max(size_bytes, HEADER_BLOCK_BYTES), self.size_bytes - offset_bytes)
            self.requests += 1
            self._window = storage.read_ranges([self.url], [offset_bytes], [wanted])[0]
            self._window_at, inside = offset_bytes, 0
        return self._window[inside : inside + size_bytes] if size_bytes > 0 else b""

    def head_of(self, member: Member) -> bytes:
        """The member's first bytes, as far as they are there and may be kept."""
        inside = member.offset_bytes - self._window_at
        size = min(member.size_bytes, self.heads_left_bytes)
        head = self._window[inside : inside + size] if inside >= 0 else b""
        self.heads_left_bytes -= len(head)
        return head


def key_and_extension(name: str) -> tuple[str | None, str]:
    """WebDataset's key rule: the base name up to its first dot, and what follows.

    The same as ``webdataset.tariterators.base_plus_ext`` (a test compares them); importing that brings in torch, 2 s
    for each indexing process.
    """
    match = re.match(r"^((?:.*/|)[^.]+)[.]([^/]*)$", name)
    return (match[1], match[2].lower()) if match else (None, "")


def is_video(extension: str) -> bool:
    """Whether a sample's extension (``mp4``, or ``left.mp4``) is that of a video."""
    return extension.rsplit(".", 1)[-1] in VIDEO_EXTENSIONS


def read_samples(url: str, size_bytes: int) -> tuple[list[Sample], list[Refusal]]:
    """The samples of a tar, in its order, and what is left out.

    Raises:
        StorageError: the tar cannot be fetched.
    """
    if size_bytes == 0:
        return [], [Refusal("empty_shard", "the file is empty (0 bytes); write it again or leave it out")]
    file = _HeaderFile(url, size_bytes)
    head = file.read(min(8, size_bytes))
    for magic, name in _COMPRESSED.items():
        if head.startswith(magic):
            mend = "decompress it: a range cannot be read from a compressed tar"
            return [], [Refusal("compressed_tar", f"it is compressed ({name}); {mend}")]
    file.seek(0)
    samples: list[Sample] = []
    refusals: list[Refusal] = []
    for found in _members(file):
        if isinstance(found, Refusal):
            refusals.append(found)
            continue
        refusal = _add(samples, found, file)
        if refusal:
            refusals.append(refusal)
    kept = [sample for sample in samples if sample.video]
    refusals += [
        Refusal("no_video_in_sample", f"its members are {', '.join(s.members)[:200]}; none is a video", video_id=s.key)
        for s in samples
        if not s.video
    ]
    if not samples and not refusals:
        refusals.append(Refusal("empty_shard", "there is no file in this tar; write it again or leave it out"))
    return kept, refusals


def _members(file: RangeFile) -> Iterator[Member | Refusal]:
    """Regular files with safe names; every other member, and a broken end, as a Refusal."""
    try:
        tar = tarfile.open(fileobj=cast(Any, file), mode="r:")  # noqa: SIM115 - there is nothing to close
    except tarfile.TarError as error:
        yield Refusal("not_a_tar", f"it is not a tar ({error}); write it with `adaptfocus pack` or WebDataset")
        return
    while True:
        try:
            info = tar.next()
        except (tarfile.TarError, ValueError, OverflowError) as error:
            yield Refusal("broken_tar", f"it breaks at byte {tar.offset} ({error}); what follows is not indexed")
            return
        if info is None:
            break
        if tar.offset <= info.offset:  # a negative size: older Pythons would walk in circles
            yield Refusal("broken_tar", f"the header at byte {info.offset} leads backwards; the rest is not indexed")
            return
        cast(Any, tar).members.clear()  # a million members would stay in memory
        if info.isdir():
            continue
        yield _checked(info, file.size_bytes)
        if info.offset_data + info.size > file.size_bytes:
            return
    file.seek(tar.offset)
    if tar.offset < file.size_bytes and any(file.read(min(512, file.size_bytes - tar.offset))):
        # Python takes a damaged header after the first for the end of the tar.
        yield Refusal("broken_tar", f"there is no header at byte {tar.offset}; what follows is not indexed")


def _checked(info: tarfile.TarInfo, tar_size_bytes: int) -> Member | Refusal:
    name = info.name.removeprefix("./")
    shown = name.encode("utf-8", "backslashreplace").decode()
    reason = unsafe_reason(name)
    if reason is None and not (info.isreg() or info.issparse()):
        reason = "it is a link" if info.issym() or info.islnk() else "it is not a regular file"
    if reason:
        return Refusal("unsafe_name", f"the member was left out: {reason}", shown)
    if info.issparse():
        return Refusal("sparse_member", "it is stored sparse, so no range of it can be read; pack it plainly", shown)
    if info.offset_data + info.size > tar_size_bytes:
        missing = info.offset_data + info.size - tar_size_bytes
        return Refusal("truncated_member", f"the tar ends {missing} bytes before it does; copy the tar again", shown)
    return Member(info.name, info.offset_data, info.size)


def _add(samples: list[Sample], member: Member, file: _HeaderFile) -> Refusal | None:
    """Put a member into its sample: the last one if the key is the same, else a new one."""
    name = member.name.removeprefix("./")
    if re.match(r"__[^/]*__($|/)", name):
        return None  # WebDataset's own metadata
    key, extension = key_and_extension(name)
    if key is None:
        return Refusal("no_key", "WebDataset makes no key of this name; name it KEY.EXTENSION", name)
    if not samples or samples[-1].key != key:
        samples.append(Sample(key))
    sample = samples[-1]
    if extension in sample.members:
        return Refusal("duplicate_member", f"its sample has a {extension!r} already; the first stays", name, key)
    if is_video(extension) and sample.video:
        message = f"a sample has one video, here {sample.video.name}; give this one its own key"
        return Refusal("several_videos", message, name, key)
    sample.members[extension] = replace(member, head=file.head_of(member)) if is_video(extension) else member
    if extension in ("json", "cls"):
        _read_text(sample, extension, member, file)
    return None


def _read_text(sample: Sample, extension: str, member: Member, file: _HeaderFile) -> None:
    """Read a .json or .cls at once: it lies beside the header, in a block that has been fetched."""
    if member.size_bytes > MAX_TEXT_BYTES:
        sample.bad_text = f"its .{extension} takes {member.size_bytes} bytes; the limit is {MAX_TEXT_BYTES}"
        return
    data = file.read_at(member.offset_bytes, member.size_bytes)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        sample.bad_text = f"its .{extension} does not parse: {error}"
        return
    if extension == "cls" and isinstance(value, int) and not isinstance(value, bool):
        sample.class_number = value
    elif extension == "json" and isinstance(value, dict):
        sample.annotation = value
    else:
        wanted = "a class number" if extension == "cls" else "an object"
        sample.bad_text = f"its .{extension} holds {value!r:.80}, not {wanted}"
