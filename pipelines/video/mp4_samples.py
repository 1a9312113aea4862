"""The sample tables of one mp4 track as arrays.

Sizes, chunks, decoding times, composition offsets, keyframes and a simple edit list are expanded with numpy, from a
moov and the boxes of a track's `stbl`. The times are exactly those that FFmpeg's demuxer gives the packets. If the
demuxer would do more than this, NotPlainError is raised.

No count is trusted: a table is read only if its box holds that many rows, and rows are expanded only if they expand to
the number of samples, of which there are at most MAX_PACKETS.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from adaptfocus.pipelines.errors import BadVideoError
from adaptfocus.pipelines.video import table
from adaptfocus.pipelines.video.mp4_boxes import Box, NotPlainError, only, require_box

MAX_SAMPLE_BYTES = 0x3FFFFFFF  # FFmpeg's limit; after a larger sample it reads no edit list


@dataclass(frozen=True)
class Edits:
    """A track's edit list: empty edits, then one that shows the media from `media_time` on."""

    empty_ticks: int  # in the media's time base
    media_time: int
    duration_ticks: int


@dataclass(frozen=True)
class Samples:
    """Arrays are [samples], in decoding order; times in the media's time base."""

    offset_bytes: np.ndarray
    size_bytes: np.ndarray
    pts: np.ndarray
    dts: np.ndarray
    durations: np.ndarray
    is_key: np.ndarray
    all_key: bool  # there is no table of keyframes, which means that all samples are keyframes
    cut_off: int = 0  # samples after the end of the file, and all that are decoded after the first of them


def read_samples(data: bytes, stbl: list[Box], edits: Edits | None, file_bytes: int, has_rap_groups: bool) -> Samples:
    """The samples of a track in a file of `file_bytes`.

    Args:
        has_rap_groups: whether random access points of sample groups count as keyframes, as they do for HEVC.

    Raises:
        NotPlainError: the tables contradict each other or the file, or only a demuxer can apply them.
        BadVideoError: too_many_packets.
    """
    sizes = _sizes(data, stbl, file_bytes)
    offsets = _offsets(data, stbl, sizes)
    if (sizes <= 0).any() or (offsets < 0).any():
        raise NotPlainError("samples lie before the file, or are empty")
    outside = offsets + sizes > file_bytes
    whole = int(np.argmax(outside)) if outside.any() else len(sizes)
    durations = _runs(data, require_box(stbl, b"stts", 8), len(sizes))
    if (durations < 0).any() or (durations[:-1] == 0).any():
        raise NotPlainError("samples with a duration of zero or below")
    shift, composition = _composition(data, stbl, len(sizes))
    is_key, all_key = _keys(data, stbl, len(sizes), has_rap_groups)
    decoded_at = np.cumsum(durations) - durations
    shown_at = decoded_at if composition is None else decoded_at + composition
    start = 0
    if edits:
        _check_nothing_hidden(edits, shown_at, durations, is_key, composition is not None)
        start = edits.empty_ticks - max(int(shown_at.min()), 0)
    dts, pts = decoded_at - shift + start, shown_at + start
    arrays = (offsets, sizes, pts, dts, durations, is_key)
    return Samples(*(array[:whole] for array in arrays), all_key=all_key, cut_off=len(sizes) - whole)


def read_edits(data: bytes, elst: Box | None, movie_ticks_a_second: int, media_ticks_a_second: int) -> Edits | None:
    """The edit list in the media's time base; None if there is none. Raises NotPlainError if it is not simple."""
    if elst is None:
        return None
    is_long = data[elst.start : elst.start + 1] == b"\1"
    row = struct.Struct(">QqI" if is_long else ">IiI")
    count = struct.unpack_from(">I", data, elst.start + 4)[0] if elst.end - elst.start >= 8 else 0
    if not 0 < count <= 16 or elst.start + 8 + count * row.size != elst.end:  # FFmpeg then uses the box's size
        raise NotPlainError(f"an edit list of {count} edits in {elst.end - elst.start} bytes")
    rows = [row.unpack_from(data, elst.start + 8 + i * row.size) for i in range(count)]
    if any(media_time != -1 for _, media_time, _ in rows[:-1]) or rows[-1][1] < 0 or rows[-1][2] != 1 << 16:
        raise NotPlainError("an edit list that does more than shift the video")
    ticks = [_rescaled(duration, media_ticks_a_second, movie_ticks_a_second) for duration, _, _ in rows]
    if max(*ticks, rows[-1][1]) >= 1 << 60:
        raise NotPlainError("an edit list with absurd times")
    return Edits(sum(ticks[:-1]), rows[-1][1], ticks[-1])


def _rescaled(value: int, numerator: int, denominator: int) -> int:
    """Rescale and round to the nearest, with halves away from zero, as FFmpeg does."""
    return (value * numerator + denominator // 2) // denominator


def _check_nothing_hidden(
    edits: Edits, shown_at: np.ndarray, durations: np.ndarray, is_key: np.ndarray, has_composition: bool
) -> None:
    """Raises NotPlainError if FFmpeg would hide or leave out a sample for this edit list."""
    end = edits.media_time + edits.duration_ticks
    if (shown_at < edits.media_time).any() or (shown_at >= end).any():
        raise NotPlainError("an edit list that hides frames")
    # FFmpeg stops at the first keyframe whose end reaches the edit's end (at the second one, if frames are reordered).
    stops = is_key[:-1] & (shown_at[:-1] + durations[:-1] >= end)
    if stops.sum() > has_composition:
        raise NotPlainError("an edit list that ends before the video does")
    if (is_key[1:] & (shown_at[1:] == edits.media_time)).any():
        raise NotPlainError("an edit list that starts at a later keyframe")


def _rows(data: bytes, box: Box, columns: int) -> np.ndarray:
    """[rows, columns] of a table of 32-bit numbers after its count."""
    count = struct.unpack_from(">I", data, box.start + 4)[0]
    if box.start + 8 + count * columns * 4 > box.end:
        raise NotPlainError(f"its {box.kind!r} claims {count} rows, more than it holds")
    return np.frombuffer(data, ">u4", count * columns, box.start + 8).reshape(count, columns).astype(np.int64)


def _runs(data: bytes, box: Box, num_samples: int) -> np.ndarray:
    """[samples] of a table of (count, value), values signed."""
    rows = _rows(data, box, 2)
    if (rows[:, 0] == 0).any() or rows[:, 0].sum() != num_samples:
        raise NotPlainError(f"its {box.kind!r} is for {rows[:, 0].sum()} samples; there are {num_samples}")
    return np.repeat(rows[:, 1].astype(np.int32).astype(np.int64), rows[:, 0])


def _sizes(data: bytes, stbl: list[Box], file_bytes: int) -> np.ndarray:
    compact = only(stbl, b"stz2")
    box = compact or require_box(stbl, b"stsz", 12)
    if box.end - box.start < 12 or (compact and only(stbl, b"stsz")):
        raise NotPlainError("its sample sizes are cut off or occur twice")
    constant, count = struct.unpack_from(">II", data, box.start + 4)
    bits = constant & 0xFF if compact else 32
    if count > table.MAX_PACKETS:  # refused here, because a demuxer would use 24 bytes for each of them
        limit = table.MAX_PACKETS
        raise BadVideoError(
            "too_many_packets", f"it claims {count:,} packets, the limit is {limit:,}; cut it into parts"
        )
    if count == 0:
        raise NotPlainError("there are no samples")
    if not compact and constant:
        if count * constant > file_bytes:
            raise NotPlainError(f"{count} samples of {constant} bytes in a file of {file_bytes}")
        return np.full(count, constant, np.int64)
    if bits not in (4, 8, 16, 32) or box.start + 12 + (count * bits + 7) // 8 > box.end:
        raise NotPlainError(f"its {box.kind!r} claims {count} samples, more than it holds")
    if bits == 4:
        pairs = np.frombuffer(data, np.uint8, (count + 1) // 2, box.start + 12)
        return np.stack([pairs >> 4, pairs & 15], axis=1).ravel()[:count].astype(np.int64)
    sizes = np.frombuffer(data, f">u{bits // 8}", count, box.start + 12).astype(np.int64)
    if sizes.max() > MAX_SAMPLE_BYTES:
        raise NotPlainError(f"a sample of {sizes.max()} bytes, at which FFmpeg stops reading the tables")
    return sizes


def _offsets(data: bytes, stbl: list[Box], sizes: np.ndarray) -> np.ndarray:
    """The offset of each sample: samples of a chunk follow each other."""
    short, long = only(stbl, b"stco"), only(stbl, b"co64")
    if (short is None) == (long is None):
        raise NotPlainError("there is no table of chunks, or two")
    if short:
        chunks = _rows(data, require_box(stbl, b"stco", 8), 1)[:, 0]
    else:
        halves = _rows(data, require_box(stbl, b"co64", 8), 2)
        if (halves[:, 0] >= 1 << 30).any():
            raise NotPlainError("chunks lie outside any file")
        chunks = (halves[:, 0] << 32) + halves[:, 1]
    first, per_chunk, description = _rows(data, require_box(stbl, b"stsc", 8), 3).T
    starts = np.append(first, len(chunks) + 1)
    if not len(first) or first[0] != 1 or (np.diff(starts) <= 0).any():
        raise NotPlainError("its table of chunks is out of order")
    if (per_chunk == 0).any() or (description != 1).any():
        raise NotPlainError("empty chunks, or several sample descriptions")
    in_chunk = np.repeat(per_chunk, np.diff(starts))  # [chunks]: as many as the box of offsets holds
    if in_chunk.sum() != len(sizes):
        raise NotPlainError(f"its chunks hold {in_chunk.sum()} samples; there are {len(sizes)}")
    before = np.cumsum(sizes) - sizes
    first_in_chunk = np.cumsum(in_chunk) - in_chunk
    return before + np.repeat(chunks - before[first_in_chunk], in_chunk)


def _composition(data: bytes, stbl: list[Box], num_samples: int) -> tuple[int, np.ndarray | None]:
    """(ticks by which FFmpeg moves decoding times back, [samples] of decoding to presentation or None if all 0)."""
    box = only(stbl, b"ctts")
    if box is None or box.end - box.start < 8:
        return 0, None
    rows = _rows(data, box, 2)
    if not len(rows):
        return 0, None
    values = _runs(data, box, num_samples)
    if (np.abs(values) >= 1 << 28).any():
        raise NotPlainError("absurd composition offsets")
    # The last two rows do not count: some writers put a mark there.
    shift = -int(rows[:-2, 1].astype(np.int32).min(initial=0))
    return shift, values


def _keys(data: bytes, stbl: list[Box], num_samples: int, has_rap_groups: bool) -> tuple[np.ndarray, bool]:
    """([samples] whether a decoder can start there, whether all are keyframes because there is no table)."""
    if only(stbl, b"stps"):
        raise NotPlainError("partial sync samples")
    groups = [b for b in stbl if b.kind == b"sbgp" and data[b.start + 4 : b.start + 8] == b"rap "]
    if len(groups) > 1 or (groups and not has_rap_groups):
        raise NotPlainError("random access points in sample groups")
    box = only(stbl, b"stss")
    if box is None:
        if groups:
            raise NotPlainError("random access points in sample groups, and no table of keyframes")
        return np.ones(num_samples, bool), True
    numbers = _rows(data, require_box(stbl, b"stss", 8), 1)[:, 0]
    if not len(numbers) or numbers[0] < 1 or numbers[-1] > num_samples or (np.diff(numbers) <= 0).any():
        raise NotPlainError("its table of keyframes is empty or out of order")
    is_key = np.zeros(num_samples, bool)
    is_key[numbers - 1] = True
    if groups:
        is_key |= _in_rap_group(data, groups[0], num_samples)
    return is_key, False


def _in_rap_group(data: bytes, box: Box, num_samples: int) -> np.ndarray:
    if data[box.start : box.start + 1] != b"\0":
        raise NotPlainError("sample groups of a later version")
    rows = _rows(data, Box(box.kind, box.start + 4, box.end), 2)
    if rows[:, 0].sum() > num_samples:
        raise NotPlainError("sample groups for more samples than there are")
    inside = np.repeat(rows[:, 1] > 0, rows[:, 0])
    return np.pad(inside, (0, num_samples - len(inside)))
