"""The samples of one WebDataset tar: each video with its labels.

Members are grouped by WebDataset's key rule, in whatever order they come. The small ``.json`` and ``.cls`` are read. A
Sample is one video, with its first bytes if a header's request has fetched them. Everything else becomes a Refusal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from adaptfocus.pipelines.annotations.names import is_video, key_and_extension, normal_id, unsafe_reason
from adaptfocus.pipelines.annotations.rows import parse_label
from adaptfocus.pipelines.shards.members import HeaderFile, Member, Refusal, members_of
from adaptfocus.pipelines.store import strict_json

MAX_TEXT_BYTES = 16 << 20  # size of a sample's .json
# Labels that come before their video are kept, at most this many bytes in a shard. Each counts as at least one KiB.
MAX_WAITING_BYTES = 64 << 20
TEXT_BYTES = 1024
SORT = "write the tar in the order of its names (tar --sort=name)"
LABEL_EXTENSIONS = ("json", "cls")


class BadTextError(ValueError):
    """A .json or .cls that cannot be used."""


@dataclass
class Sample:
    """The members of one key."""

    key: str
    members: dict[str, Member] = field(default_factory=dict)  # lower-case extension -> member
    texts: dict[str, Any] = field(default_factory=dict)  # extension -> content of a .json or .cls, or a BadTextError
    waiting_bytes: int = 0  # size of texts that came before the video

    @property
    def video(self) -> Member | None:
        """The first member with a video's extension."""
        return next((m for ext, m in self.members.items() if is_video(ext)), None)

    @property
    def video_id(self) -> str:
        """The key in its normal form: two Unicode forms of a name are one id."""
        return normal_id(self.key)

    def text(self, kind: str) -> Any:
        """The content of the video's .json or .cls; None if it has none.

        Raises:
            BadTextError: it cannot be used, or there are two different ones.
        """
        found = [self.texts[extension] for extension in self._extensions(kind) if extension in self.texts]
        for value in found:
            if isinstance(value, BadTextError):
                raise value
            if value != found[0]:
                raise BadTextError(f"it has two different .{kind} files: {', '.join(self._extensions(kind))}; keep one")
        return found[0] if found else None

    def _extensions(self, kind: str) -> list[str]:
        """Extensions of label files: a.mp4 has a.json or a.mp4.json, and v1.2.mp4 may have v1.2.json too."""
        video = next(filter(is_video, self.members), "")
        stem = video.rpartition(".")[0]
        return list(dict.fromkeys([f"{stem}.{kind}" if stem else kind, f"{video}.{kind}", kind]))


def read_samples(url: str, size_bytes: int) -> tuple[list[Sample], list[Refusal]]:
    """The samples of a tar, in its order, and what is left out.

    Raises:
        StorageError: the tar cannot be fetched.
    """
    if size_bytes == 0:
        return [], [Refusal("empty_shard", "the file is empty (0 bytes); write it again or leave it out")]
    file = HeaderFile(url, size_bytes)
    grouped = _Grouped(file)
    refusals: list[Refusal] = []
    for found in members_of(file):
        refusal = found if isinstance(found, Refusal) else grouped.add(found)
        if refusal:
            refusals.append(refusal)
    refusals += grouped.without_video()
    if not grouped.samples and not refusals:
        refusals.append(Refusal("empty_shard", "this tar holds no file; write it again or leave it out"))
    return [sample for sample in grouped.samples if sample.video], refusals


class _Grouped:
    """Groups members into samples: first with neighbours, then with members of the same key anywhere in the tar."""

    def __init__(self, file: HeaderFile) -> None:
        self.file = file
        self.samples: list[Sample] = []
        self._last: dict[str, Sample] = {}  # id -> its last sample
        self._waiting_bytes = 0

    def add(self, member: Member) -> Refusal | None:
        """Put a member into its sample -> None, or a Refusal if it cannot be used."""
        name = member.name.removeprefix("./")
        key, extension = key_and_extension(name)
        if key is None or unsafe_reason(normal_id(key)):
            return Refusal("no_key", "WebDataset finds no key in this name; name it KEY.EXTENSION", name)
        sample = self._sample_of(key, extension)
        if extension in sample.members:
            message = f"its sample already has a {extension!r}; the first stays"
            return Refusal("duplicate_member", message, name, sample.video_id)
        if is_video(extension) and sample.video:
            message = f"a sample has one video, here {sample.video.name}; give this one its own key"
            return Refusal("several_videos", message, name, sample.video_id)
        if is_video(extension):
            member = replace(member, head=self.file.head_of(member))
        sample.members[extension] = member
        if self._is_label(sample, extension):
            sample.texts[extension] = self._text(sample, extension, member)
        elif is_video(extension):
            self._waiting_bytes -= sample.waiting_bytes
            for each in LABEL_EXTENSIONS:  # a v1.2.json that came before its v1.2.mp4
                early = f"{extension.rpartition('.')[0]}.{each}"
                if early in sample.members and early not in sample.texts:
                    sample.texts[early] = self._text(sample, early, sample.members[early])
        return None

    def _sample_of(self, key: str, extension: str) -> Sample:
        """The sample of a key: the neighbour, else the last one, unless that already has another video."""
        sample = self._last.get(normal_id(key))
        is_neighbour = bool(self.samples) and sample is self.samples[-1]
        if sample is None or (not is_neighbour and is_video(extension) and sample.video):
            sample = self._last[normal_id(key)] = Sample(key)
            self.samples.append(sample)
        return sample

    def _is_label(self, sample: Sample, extension: str) -> bool:
        """Whether a member may be the video's labels: a.json, a.mp4.json; v1.2.json if v1.2.mp4 exists."""
        stem, _, kind = extension.rpartition(".")
        if kind not in LABEL_EXTENSIONS:
            return False
        return not stem or is_video(stem) or any(is_video(e) and e.rpartition(".")[0] == stem for e in sample.members)

    def _text(self, sample: Sample, extension: str, member: Member) -> Any:
        """Read a .json or .cls. It is usually next to the header, in a block that has been fetched."""
        if member.size_bytes > MAX_TEXT_BYTES:
            return BadTextError(f"its .{extension} has {member.size_bytes} bytes; the limit is {MAX_TEXT_BYTES}")
        if not sample.video:
            if self._waiting_bytes + _cost(member) > MAX_WAITING_BYTES:
                limit = f"{MAX_WAITING_BYTES >> 20} MiB of labels wait for videos that come later in the tar"
                return BadTextError(f"its .{extension} was not read: {limit}; {SORT}")
            self._waiting_bytes += _cost(member)
            sample.waiting_bytes += _cost(member)
        read = _class_of if extension.endswith("cls") else _annotation_of
        try:
            return read(self.file.read_at(member.offset_bytes, member.size_bytes))
        except ValueError as error:
            return BadTextError(f"its .{extension} {error}")

    def without_video(self) -> Iterator[Refusal]:
        """Refusals of samples without a video."""
        for sample in self.samples:
            if not sample.video:
                extensions = ", ".join(sample.members)[:200]
                message = f"its members are {extensions}; none is a video. Give a video and its labels the same name"
                yield Refusal("no_video_in_sample", f"{message} in one tar", video_id=sample.video_id)


def _cost(member: Member) -> int:
    return max(member.size_bytes, TEXT_BYTES)


def _annotation_of(data: bytes) -> dict[str, Any]:
    """Labels and intervals from a sample's .json. Raises ValueError."""
    try:
        value = strict_json.loads(data)
    except ValueError as error:
        raise ValueError(f"does not parse: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"holds {value!r:.80}, not an object")
    return {name: value[name] for name in ("labels", "intervals") if name in value}


def _class_of(data: bytes) -> list[Any]:
    """The content of a .cls: class numbers or names, one a line. Raises ValueError."""
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"is neither a class number nor a class name in UTF-8 ({error.reason})") from None
    if text[:1] in ("[", '"', "{"):
        value = strict_json.loads(text)
        value = value if isinstance(value, list) else [value]
    elif re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        value = [int(text)]
    elif re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", text, re.ASCII | re.IGNORECASE):
        raise ValueError(f"holds {text:.80}, not a class number or a class name")
    else:
        value = [parse_label(line) for line in text.splitlines() if line.strip()]
    if not all(isinstance(each, str) or (isinstance(each, int) and not isinstance(each, bool)) for each in value):
        raise ValueError(f"holds {text!r:.80}, not a class number or a class name")
    return value
