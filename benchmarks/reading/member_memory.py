"""The peak memory of reading and decoding a member of any size.

A tar with one member is written without a second copy of it. A plan runs in a separate process
(`python -m benchmarks.reading.member_memory PLAN_FOLDER`), whose peak memory is measured.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

from adaptfocus.pipelines.plan.published import read_plan
from adaptfocus.pipelines.stream.clips import stream
from benchmarks.measuring.pace import clips_in
from benchmarks.reading.corpus import BAGS_PER_BATCH, CLIPS_PER_BAG, shape_of
from benchmarks.reading.process_cost import peak_resident_mb
from benchmarks.reading.videos import KINDS, Kind, write_video

_BLOCK = tarfile.BLOCKSIZE


class _Shifted(io.RawIOBase):
    """A file that begins at byte `start_bytes` of another."""

    def __init__(self, path: Path, start_bytes: int) -> None:
        super().__init__()
        self._file, self._start = path.open("w+b"), start_bytes
        self._file.seek(start_bytes)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset + (self._start if whence == io.SEEK_SET else 0), whence) - self._start

    def tell(self) -> int:
        return self._file.tell() - self._start

    def write(self, data) -> int:
        return self._file.write(data)

    def readinto(self, buffer) -> int:
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def write_tar_of_one(path: Path, member_bytes: int, kind: Kind = KINDS["c"]) -> None:
    """Write a tar with one video of about `member_bytes`, by repeating what is encoded once."""
    kind = replace(kind, moov_first=False)  # moving it to the front needs a path
    with _Shifted(path, _BLOCK) as file:
        write_video(kind, file, member_bytes * 8 / (kind.bits_per_second * 1.02))  # filler and container are 2 %
    size = path.stat().st_size - _BLOCK
    info = tarfile.TarInfo("film.mp4")
    info.size = size
    with path.open("r+b") as tar:
        tar.write(info.tobuf(tarfile.GNU_FORMAT))
        tar.seek(0, os.SEEK_END)
        tar.write(b"\0" * (-size % _BLOCK + 2 * _BLOCK))


def peak_mb(plan_folder: str) -> float:
    """Peak memory in MB of a process that runs a plan."""
    command = [sys.executable, "-m", "benchmarks.reading.member_memory", plan_folder]
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(run.stdout)["peak_mb"]


if __name__ == "__main__":
    facts = read_plan(sys.argv[1])
    for batch in stream(facts.slices() if facts else (), shape_of(CLIPS_PER_BAG, None), BAGS_PER_BATCH):
        clips_in(batch)
    print(json.dumps({"peak_mb": peak_resident_mb()}))
