"""Real failures in processes that decode: a hang that keeps Python's lock, a crash, unbounded memory.

A `sitecustomize` on PYTHONPATH causes them. Every new process imports it, but it only acts in processes that decode,
for members of given sizes. None of this is in the product.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptfocus.pipelines.apart import pool

_SITECUSTOMIZE = """
import sys

if any("apart.child" in each for each in sys.orig_argv):
    import ctypes, json, os, signal, time
    import adaptfocus.pipelines.decode.bag as clip_decoder
    import adaptfocus.pipelines.apart.child as decoder_child
    import adaptfocus.pipelines.inspection.packet_table as packet_table

    done = 0

    def misfortune(size):
        global done
        done += 1
        with open(os.path.join(os.path.dirname(__file__), "bad.json")) as file:
            what = json.load(file).get(str(size))
        if what == "hang":
            ctypes.PyDLL(None).pause()  # PyDLL keeps the lock: no other thread of this process runs again
        if what == "spin":
            while True:
                pass
        if what == "work":  # 0.6 s of a core, however long that takes
            began = time.process_time()
            while time.process_time() < began + 0.6:
                pass
        if what == "crash" or (what == "crash_if_used" and done > 1):
            ctypes.string_at(0)
        if what == "memory":
            kept = []
            while True:
                kept.append(bytearray(64 << 20))
        if what == "killed" or (what == "killed_if_used" and done > 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "tell_environment":
            raise RuntimeError(" ".join(sorted(os.environ)))

    decode_into, read_packet_table = clip_decoder.decode_into, packet_table.read_packet_table

    def bad_decode_into(bag, *rest):
        misfortune(bag["member_size_bytes"])
        return decode_into(bag, *rest)

    def bad_read_packet_table(file, size_bytes, *rest):
        misfortune(size_bytes)
        return read_packet_table(file, size_bytes, *rest)

    windows, size_of_windows = decoder_child._windows, 0

    def bad_windows(sock, memory, begin, **rest):
        global size_of_windows
        size_of_windows = begin["video"]["member_size_bytes"] if begin else size_of_windows
        misfortune(size_of_windows)
        return windows(sock, memory, begin, **rest)

    clip_decoder.decode_into = decoder_child.decode_into = bad_decode_into
    decoder_child._windows = bad_windows
    packet_table.read_packet_table = bad_read_packet_table
"""


def bad_members(monkeypatch: pytest.MonkeyPatch, folder: Path, what: dict[int, str]) -> None:
    """Make processes that decode and start from now on fail in these ways, by the size of the member in bytes.

    A test may rewrite `bad.json` in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE)
    (folder / "bad.json").write_text(json.dumps(what))
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{Path(__file__).resolve().parents[1]}")
    pool.end_idle()
