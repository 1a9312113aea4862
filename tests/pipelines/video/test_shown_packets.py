"""MPEG-4 in AVI: each frame comes at its time, although AVI has no times and several pictures may share a chunk."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest

from adaptfocus.pipelines.decode import member as member_decoders
from adaptfocus.pipelines.decode.bag import to_square_rgb
from adaptfocus.pipelines.decode.member import seek_frames
from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.video.spans import packets_of
from tests.moving import indexed, moving, sequential
from tests.pipelines.decode.test_frames import bag_at, decoded

RATE_HZ, SIZE = 25, 32
INCREMENT_BITS = 5  # of a time of 25 steps a second
PICTURE, PACKED = b"\0\0\1\xb6", b"\0\0\1\xb2DivX503b1393p"
CLOSED: dict[str, Any] = {"flags": "cgop", "sc_threshold": "1000000000"}


class Chunk(NamedTuple):
    data: bytes
    is_key: bool


def encoded(folder: Path, num_frames: int = 70, name: str = "v", **options: Any) -> Path:
    """An mp4, which has true times."""
    return moving(folder / f"{name}.mp4", codec="mpeg4", options=options, num_frames=num_frames)


def groups_of(path: Path) -> list[list[Chunk]]:
    """The pictures of a file in decoding order: one that others refer to, and those that are shown before it."""
    groups: list[list[Chunk]] = []
    with av.open(str(path)) as file:
        for packet in file.demux(video=0):
            if packet.size:
                is_between = bytes(packet)[bytes(packet).index(PICTURE) + 4] >> 6 == 2
                groups += [] if is_between else [[]]
                groups[-1].append(Chunk(bytes(packet), packet.is_keyframe))
    return groups


def no_picture(reference: bytes) -> bytes:
    """A picture that is not coded, at the time of another: its header up to the flag, and stuffing."""
    at = reference.index(PICTURE) + 4
    bits = "".join(f"{byte:08b}" for byte in reference[at : at + 8])
    header = bits[: bits.index("0", 2) + 1 + 1 + INCREMENT_BITS + 1] + "00"
    header += "1" * (-len(header) % 8)
    return PICTURE + int(header, 2).to_bytes(len(header) // 8, "big")


def packed(groups: Sequence[Sequence[Chunk]], keys_of_debts: bool = True) -> list[Chunk]:
    """As DivX and Xvid write it: the first two pictures of a group in one chunk, a chunk without one at its end.

    Args:
        keys_of_debts: Xvid calls these keyframes, where the group begins with one.
    """
    chunks: list[Chunk] = []
    for reference, *between in groups:
        if between:
            chunks += [Chunk(reference.data + between[0].data, reference.is_key), *between[1:]]
            chunks.append(Chunk(no_picture(reference.data), reference.is_key and keys_of_debts))
        else:
            chunks.append(reference)
    return chunks


def written(path: Path, template: Path, chunks: Sequence[Chunk], says_in_header: bool = True) -> Path:
    """An AVI of these chunks that says that they are packed: in its header, or in those of its keyframes."""
    with av.open(str(template)) as source, av.open(str(path), "w") as out:
        stream: Any = out.add_stream_from_template(source.streams.video[0])
        stream.codec_context.extradata += PACKED if says_in_header else b""
        stream.time_base = Fraction(1, RATE_HZ)
        for number, chunk in enumerate(chunks):
            at = chunk.data.index(PICTURE)
            packet = av.Packet(chunk.data[:at] + (b"" if says_in_header or not at else PACKED) + chunk.data[at:])
            packet.pts = packet.dts = number
            packet.time_base, packet.stream, packet.is_keyframe = stream.time_base, stream, chunk.is_key
            out.mux(packet)
    return path


def wrong_frames(path: Path, right: Sequence[av.VideoFrame], decode: DecodeConfig | None = None) -> list[float]:
    """Seconds at which clips, asked for in a drawn order, show another frame than the one of that number."""
    video = indexed(path)
    assert video["duration_seconds"] == pytest.approx(len(right) / RATE_HZ)
    pictures = [to_square_rgb(frame, SIZE, 0) for frame in right]
    starts = [0, len(right) - 2, *np.random.default_rng(0).permutation(len(right) - 2)[:24].tolist()]
    wrong = []
    for first in starts:
        seconds = [(number + 0.5) / RATE_HZ for number in (first, first + 1)]
        made = decoded(bag_at(video, seconds), decode or DecodeConfig(), SIZE)[0]
        wrong += [s for n, s in enumerate(seconds) if not np.array_equal(made[n], pictures[first + n])]
    return wrong


GOPS: dict[str, dict[str, Any]] = {
    "groups of 12 that are open": {"g": "12", "bf": "2"},
    "one B, groups of 10": {"g": "10", "bf": "1"},
    "closed groups": {"g": "15", "bf": "3"} | CLOSED,
    "one keyframe": {"g": "600", "bf": "4"},
}


@pytest.mark.parametrize("name", GOPS)
def test_packed_pictures_are_shown_in_order_at_even_times(tmp_path: Path, name: str) -> None:
    """Sets of short clips such as UCF101 consist of such files. The same pictures in an mp4 have true times."""
    path = encoded(tmp_path, **GOPS[name])
    chunks = packed(groups_of(path))
    assert len(chunks) == 70, "a chunk for each picture"
    frames = sequential(path)
    right = [frames[pts] for pts in sorted(frames)]
    for says_in_header in (True, False):
        assert not wrong_frames(written(tmp_path / "v.avi", path, chunks, says_in_header), right)


def test_a_picture_that_is_repeated_lasts_longer(tmp_path: Path) -> None:
    """Recorders write a chunk without a picture where nothing has changed."""
    path = encoded(tmp_path, 40, g="12", bf="2")
    groups = groups_of(path)
    chunks = [chunk for group in groups for chunk in group]
    at = sum(map(len, groups[:5]))
    chunks.insert(at, Chunk(no_picture(groups[4][0].data), False))
    frames = sequential(path)
    right = [frames[pts] for pts in sorted(frames)]
    right.insert(at, right[at - 1])
    video = indexed(written(tmp_path / "v.avi", path, chunks))
    assert len(packets_of(video).pts) == 40, "what holds no picture is none"
    assert not wrong_frames(tmp_path / "v.avi", right)


def as_ffmpeg_shows(path: Path, num_chunks: int) -> list[av.VideoFrame]:
    """The frame on display at each tick: FFmpeg shows one when the chunk of its dts is there, the last at the end."""
    with av.open(str(path)) as container:
        shown = list(container.decode(video=0))
    times = [frame.dts or num_chunks for frame in shown]
    return [shown[np.searchsorted(times, number, side="right") - 1] for number in range(times[0], num_chunks + 1)]


def test_a_chunk_that_was_lost_shifts_no_frame(tmp_path: Path) -> None:
    """Without the chunk that balances a packed picture, all comes one chunk late, up to a keyframe with headers."""
    path = encoded(tmp_path, 60, g="15", bf="3", **CLOSED)
    chunks = packed(groups_of(path), keys_of_debts=False)
    del chunks[[number for number, chunk in enumerate(chunks) if chunk.is_key][-1] - 1]
    file = written(tmp_path / "v.avi", path, chunks)
    assert not wrong_frames(file, as_ffmpeg_shows(file, len(chunks)))
    assert indexed(file)["access"] == "demux"


def test_keyframes_that_come_late_are_reached_from_the_start(tmp_path: Path) -> None:
    """Without headers, keyframes come a chunk late too, and a decoder that begins at one does not know."""
    path = encoded(tmp_path, 60, g="15", bf="3", **CLOSED)
    chunks = packed(groups_of(path), keys_of_debts=False)
    del chunks[-1]
    chunks += packed(groups_of(encoded(tmp_path, 12, "tail", g="1")))
    chunks = [Chunk(chunk.data[chunk.data.index(PICTURE) :], chunk.is_key) for chunk in chunks]
    file = written(tmp_path / "v.avi", path, chunks)
    assert not wrong_frames(file, as_ffmpeg_shows(file, len(chunks)))
    assert indexed(file)["access"] == "sequential"


def test_a_header_that_denies_that_pictures_are_reordered(tmp_path: Path) -> None:
    """FFmpeg finds out on the way, and the first frames come at odd times."""
    chunks = [chunk for group in groups_of(encoded(tmp_path, 30, g="12", bf="2")) for chunk in group]
    template = encoded(tmp_path, 5, "in-order", g="1")
    with pytest.raises(BadVideoError, match="its header says that no picture is shown before") as caught:
        indexed(written(tmp_path / "v.avi", template, chunks))
    assert caught.value.kind == "unreliable_timestamps"


def test_a_chunk_without_a_picture_is_no_keyframe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Xvid marks it as one. A seek lands there, and then the keyframe before it is tried, not the start of the file."""
    path = encoded(tmp_path, 118, g="60", bf="2")
    file = written(tmp_path / "v.avi", path, packed(groups_of(path)))
    tried, seek = [], member_decoders.seek_before
    monkeypatch.setattr(member_decoders, "seek_before", lambda *given: tried.append(given) or seek(*given))
    with file.open("rb") as member:
        (frame,) = seek_frames([115], member)
    assert np.array_equal(frame.to_ndarray(), list(sequential(path).values())[114].to_ndarray())
    assert len(tried) == 2
