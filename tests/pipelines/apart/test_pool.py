"""No video ends, hangs or fills the process that trains: hangs, crashes and memory bombs are real here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from adaptfocus.pipelines.apart import pool as isolated
from adaptfocus.pipelines.apart.memory import place_of, shared_array
from adaptfocus.pipelines.apart.process import DecoderProcess
from adaptfocus.pipelines.decode.settings import DecodeConfig, Isolation
from adaptfocus.pipelines.errors import AdaptFocusError, StorageError
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.index.packets import with_packets
from adaptfocus.pipelines.plan.resolve import bare_bag
from adaptfocus.pipelines.store import range_file
from adaptfocus.pipelines.store.ahead import read_ahead
from adaptfocus.pipelines.stream.batches import DecodedBatch
from adaptfocus.pipelines.stream.clips import ClipShape, assemble_batches
from adaptfocus.pipelines.video.spans import find_clips, packets_of, shown_pts
from tests.bad_decoders import bad_members
from tests.footage import encode, write_tar

SHAPE = ClipShape(2, 4, 32, isolation=Isolation(deadline_seconds=60))


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """Bags of an mp4, a Matroska file and an AVI, which a demuxer reads; each member has its own size."""
    folder = tmp_path_factory.mktemp("videos")
    members = {
        "a.mp4": encode(40),
        "b.mkv": encode(40, container="matroska"),
        "c.avi": encode(40, codec="mpeg4", container="avi"),
    }
    write_tar(folder / "videos.tar", members)
    build_index([str(folder / "videos.tar")], str(folder / "index"), workers=1)
    return {row["video_id"]: bag_of(row) for row in rows_of(folder / "index")}


def rows_of(index: Path) -> list[dict]:
    return with_packets(load_index(str(index)).table).to_pylist()


def bag_of(video: dict) -> dict:
    packets = packets_of(video)
    pts, spans = find_clips(video, packets, shown_pts(video, packets), [np.arange(4) * 0.3, 2 + np.arange(4) * 0.3])
    return bare_bag(video, pts, spans)


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    isolated.end_idle()


def batch_of(bags: list[dict], shape: ClipShape = SHAPE) -> DecodedBatch:
    return next(assemble_batches(read_ahead(bags), shape, len(bags)))


def errors_of(batch: DecodedBatch) -> list[str]:
    return ["" if ok else batch.reason(place) for place, ok in enumerate(batch.ok)]


def with_deadline(seconds: float) -> ClipShape:
    return replace(SHAPE, isolation=Isolation(deadline_seconds=seconds))


@pytest.fixture
def quick_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines that do not grow with the number of packets."""
    monkeypatch.setattr(isolated, "PACKET_SECONDS", 0.0)


@pytest.mark.parametrize("backend", ["packets", "demux"])
def test_frames_are_those_of_this_process(bags: dict[str, dict], backend: Any) -> None:
    shape = replace(SHAPE, decode=DecodeConfig(backend=backend))
    every = [bag | ({"spans": []} if backend == "demux" else {}) for bag in bags.values()]
    apart, here = batch_of(every, shape), batch_of(every, replace(shape, isolation=None))
    assert apart.ok.all()
    assert here.ok.all()
    assert np.array_equal(apart.frames, here.frames)
    assert place_of(apart.frames[1]) is not None, "frames are decoded where the batch has them"


def test_frames_go_where_no_other_process_reaches_too(bags: dict[str, dict]) -> None:
    bag, out = bags["a"], np.zeros((2, 4, 3, 32, 32), np.uint8)
    data = next(iter(read_ahead([bag]))).data
    isolated.decode_clips_apart(bag, data, 32, DecodeConfig(), out, Isolation())
    assert np.array_equal(out, batch_of([bag]).frames[0])


def test_shared_memory_is_used_again_once_its_last_view_is_gone() -> None:
    whole = shared_array((4, 1000))
    view = whole[2, 10:]
    place = place_of(view)
    assert place is not None
    assert place[1].offset_bytes == 2010
    del whole
    other = shared_array((4, 1000))
    other[:] = 1
    view[:] = 2
    assert (other == 1).all(), "a view keeps its memory"
    del view
    assert place_of(shared_array((4, 1000)))[1].key == place[1].key  # type: ignore[index]


def test_shared_memory_does_not_pile_up() -> None:
    held = [shared_array((1, 2000)) for _ in range(10)]
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    del held
    assert len(os.listdir("/proc/self/fd")) <= before - 8  # noqa: PTH208


@pytest.mark.parametrize("what", ["hang", "spin"])
def test_a_decoder_that_hangs_is_ended(
    bags: dict[str, dict], what: str, quick_packets: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One holds Python's lock and sleeps, the other never ends. Both keep their slot, and the others are decoded."""
    bad_members(monkeypatch, tmp_path, {bags["b"]["member_size_bytes"]: what})
    batch = batch_of([bags["a"], bags["b"], bags["c"]], with_deadline(0.5))
    assert batch.ok.tolist() == [True, False, True]
    assert errors_of(batch)[1].startswith("decode_deadline: it was not done after 0.5 s")
    assert not batch.frames[1].any()


def test_a_machine_that_is_busy_is_no_reason(
    bags: dict[str, dict], quick_packets: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With four processes on one core, 0.6 s of work take 2 s or more, but the deadline of 1 s counts work."""
    bad_members(monkeypatch, tmp_path, {bags["a"]["member_size_bytes"]: "work"})
    core = {min(os.sched_getaffinity(0))}
    before = os.sched_getaffinity(0)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        os.sched_setaffinity(0, core)
        batch_of([bags["b"]])  # starts the process, on that core
        for process in busy:
            os.sched_setaffinity(process.pid, core)
        began = time.monotonic()
        assert batch_of([bags["a"]], with_deadline(1.0)).ok.all(), "it has not used up its time"
        assert time.monotonic() - began > 1.0, "this test did not keep it busy"
    finally:
        os.sched_setaffinity(0, before)
        for process in busy:
            process.kill()
            process.wait()


def test_a_crash_is_the_bags_own(bags: dict[str, dict], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bad_members(monkeypatch, tmp_path, {bags["a"]["member_size_bytes"]: "crash"})
    batch = batch_of([bags["a"], bags["b"]])
    assert errors_of(batch) == ["decoder_died: signal SIGSEGV", ""]


def test_memory_without_end_is_the_bags_own(
    bags: dict[str, dict], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bad_members(monkeypatch, tmp_path, {bags["a"]["member_size_bytes"]: "memory"})
    shape = replace(SHAPE, isolation=Isolation(memory_bytes=200 << 20))
    batch = batch_of([bags["a"], bags["b"]], shape)
    assert batch.ok.tolist() == [False, True]
    assert errors_of(batch)[0].startswith("decoder_out_of_memory: ")
    assert "200 MiB (placement.decode_memory_mib)" in errors_of(batch)[0]


def test_the_decoders_own_memory_is_bounded(tmp_path: Path) -> None:
    """Frames of 6 MB in a process that may take 6: FFmpeg itself is refused."""
    data = encode(3, codec="mpeg4", size=(2048, 2048))
    write_tar(tmp_path / "large.tar", {"large.mp4": data})
    build_index([str(tmp_path / "large.tar")], str(tmp_path / "index"), workers=1)
    (row,) = rows_of(tmp_path / "index")
    shape = replace(SHAPE, isolation=Isolation(memory_bytes=6 << 20))
    assert errors_of(batch_of([bag_of(row)], shape))[0].startswith("decoder_out_of_memory: ")
    assert batch_of([bag_of(row)]).ok.all()


@pytest.mark.parametrize("what", ["crash_if_used", "killed_if_used"])
def test_a_verdict_is_that_of_a_fresh_process(
    bags: dict[str, dict], what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What earlier bags left behind in a process is not this bag's fault."""
    bad_members(monkeypatch, tmp_path, {bags["b"]["member_size_bytes"]: what})
    assert batch_of([bags["a"], bags["b"]]).ok.all()


def test_what_is_killed_from_outside_is_never_a_bad_video(
    bags: dict[str, dict], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The kernel may kill any process when memory is used up."""
    bad_members(monkeypatch, tmp_path, {bags["a"]["member_size_bytes"]: "killed"})
    with pytest.raises(AdaptFocusError, match=r"3 decoding processes were ended from outside, .* SIGKILL.*decode_work"):
        batch_of([bags["a"]])


def test_waiting_for_the_store_is_not_the_decoders_time(
    bags: dict[str, dict], quick_packets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_of([bags["a"]])  # a process that already runs
    read_ranges = range_file.read_ranges

    def slow(*ranges: Any) -> list[bytes]:
        time.sleep(1.5)
        return read_ranges(*ranges)

    monkeypatch.setattr(range_file, "read_ranges", slow)
    assert batch_of([bags["c"]], with_deadline(1.0)).ok.all()


def test_a_store_that_fails_is_never_a_bad_video(bags: dict[str, dict]) -> None:
    with pytest.raises(StorageError, match="it is not there"):
        batch_of([bags["c"] | {"shard_url": "/nowhere/videos.tar"}])
    assert batch_of([bags["c"]]).ok.all(), "and the next bag is decoded"


def test_the_process_has_no_credentials(bags: dict[str, dict], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    bad_members(monkeypatch, tmp_path, {bags["a"]["member_size_bytes"]: "tell_environment"})
    with pytest.raises(RuntimeError, match="PYTHONPATH") as caught:
        batch_of([bags["a"]])
    assert "AWS_" not in str(caught.value)


def test_no_process_outlives_the_one_it_works_for(
    bags: dict[str, dict], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The owner is killed while a decoder hangs and holds Python's lock: the kernel ends it."""
    bad_members(monkeypatch, tmp_path / "bad", {bags["a"]["member_size_bytes"]: "hang"})
    program = (
        "import json, sys\nfrom tests.pipelines.apart.test_pool import batch_of\n"
        "import threading\nbag = eval(sys.stdin.read())\n"
        "thread = threading.Thread(target=batch_of, args=([bag],))\nthread.start()\nthread.join()\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, text=True)
    assert owner.stdin is not None
    owner.stdin.write(repr(bags["a"]))
    owner.stdin.close()
    child = wait_for_child(owner.pid)
    time.sleep(1.0)  # into the hang
    owner.kill()
    owner.wait()
    gone, alive = psutil.wait_procs([child], timeout=20)
    assert [p.pid for p in gone] == [child.pid]
    assert not alive


def wait_for_child(pid: int) -> psutil.Process:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for child in psutil.Process(pid).children():
            if any("apart.child" in each for each in child.cmdline()):
                return child
        time.sleep(0.05)
    raise AssertionError("it started no process")


def test_a_fork_does_not_keep_it_alive(bags: dict[str, dict]) -> None:
    """A fork has copies of the pipes: without closing them, the decoder would outlive its owner in it."""
    process = DecoderProcess()
    isolated._alive.add(process)
    fork = os.fork()
    if fork == 0:
        time.sleep(60)
        os._exit(0)
    try:
        process.let_go()
        assert -process._process.wait(20) == signal.SIGIO
    finally:
        os.kill(fork, signal.SIGKILL)
        os.waitpid(fork, 0)


def test_a_process_with_many_open_files_decodes(bags: dict[str, dict]) -> None:
    """`select` takes no file above number 1,023: workers with many sockets could start no decoder."""
    isolated.end_idle()  # what has indexed the videos
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        batch = batch_of([bags["a"]])
    finally:
        for each in held:
            os.close(each)
    assert errors_of(batch) == [""]
    assert batch.frames.any()


def test_a_video_cannot_stop_the_indexing_of_its_shard(
    quick_packets: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A hang, a crash and unbounded memory each refuse one video; its neighbours are indexed."""
    monkeypatch.setattr(isolated, "INDEX_BYTES_A_SECOND", 1e9)
    videos = {f"{what}.mp4": encode(10 + n) for n, what in enumerate(("fine", "hang", "crash", "memory", "last"))}
    sizes = {len(data): name.removesuffix(".mp4") for name, data in videos.items()}
    assert len(sizes) == 5
    shard = write_tar(tmp_path / "shard.tar", videos)
    bad_members(monkeypatch, tmp_path / "bad", sizes)
    isolation = Isolation(deadline_seconds=1.5, memory_bytes=200 << 20)
    done = build_index([str(shard)], str(tmp_path / "index"), workers=1, isolation=isolation)
    assert done.videos == 2
    assert done.refused == {"index_deadline": 1, "decoder_died": 1, "decoder_out_of_memory": 1}
    assert load_index(str(tmp_path / "index")).table["video_id"].to_pylist() == ["fine", "last"]


def test_memory_is_taken_and_let_go_in_any_thread() -> None:
    """Batches are made in one thread and dropped in another. No two may ever hold the same memory."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def hold(number: int) -> None:
        for turn in range(6000):
            array = shared_array((1 + (turn + number) % 2, 3000))
            array[:] = number
            assert (array == number).all(), "somebody else has written into it"

    try:
        with ThreadPoolExecutor(4) as pool:
            for held in [pool.submit(hold, number) for number in range(4)]:
                held.result()
    finally:
        sys.setswitchinterval(before)
