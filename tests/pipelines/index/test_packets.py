"""Packets lie apart from the rows: a reader of rows fetches none, and a reader of packets only those it asks for."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.load import load_index, read_rows
from adaptfocus.pipelines.index.packets import packets_urls, read_packets, with_packets
from adaptfocus.pipelines.inspection.packet_table import read_packet_table
from adaptfocus.pipelines.video.packets import Packets, encode_packets
from tests.footage import encode, write_tar
from tests.pipelines.index.tar_samples import index, ranges_asked

SIZES = (5, 40, 12, 90)  # frames of each video


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[bytes]]:
    """An index of two tars, and the packets of each video as its file has them."""
    import io

    folder, expected = tmp_path_factory.mktemp("packets"), []
    videos = [encode(frames) for frames in SIZES]
    for number in range(2):
        members = {f"v{n}.mp4": videos[n] for n in (2 * number, 2 * number + 1)}
        write_tar(folder / f"{number}.tar", members)
    index(folder, out=folder / "index")
    for video in videos:
        table = read_packet_table(io.BytesIO(video), len(video), b"")  # type: ignore[arg-type]
        expected.append(
            encode_packets(Packets(table.offset_bytes, table.size_bytes, table.pts, table.dts, table.is_key))
        )
    return str(folder / "index"), expected


def test_each_video_gets_its_own_packets_whichever_rows_are_asked_for(made: tuple[str, list[bytes]]) -> None:
    url, expected = made
    table = load_index(url).table
    assert "packets" not in table.column_names
    assert read_packets(table) == expected
    assert read_packets(table.take([3, 0, 2])) == [expected[3], expected[0], expected[2]]
    assert with_packets(table.slice(1, 2)).column("packets").to_pylist() == expected[1:3]
    rows = read_rows(url, 1, 4, load_index(url).fingerprint)
    assert rows.column("packets").to_pylist() == expected[1:]
    assert rows.column("video_row").to_pylist() == [1, 2, 3]
    assert read_packets(table.slice(0, 0)) == []


def test_only_what_is_asked_for_is_fetched(made: tuple[str, list[bytes]]) -> None:
    url, expected = made
    table = load_index(url).table
    with ranges_asked() as asked:
        read_packets(table.slice(1, 1))
    assert [size for _, _, size in asked] == [len(expected[1])]
    with ranges_asked() as asked:
        read_packets(table)
    assert len(asked) == 2, "packets one behind the other are one request"


def test_damaged_packets_are_an_error_that_names_the_object_and_the_fix(
    made: tuple[str, list[bytes]], tmp_path: Path
) -> None:
    table = load_index(made[0]).table
    other = table.set_column(
        table.schema.get_field_index("packets_offset_bytes"), "packets_offset_bytes", pa.array([0, 0, 0, 0])
    )
    with pytest.raises(InputError, match=r"\.bin is damaged \(a video has 40 packets, and 5 are there\).*index. again"):
        read_packets(other)
    for name in ("../../secrets.bin", "/etc/passwd", "a.bin", ""):
        with pytest.raises(InputError, match="is damaged: a row has its packets in"):
            packets_urls(pa.chunked_array([[name]], pa.string()), str(tmp_path))
