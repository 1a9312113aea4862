"""Windows of a video, made in another process: `apart.pool`'s protection for `decode.windows`.

One process decodes the video from its first window to its last, a part of a batch at a time. The bytes that it asks
for are fetched ahead. If it is too late, dies or runs out of memory, a fresh process resumes at the first missing
window. Only a fresh process's failure is blamed on the video.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from adaptfocus.pipelines.apart import pool
from adaptfocus.pipelines.apart.memory import place_of
from adaptfocus.pipelines.apart.pool import DECORD_COPIES, DEMUXED_PACKETS, PACKET_SECONDS, JobFailedError
from adaptfocus.pipelines.apart.process import DecoderProcess
from adaptfocus.pipelines.decode.filler import Filled
from adaptfocus.pipelines.decode.settings import DecodeConfig, Isolation
from adaptfocus.pipelines.decode.window_jobs import DenseJob, Store, dense_job, pieces_to_read
from adaptfocus.pipelines.store.range_file import RangeFile, version_of
from adaptfocus.pipelines.store.reads import ReadConfig
from adaptfocus.pipelines.video.display import DISPLAY_COLUMNS
from adaptfocus.pipelines.video.spans import frames_at

_NEEDED = (
    "codec", "extradata", *DISPLAY_COLUMNS, "access", "keys_in_order", "recovery_ticks", "member_offset_bytes",
    "member_size_bytes", "time_base_numerator", "time_base_denominator", "duration_seconds", "frame_rate_hz",
    "packets",
)  # fmt: skip


class FillerApart:
    """`decode.filler.Filler` in another process."""

    def __init__(
        self,
        video: Mapping[str, Any],
        windows: Mapping[str, Any],
        decode: DecodeConfig,
        isolation: Isolation,
        read: ReadConfig | None = None,
    ) -> None:
        """`windows`: arguments of `decode.window_jobs.dense_job`."""
        self._video, self._windows, self._decode, self._isolation, self._read = video, windows, decode, isolation, read
        self._job = dense_job(video, decode=decode, **windows)
        self._done = self._killed = 0
        self._fresh = self._is_fresh = False
        self._process: DecoderProcess | None = None
        self._member: RangeFile | None = None

    def fill(self, out: np.ndarray) -> Filled:
        """Write the next windows into uint8 [windows, T, C, H, W] of `memory.shared_array`, from its start.

        Raises:
            BadVideoError: as `dense_windows`; decode_deadline, decoder_died, decoder_out_of_memory.
            ConfigError, StorageError: as there.
            AdaptFocusError: something ends the decoding processes.
        """
        found = place_of(out)
        assert found is not None
        assert out.flags.c_contiguous
        fd, place = found
        while True:
            begin = None if self._process else self._begin()
            assert self._process is not None
            values = {"begin": begin, "place": place, "shape": out.shape}
            seconds = self._isolation.deadline_seconds + PACKET_SECONDS * self._packets(len(out))
            job = ("windows", values, self._memory_bytes)
            try:
                answer = pool.ask(self._process, job, fd, seconds, self._member, "decode_deadline")
            except JobFailedError as failed:
                self._let_go(keep=False)
                self._killed += failed.killed
                pool.check(failed, self._is_fresh, self._killed)
                continue
            except BaseException:
                self._let_go(keep=False)  # `ask` has ended it
                raise
            if answer[0] != "done" or answer[1].is_over:
                self._let_go(keep=True)
            filled: Filled = pool.result_of(answer)
            self._done += len(filled.center_seconds)
            return filled

    def close(self) -> None:
        """Stop: nothing more is read or decoded."""
        if self._process:
            self._process.end()
        self._let_go(keep=False)

    def _begin(self) -> dict[str, Any]:
        """Take a process for the remaining windows -> what it has to know."""
        self._process = pool.take(self._fresh)
        self._is_fresh, self._fresh = self._process.jobs == 0, True
        self._member = Member(self._video, self._job.after(self._done), Store(self._read))
        return {
            "video": {name: self._video[name] for name in _NEEDED},
            "windows": dict(self._windows),
            "decode": self._decode,
            "blocks": (self._member.block_bytes, self._member.max_blocks),
            "done": self._done,
        }

    def _let_go(self, keep: bool) -> None:
        if self._process and keep:
            pool.give_back(self._process)
        if isinstance(self._member, Member):
            self._member.stop()
        self._process = self._member = None

    def _packets(self, windows: int) -> int:
        """The largest number of packets that the next windows can take."""
        if self._job.reads_member:
            return DEMUXED_PACKETS * windows
        centers = self._job.centers_seconds[self._done : self._done + windows]
        ends = np.array([centers[0] + self._job.steps_seconds[0], centers[-1] + self._job.steps_seconds[-1]])
        first, last = frames_at(self._video, self._job.shown, ends)
        pts, keys = self._job.packets.pts, self._job.packets.pts[self._job.packets.is_key]
        start = keys[keys <= first].max(initial=pts.min())
        return int(((pts >= start) & (pts <= last)).sum())

    @property
    def _memory_bytes(self) -> int:
        copies = DECORD_COPIES * self._video["member_size_bytes"] if self._decode.backend == "decord" else 0
        return self._isolation.memory_bytes + copies


class Member(RangeFile):
    """A video's bytes. Its pieces are fetched before the process asks for them, in the order in which it will ask."""

    def __init__(self, video: Mapping[str, Any], job: DenseJob, store: Store) -> None:
        like = store.member(video)
        super().__init__(
            like.url, like.offset_bytes, like.size_bytes, like.block_bytes, like.max_blocks, version_of(video)
        )
        self._pieces = store.pieces([] if job.reads_member else pieces_to_read(job, job.wanted_pts()))

    def read_range(self, offset_bytes: int, size_bytes: int) -> bytes:
        piece = next(self._pieces, None)
        if piece is not None:
            (span,) = piece.bag["spans"]
            if (span["offset_bytes"], span["size_bytes"]) == (self.offset_bytes + offset_bytes, size_bytes):
                return piece.data[0]
            self.stop()  # the process started again, with packets that it had left out
        return super().read_range(offset_bytes, size_bytes)

    def stop(self) -> None:
        """Stop fetching ahead."""
        self._pieces.close()  # type: ignore[attr-defined]
