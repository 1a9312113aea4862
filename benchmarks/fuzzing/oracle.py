"""Compares the frames that our code gave of a file with those of a sequential decode.

The file is decoded from its start with FFmpeg's own demuxer and a new decoder, in another process. Frames are counted
as equal, different or not comparable.

Not compared, and counted by reason:
- tainted: frames that FFmpeg calls corrupt, those after one up to the next keyframe, and times that two frames have;
- not_shown: frames of a file with errors that do not come out;
- undefined: frames that change when the frames before them are kept in memory. Where data are lost, FFmpeg's decoders
  of VP8 and FFV1 leave whatever the picture's memory held, and do not report it;
- recoloured: frames whose header does not say their colours, and that come out after another header. FFmpeg gives them
  the colours of what follows, so they are compared in the colours of the first header;
- concealed: frames that differ and that a decoder which stops at errors does not give, or that come after a keyframe
  with a picture lost in between. How damage is concealed depends on what was decoded before.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import resource
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import av.logging
import numpy as np
from av.error import FFmpegError

from adaptfocus.pipelines.decode.bag import to_square_rgb
from adaptfocus.pipelines.inspection.demux import main_video_stream
from adaptfocus.pipelines.video.containers import TOLERANT
from adaptfocus.pipelines.video.nal_units import lacks_a_picture
from adaptfocus.pipelines.video.packets import decode_packets
from adaptfocus.pipelines.video.spans import run_of

ROOT = Path(__file__).resolve().parents[2]
SIZE_PIXELS = 32
NEUTRAL = 0  # no rotation: rotation is not tested here
MAX_FRAMES = 500
ORACLE_SECONDS, ORACLE_BYTES = 30.0, 2 << 30
# Rounding of chroma where a container describes colours that packets do not.
SAME_LEVELS = 2


@dataclass
class Shown:
    """What a sequential decode of one file shows. `pts`: of all frames that came out, and whether they are tainted."""

    pts: list[tuple[int | None, bool]] = field(default_factory=list)
    pictures: dict[int, np.ndarray] = field(default_factory=dict)  # the last frame of each time
    recoloured: dict[int, np.ndarray] = field(default_factory=dict)  # where theirs differ: in those of the first frame
    errors: int = 0  # failed packets and corrupt frames
    is_whole: bool = True  # the end was reached
    kept: list[Any] | None = None  # frames, while it is being decoded

    @property
    def clean(self) -> set[int]:
        """The times of frames that can be compared."""
        times = Counter(pts for pts, _ in self.pts)
        return {pts for pts, is_tainted in self.pts if pts is not None and not is_tainted and times[pts] == 1}

    def at(self, first_pts: int, ticks: float) -> int | None:
        """The time of the frame on display some ticks after the first; None where that is unclear."""
        times = sorted(pts for pts, _ in self.pts if pts is not None)
        if self.errors or not self.is_whole or len(set(times)) < len(self.pts) or not times or times[0] != first_pts:
            return None
        return times[int(np.searchsorted(np.array(times), first_pts + ticks, side="right")) - 1]


def sequential(
    data: bytes, wanted_pts: Collection[int] | None, stops_at_errors: bool = False, keeps_frames: bool = False
) -> Shown:
    """Decode a file from its start, and keep the pictures of the wanted frames, or of all.

    Args:
        keeps_frames: keep all frames in memory, so that no memory is used for two pictures.
    """
    shown = Shown(kept=[] if keeps_frames else None)
    options = {"err_detect": "crccheck+bitstream+buffer+explode"} if stops_at_errors else {}
    try:
        with av.open(io.BytesIO(data), **TOLERANT) as container:
            stream = main_video_stream(container)
            if stream is None or stream.codec_context is None:
                return shown
            stream.codec_context.thread_count = 1
            stream.codec_context.options = options
            _decode(container, stream, wanted_pts, shown)
    except (FFmpegError, ValueError, OverflowError, EOFError):
        shown.errors += 1
    shown.kept = None
    return shown


def _decode(container: Any, stream: Any, wanted_pts: Collection[int] | None, shown: Shown) -> None:
    is_tainted, first_colours = False, None
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except FFmpegError:
            shown.errors += 1
            is_tainted = True
            continue
        for frame in frames:
            if frame.is_corrupt:
                shown.errors += 1
                is_tainted = True
            elif frame.key_frame:
                is_tainted = False
            shown.pts.append((frame.pts, is_tainted))
            colours = (frame.colorspace, frame.color_range)
            first_colours = first_colours or colours
            if shown.kept is not None:
                shown.kept.append(frame)
            if frame.pts is not None and (wanted_pts is None or frame.pts in wanted_pts):
                shown.pictures[frame.pts] = to_square_rgb(frame, SIZE_PIXELS, NEUTRAL)
                if colours != first_colours:
                    frame.colorspace, frame.color_range = first_colours
                    shown.recoloured[frame.pts] = to_square_rgb(frame, SIZE_PIXELS, NEUTRAL)
        if len(shown.pts) > MAX_FRAMES:
            shown.is_whole = False
            return


class Oracle:
    """The process that decodes. A new one starts where the last has ended. It ends with its owner."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def shown(
        self, data: bytes, wanted_pts: Collection[int] | None, stops_at_errors: bool = False, keeps_frames: bool = False
    ) -> Shown | None:
        """What a sequential decode shows; None if the decoder crashed, hung or took too much memory."""
        if self._process is None:
            command = [sys.executable, "-m", "benchmarks.fuzzing.oracle"]
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        process, answer = self._process, None
        assert process.stdin
        assert process.stdout
        with contextlib.suppress(EOFError, OSError):
            pickle.dump((data, wanted_pts, stops_at_errors, keeps_frames), process.stdin)
            process.stdin.flush()
            if select.select([process.stdout], [], [], ORACLE_SECONDS)[0]:
                answer = pickle.load(process.stdout)
        if answer is None:
            process.kill()
            process.wait()
            self._process = None
        return answer


def _serve() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (ORACLE_BYTES, ORACLE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    av.logging.set_level(av.logging.PANIC)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            job = pickle.load(sys.stdin.buffer)
            pickle.dump(sequential(*job), sys.stdout.buffer)
            sys.stdout.buffer.flush()


ORACLE = Oracle()


@lru_cache(maxsize=64)
def of_whole(data: bytes) -> Shown | None:
    """What all of a file shows; cached, because the file is used again and again."""
    return ORACLE.shown(data, None)


@dataclass(frozen=True)
class Given:
    """Frames that our code gave without an error."""

    pts: list[int]
    seconds: np.ndarray  # requested times, from the first frame
    pictures: np.ndarray  # [frames, 3, S, S]


def compared(
    data: bytes, row: Mapping[str, Any], first_pts: int, given: list[Given], is_kept: bool
) -> tuple[Counter[str], str]:
    """The number of frames by result, and what is wrong with the first that differs.

    Args:
        first_pts: of the row's first frame.
        is_kept: the file will be used again, so that its decode is worth caching.
    """
    wanted = {pts for one in given for pts in one.pts}
    shown = of_whole(data) if is_kept else ORACLE.shown(data, wanted)
    found: Counter[str] = Counter()
    if shown is None:
        return Counter(no_oracle=len(wanted)), ""
    clean, times = shown.clean, {pts for pts, _ in shown.pts}
    tick = row["time_base_numerator"] / row["time_base_denominator"]
    strict: Shown | None = None
    kept: Shown | None = None
    said = ""
    for one in given:
        for number, (pts, seconds) in enumerate(zip(one.pts, one.seconds, strict=True)):
            if pts in clean:
                difference = int(np.abs(one.pictures[number].astype(int) - shown.pictures[pts]).max())
                kind = "equal" if difference <= SAME_LEVELS else "silent"
                if kind == "silent" and _is_near(one.pictures[number], shown.recoloured.get(pts)):
                    kind = "recoloured"
                why = f"the frame at pts {pts} differs by up to {difference} levels"
            elif pts in times:
                kind, why = "tainted", ""
            elif shown.errors or not shown.is_whole:
                kind, why = "not_shown", ""
            else:
                kind, why = "silent", f"no frame is shown at pts {pts}"
            if kind == "equal":
                expected = shown.at(first_pts, (seconds + 1e-6) / tick)
                if expected is not None and expected != pts and seconds <= row["duration_seconds"]:
                    kind, why = "silent", f"at {seconds:.4f} s the frame at pts {expected} is on display, not {pts}"
            if kind == "silent" and why.startswith("the frame"):
                strict = strict or ORACLE.shown(data, wanted, True)
                if strict is None or pts not in strict.clean or _is_one_lost(data, row, pts):
                    kind = "concealed"
                else:
                    kept = kept or ORACLE.shown(data, wanted, keeps_frames=True)
                    again = kept.pictures.get(pts) if kept else None
                    if again is None or not np.array_equal(again, shown.pictures[pts]):
                        kind = "undefined"
            found[kind] += 1
            said = said or (why if kind == "silent" else "")
    return found, said


def _is_near(picture: np.ndarray, other: np.ndarray | None) -> bool:
    return other is not None and int(np.abs(picture.astype(int) - other).max()) <= SAME_LEVELS


def _is_one_lost(data: bytes, row: Mapping[str, Any], pts: int) -> bool:
    """Whether a picture is missing among the packets from which the one at `pts` is decoded."""
    if row.get("codec") != "h264" or row["access"] != "packets":
        return False
    packets = decode_packets(row["packets"])
    run = run_of(packets, np.argsort(packets.pts, kind="stable"), np.array([pts]), row["recovery_ticks"] or 0)
    places = zip(packets.offset_bytes.tolist(), packets.size_bytes.tolist(), strict=True)
    parts = [data[at : at + size] for at, size in list(places)[run.first : run.last + 1]]
    return lacks_a_picture(row["codec"], row["extradata"], parts)


if __name__ == "__main__":
    from benchmarks.fuzzing import oracle as fuzz_oracle  # pickled objects must belong to the module, not to __main__

    fuzz_oracle._serve()
