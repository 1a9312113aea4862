"""MPEG-4 in AVI: each frame at its time, though the container has no times and several pictures may share a chunk."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest

from pipelines.frames import DecodeConfig, to_square_rgb
from pipelines.packets import packets_of
from tests.moving import indexed, moving, sequential
from tests.pipelines.test_frames import bag_at, decoded

RATE_HZ, SIZE = 25, 32
INCREMENT_BITS = 5  # of a time of 25 steps a second
PICTURE = b"\0\0\1\xb6"
CLOSED = {"flags": "cgop", "sc_threshold": "1000000000"}


class Chunk(NamedTuple):
    data: bytes
    is_key: bool


def encoded(folder: Path, num_frames: int = 70, **options: str) -> Path:
    """An mp4, which has true times."""
    return moving(folder / "v.mp4", codec="mpeg4", options=options, num_frames=num_frames)


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
    header = "01" + bits[2 : bits.index("0", 2) + 1 + 1 + INCREMENT_BITS + 1] + "00"
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


def written(path: Path, template: Path, chunks: Sequence[Chunk], header: bytes | None = None) -> Path:
    with av.open(str(template)) as source, av.open(str(path), "w") as out:
        stream: Any = out.add_stream_from_template(source.streams.video[0])
        if header is not None:
            stream.codec_context.extradata = header
        stream.time_base = Fraction(1, RATE_HZ)
        for number, chunk in enumerate(chunks):
            packet = av.Packet(chunk.data)
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


GOPS = {
    "groups of 12 that are open": {"g": "12", "bf": "2"},
    "one B, groups of 10": {"g": "10", "bf": "1"},
    "closed groups": {"g": "15", "bf": "3"} | CLOSED,
    "one keyframe": {"g": "600", "bf": "4"},
}


@pytest.mark.parametrize("name", GOPS)
def test_packed_pictures_are_shown_in_order_at_even_times(tmp_path: Path, name: str) -> None:
    """What sets of short clips such as UCF101 consist of. The same pictures in an mp4 have true times."""
    path = encoded(tmp_path, **GOPS[name])
    chunks = packed(groups_of(path))
    assert len(chunks) == 70, "a chunk for each picture"
    frames = sequential(path)
    assert not wrong_frames(written(tmp_path / "v.avi", path, chunks), [frames[pts] for pts in sorted(frames)])


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


def test_a_keyframe_that_comes_late_is_reached_from_the_start(tmp_path: Path) -> None:
    """Without the chunk that pays for a packed picture all that follows comes a chunk late: not so behind a seek."""
    path = encoded(tmp_path, 60, g="15", bf="3", **CLOSED)
    chunks = packed(groups_of(path), keys_of_debts=False)
    key = [number for number, chunk in enumerate(chunks) if chunk.is_key][2]
    assert len(chunks[key - 1].data) < 12
    del chunks[key - 1]
    file = written(tmp_path / "v.avi", path, chunks)
    with av.open(str(file)) as container:
        right = list(container.decode(video=0))  # whatever their times are said to be
    assert indexed(file)["access"] == "sequential"
    assert not wrong_frames(file, right)
