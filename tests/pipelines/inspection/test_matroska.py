"""Packets of Matroska and WebM are read from where they lie, unless the file stores them in another form."""

from __future__ import annotations

import os
from typing import Any

import pytest

from adaptfocus.pipelines.inspection.packet_table import PacketTable
from tests.footage import encode, footage_folder
from tests.pipelines.inspection.packet_tables import assert_packets_show_what_the_container_shows, decoded_pts, table_of

OPEN_GOP = "open-gop=1:keyint=10:min-keyint=10:bframes=3:b-adapt=0:scenecut=0"


@pytest.mark.parametrize(
    ("codec", "container", "options"),
    [
        ("libx264", "matroska", {"g": "12", "bf": "2"}),
        ("libx264", "matroska", {"x264-params": OPEN_GOP}),
        ("libx265", "matroska", {"x265-params": f"{OPEN_GOP}:log-level=error"}),
        ("libvpx", "webm", {"g": "15", "deadline": "realtime"}),
        ("libvpx-vp9", "webm", {"g": "15", "deadline": "realtime", "cpu-used": "8"}),
        ("libvpx-vp9", "webm", {"g": "15", "lag-in-frames": "12", "auto-alt-ref": "1", "cpu-used": "5"}),
        ("libsvtav1", "webm", {"g": "15", "preset": "12"}),
        ("libsvtav1", "matroska", {"g": "15", "preset": "12"}),
        ("mpeg4", "matroska", {"g": "12", "bf": "2"}),
    ],
)
def test_matroska_keeps_its_packets_behind_its_block_headers(codec: str, container: str, options: dict[str, str]):
    video = encode(codec=codec, container=container, rate_hz=25, size=(128, 96), options=options)
    assert os.sched_getscheduler(0) == os.SCHED_OTHER, "an encoder has no say in how tests are scheduled"
    table = table_of(video)
    assert (table.access, table.indexed_by) == ("packets", "demux")
    assert table.duration_seconds == pytest.approx(1.6, abs=0.05)
    assert_packets_show_what_the_container_shows(video, table)


def matroska(video: bytes, table: PacketTable, stripped: bytes = b"", laced: int = 1) -> bytes:
    """The packets in a Matroska file written by hand: with first bytes stored once, or several packets a block."""

    def element(kind: str, *content: bytes) -> bytes:
        payload = b"".join(content)
        return bytes.fromhex(kind) + (1 << 56 | len(payload)).to_bytes(8, "big") + payload

    def number(kind: str, value: int) -> bytes:
        return element(kind, value.to_bytes(4, "big"))

    def block(first: int) -> bytes:
        places = range(first, min(first + laced, len(table.pts)))
        ranges = [(table.offset_bytes[i], table.offset_bytes[i] + table.size_bytes[i]) for i in places]
        packets = [video[start:end] for start, end in ranges]
        assert all(packet.startswith(stripped) for packet in packets)
        sizes = b"".join(b"\xff" * (len(p) // 255) + bytes([len(p) % 255]) for p in packets[:-1])
        lace = bytes([len(packets) - 1]) + sizes if laced > 1 else b""
        flags = (0x80 if table.is_key[first] else 0) | (0x02 if laced > 1 else 0)
        data = b"".join(packet[len(stripped) :] for packet in packets)
        return element("a3", b"\x81", (100 * first).to_bytes(2, "big"), bytes([flags]), lace, data)

    stripping = element("6d80", element("6240", element("5034", number("4254", 3), element("4255", stripped))))
    track = [number("d7", 1), number("73c5", 1), number("83", 1), number("23e383", 100_000_000)]
    track += [element("86", b"V_MPEG4/ISO/ASP"), element("63a2", table.extradata)]
    track += [element("e0", number("b0", table.width), number("ba", table.height)), stripping if stripped else b""]
    blocks = [block(first) for first in range(0, len(table.pts), laced)]
    cluster = element("1f43b675", number("e7", 0), *blocks)
    info, tracks = element("1549a966", number("2ad7b1", 1_000_000)), element("1654ae6b", element("ae", *track))
    return element("1a45dfa3", element("4282", b"matroska")) + element("18538067", info, tracks, cluster)


@pytest.mark.parametrize(
    ("options", "access"),
    [({}, "packets"), ({"stripped": b"\0\0\1"}, "demux"), ({"laced": 4}, "demux")],
    ids=["plain", "stripped", "laced"],
)
def test_matroska_that_stores_packets_in_another_form_is_read_by_demuxing(options: dict[str, Any], access: str):
    source = encode(codec="mpeg4")
    table = table_of(source)
    video = matroska(source, table, **options)
    found = table_of(video)
    assert found.access == access
    assert found.size_bytes.tolist() == table.size_bytes.tolist()
    assert sorted(found.pts.tolist()) == decoded_pts(video)


@pytest.mark.footage
@pytest.mark.parametrize("name", ["signs/again.mkv", "signs/bird.mkv", "awkward/av1_video.mkv"])
def test_real_matroska_is_read_by_one_range_a_clip(name: str):
    video = (footage_folder() / name).read_bytes()
    table = table_of(video)
    assert table.access == "packets"
    assert_packets_show_what_the_container_shows(video, table)
