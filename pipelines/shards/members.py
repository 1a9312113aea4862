"""The members of a tar, from its headers alone.

Input: a tar's URL and size.
Does: walks the headers through ranged reads (the media in between is skipped, not read), through all the tars of a file
that several were joined to; skips what archivers put beside the files.
Output: Member rows, and a Refusal for everything that cannot be used.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.names import unsafe_reason
from adaptfocus.pipelines.errors import AdaptFocusError, as_bad_video
from adaptfocus.pipelines.store.range_file import RangeFile
from adaptfocus.pipelines.store.wrong_files import HEAD_BYTES, describe_wrong_file

# A header is 512 bytes and the .json beside it is about as small; a video's first 60 KB hold the headers of a short
# one. Larger requests would mostly fetch media.
HEADER_BLOCK_BYTES = 64 * 1024
MAX_HEADS_BYTES = 64 << 20  # first bytes kept for the videos of one shard; the videos behind cost a request more
MAX_HEADER_BYTES = 1 << 20  # of one extended header; tarfile would read one of any size into memory
# Zeros behind a tar's end: archivers fill up to a record, of 10 KiB as a rule and of some MiB at most.
MAX_PADDING_BYTES = 16 << 20
PADDING_READ_BYTES = 1 << 20
BLOCK_BYTES = 512
RENAME = "rename the file and write the tar again, with names in UTF-8 (`convmv` renames whole folders)"

_OTHER_FORMATS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstandard",
                  b"\x1f\x9d": "compress", b"PK\x03\x04": "zip", b"7z\xbc\xaf": "7z"}  # fmt: skip
# What macOS, Windows and archivers put beside files: resource forks, folder views, headers that an extractor which did
# not know them has left as files. Also WebDataset's own metadata.
_COMPANION = re.compile(
    r"^__[^/]*__(/|$)|(^|/)(\._[^/]*$|__MACOSX(/|$)|PaxHeaders?(\.\d+)?(/|$)|pax_global_header$"
    r"|(\.DS_Store|Thumbs\.db|desktop\.ini)$)"
)


@dataclass(frozen=True)
class Member:
    """A file in the tar; the offset is that of its first byte of content."""

    name: str
    offset_bytes: int
    size_bytes: int
    head: bytes = field(default=b"", repr=False, compare=False)  # a video's first bytes, as many as are at hand


@dataclass(frozen=True)
class Refusal:
    """A member or a whole tar that is left out."""

    kind: str
    message: str
    member_name: str = ""
    video_id: str = ""


class HeaderFile(RangeFile):
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
            self._window = store.read_ranges([self.url], [offset_bytes], [wanted])[0]
            self._window_at, inside = offset_bytes, 0
        return self._window[inside : inside + size_bytes] if size_bytes > 0 else b""

    def head_of(self, member: Member) -> bytes:
        """The member's first bytes, as far as they are there and may be kept."""
        inside = member.offset_bytes - self._window_at
        size = min(member.size_bytes, self.heads_left_bytes)
        head = self._window[inside : inside + size] if inside >= 0 else b""
        self.heads_left_bytes -= len(head)
        return head


def is_companion(name: str) -> bool:
    """Whether a member is something that an archiver put beside the files, and nobody's video or label."""
    return _COMPANION.search(name) is not None


def printable(text: str) -> str:
    """Text that can be stored and shown: bytes that are not UTF-8, and halves of surrogate pairs, as escapes."""
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = text.encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")


def members_of(file: HeaderFile) -> Iterator[Member | Refusal]:
    """Regular files with safe names; every other member, and a broken end, as a Refusal.

    Raises:
        StorageError: the tar cannot be fetched.
    """
    head = file.read(min(8, file.size_bytes))
    for magic, name in _OTHER_FORMATS.items():
        if head.startswith(magic):
            fix = "decompress it to a plain tar: a range cannot be read from a compressed one"
            yield Refusal("compressed_tar", f"it is compressed ({name}); {fix}")
            return
    at: int | None = 0
    while at is not None:
        at = yield from _members_from(file, at)


def _members_from(file: HeaderFile, start: int) -> Generator[Member | Refusal, None, int | None]:
    """The members of the tar that begins at a byte; returns where another begins behind its end, or None."""
    file.seek(start)
    tar: tarfile.TarFile | None = None
    at = start
    while True:
        try:
            # Opening reads the first header. Names that are not UTF-8 keep their bytes, whatever this machine's locale.
            tar = tar or tarfile.TarFile(None, "r", cast(Any, file), encoding="utf-8", errors="surrogateescape")
            info = tar.next()
        except AdaptFocusError:
            raise
        except Exception as error:  # tarfile raises whatever a strange header leads it into
            yield _broken(file, error, start, tar.offset if tar else start)
            return None
        if info is None:
            break
        if tar.offset <= info.offset:  # a negative size: older Pythons would walk in circles
            yield Refusal("broken_tar", f"the header at byte {info.offset} leads backwards; the rest is not indexed")
            return None
        cast(Any, tar).members.clear()  # a million members would stay in memory
        at = tar.offset
        if not info.isdir() and not is_companion(info.name.removeprefix("./")):
            yield _checked(info, file.size_bytes)
            if info.offset_data + info.size > file.size_bytes:
                return None
    return (yield from _behind(file, max(at, tar.offset), start))


def _behind(file: HeaderFile, first: int, start: int) -> Generator[Refusal, None, int | None]:
    """What follows a tar's last member: zeros to the end of the file, or, behind some of them, another tar."""
    at = first
    while at < file.size_bytes and at - first <= MAX_PADDING_BYTES:
        chunk = file.read_at(at, min(HEADER_BLOCK_BYTES if at == first else PADDING_READ_BYTES, file.size_bytes - at))
        zeros = len(chunk) - len(chunk.lstrip(b"\0"))
        at += zeros if zeros == len(chunk) else zeros // BLOCK_BYTES * BLOCK_BYTES
        if zeros < len(chunk):
            if first < at > start and _is_header(file.read_at(at, min(BLOCK_BYTES, file.size_bytes - at))):
                return at
            yield Refusal("broken_tar", f"there is no header at byte {at}; what follows is not indexed")
            return None
    if at < file.size_bytes:
        message = f"behind its end at byte {first} are {at - first} zeros and {file.size_bytes - at} bytes more"
        yield Refusal("broken_tar", f"{message}, which were not read; cut the file there")
    return None


def _is_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except Exception:
        return False
    return True


def _broken(file: HeaderFile, error: Exception, start: int, at: int) -> Refusal:
    text = str(as_bad_video(error)) if isinstance(error, MemoryError) else f"{error}" or type(error).__name__
    if isinstance(error, tarfile.TarError) and start == at == 0:
        file.seek(0)
        if instead := describe_wrong_file(file.read(min(HEAD_BYTES, file.size_bytes))):
            return Refusal("not_a_tar", f"it {instead}")
        return Refusal("not_a_tar", f"it is not a tar ({text}); write it with `adaptfocus pack` or WebDataset")
    return Refusal("broken_tar", f"it breaks at byte {at} ({printable(text):.300}); what follows is not indexed")


def _checked(info: tarfile.TarInfo, tar_size_bytes: int) -> Member | Refusal:
    name = info.name.removeprefix("./")
    shown = printable(name)
    if _is_bytes(name):
        return Refusal("name_not_utf8", f"its name is not UTF-8{_guess(name)}; {RENAME}", shown)
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


def _is_bytes(name: str) -> bool:
    """Whether a name has bytes in it that are not UTF-8, as tarfile hands them on."""
    return any("\udc80" <= c <= "\udcff" for c in name)


def _guess(name: str) -> str:
    """What the name may be in the encodings that are usual beside UTF-8."""
    data = name.encode("utf-8", "surrogateescape")
    for encoding, known_as in (("shift_jis", "Shift-JIS"), ("gb18030", "GB 18030"), ("latin-1", "Latin-1")):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if text.isprintable():
            return f" (read as {known_as} it would be {text!r:.100})"
    return ""
