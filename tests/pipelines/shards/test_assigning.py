"""Which samples go into which tar is worked out without writing, as a writer of tars would find it."""

from __future__ import annotations

import io
import tarfile

from hypothesis import given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines.shards.assigning import Sample, assign, space_of

KEYS = st.one_of(
    st.text("abü/é_語", min_size=1, max_size=6),
    st.builds(lambda letter, times, end: letter * times + end, st.sampled_from(["x", "ü", "d/"]),
              st.integers(40, 300), st.text("ab", min_size=1, max_size=2)),
)  # fmt: skip
SAMPLES = st.lists(
    st.builds(
        Sample,
        key=KEYS,
        extension=st.sampled_from(["mp4", "m2ts"]),
        video_url=st.just("v"),
        size_bytes=st.one_of(st.integers(0, 3000), st.sampled_from([511, 512, 513, 10240])),
        text=st.binary(max_size=1200),
    ),
    max_size=8,
)


def as_written(samples: list[Sample], shard_size_bytes: int) -> list[bytes]:
    """The tars of a writer that looks at its own position before each sample, with zeros as videos."""
    done: list[bytes] = []
    tar, out = None, io.BytesIO()
    for sample in samples:
        if tar and tar.offset and tar.offset + sample.size_bytes + len(sample.text) > shard_size_bytes:
            tar.close()
            done.append(out.getvalue())
            tar = None
        if tar is None:
            out = io.BytesIO()
            tar = tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        for name, data in (
            (f"{sample.key}.{sample.extension}", bytes(sample.size_bytes)),
            (f"{sample.key}.json", sample.text),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    if tar:
        tar.close()
        done.append(out.getvalue())
    return done


@settings(max_examples=150, deadline=None)
@given(samples=SAMPLES, shard_size_bytes=st.integers(1, 12_000))
def test_shards_and_places_are_those_of_a_writer_of_tars(samples: list[Sample], shard_size_bytes: int) -> None:
    tars, shards = as_written(samples, shard_size_bytes), assign(samples, "out", shard_size_bytes)
    assert [shard.size_bytes for shard in shards] == [len(tar) for tar in tars]
    assert [sample for shard in shards for sample in shard.samples] == samples
    for number, (shard, data) in enumerate(zip(shards, tars, strict=True)):
        assert shard.url == f"out/shard-{number:06d}.tar"
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            written = [(info.name, info.size, info.offset_data) for info in tar]
        members = [member for sample in shard.samples for member in sample.members()]
        offset, found = 0, []
        for member in members:
            found.append((member.name, member.size_bytes, offset + len(member.header())))
            offset += space_of(member)
        assert found == written


def test_a_video_of_more_than_8_gib_takes_a_longer_header() -> None:
    """Its size does not fit into the header's octal digits. (Too large to be written here.)"""
    video = Sample("a", "mp4", "v", 9 << 30, b"{}")
    info = tarfile.TarInfo("a.mp4")
    info.size = 9 << 30
    assert len(info.tobuf(tarfile.PAX_FORMAT)) == 3 * 512
    (shard,) = assign([video], "out", 1)
    assert shard.size_bytes == -(-(3 * 512 + (9 << 30) + 512 + 512 + 1024) // 10240) * 10240
