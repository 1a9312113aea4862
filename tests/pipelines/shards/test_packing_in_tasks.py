"""Packing in processes: the bytes of one writer, whoever does the work; videos that change; packs that are killed."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from adaptfocus.pipelines.annotations.rows import AnnotatedVideo
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.over import in_this_process
from adaptfocus.pipelines.shards.packing import pack
from tests.footage import encode

SHARD_BYTES = 9000  # of two to five videos
VIDEOS = 20  # more than a task checks


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[AnnotatedVideo]:
    """Videos of several sizes and names, one larger than a shard; and among them four that cannot be packed."""
    folder = tmp_path_factory.mktemp("videos")
    for seconds in (1, 2, 3):
        (folder / f"{seconds}.mp4").write_bytes(encode(10 * seconds))
    (folder / "large.mkv").write_bytes(encode(60, container="matroska", size=(640, 480), options={"qp": "0"}))
    (folder / "text.mp4").write_text("no video")
    names = [f"{n:02d}" for n in range(VIDEOS)]
    names[3], names[5], names[9], names[17] = "küche/" + "lang" * 30, "v1.2.x", "ü", "long/" + "x" * 250
    found = [
        AnnotatedVideo(name, str(folder / f"{1 + n % 3}.mp4"), ("b", "ä")[n % 2 :], split="train", group=f"g{n % 4}")
        for n, name in enumerate(names)
    ]
    found[4] = AnnotatedVideo("large", str(folder / "large.mkv"), ("c",), intervals=(("c", 0.5, 99.0),))
    for at, name, path in ((2, "text", "text"), (8, "v1_2.x", "1"), (12, "gone", "gone"), (19, "__meta__/z", "2")):
        found.insert(at, AnnotatedVideo(name, str(folder / f"{path}.mp4"), ("never",)))
    return found


def expected(videos: Sequence[AnnotatedVideo]) -> dict[str, bytes]:
    """The tars of a single writer that looks at its own position before each sample, by name."""
    done: dict[str, bytes] = {}
    tar, out = None, io.BytesIO()

    def end() -> None:
        if tar:
            tar.close()
            done[f"shard-{len(done):06d}.tar"] = out.getvalue()

    for video in videos:
        if video.labels == ("never",):
            continue
        data = Path(video.path).read_bytes()
        facts: dict[str, Any] = {"id": video.video_id, "labels": list(video.labels)}
        facts["duration_seconds"] = 6.0 if video.video_id == "large" else float(Path(video.path).stem)
        facts |= {"split": video.split, "group": video.group} if video.split else {}
        if video.intervals:
            facts["intervals"] = [{"label": "c", "start_seconds": 0.5, "end_seconds": 6.0}]
        text = json.dumps(facts, ensure_ascii=False, sort_keys=True).encode()
        if tar is None or (tar.offset and tar.offset + len(data) + len(text) > SHARD_BYTES):
            end()
            out = io.BytesIO()
            tar = tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        key = video.video_id.replace(".", "_")
        for name, content in ((key + Path(video.path).suffix, data), (f"{key}.json", text)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    end()
    return done


def in_any_order_and_twice(items: Sequence[Any], function: Callable[[Any], Any]) -> Iterator[Any]:
    done = {number: function(items[number]) for number in reversed(range(len(items)))}
    return iter([function(item) for item in items] if done else [])


def tars_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.tar")}


@pytest.mark.parametrize("how", [{"workers": 1}, {"workers": 2}, {"over": in_any_order_and_twice}], ids=str)
def test_the_bytes_are_those_of_one_writer(videos: list[AnnotatedVideo], tmp_path: Path, how: dict[str, Any]) -> None:
    steps: list[tuple[int, int, str]] = []
    done = pack(videos, str(tmp_path), shard_size_bytes=SHARD_BYTES, progress=lambda *step: steps.append(step), **how)
    tars = expected(videos)
    assert tars_in(tmp_path) == tars
    assert len(tars) > 5
    assert {path.name for path in tmp_path.iterdir()} == {*tars, "classes.txt", "pack.json"}
    assert (tmp_path / "classes.txt").read_text() == "b\nc\nä\n"
    told = json.loads((tmp_path / "pack.json").read_text())
    problems = [(each["kind"], each["where"]) for each in told.pop("problems")]
    assert problems == [
        ("unreadable_video", "text"), ("interval_clamped", "large"), ("key_collision", "v1_2.x"),
        ("missing_file", "gone"), ("reserved_key", "__meta__/z"),
    ]  # fmt: skip
    assert told == {
        "out_url": str(tmp_path),
        "shards": [str(tmp_path / name) for name in tars],
        "videos": VIDEOS,
        "bytes": sum(Path(video.path).stat().st_size for video in videos if video.labels != ("never",)),
        "duration_seconds": 6.0 + sum(1 + n % 3 for n in range(VIDEOS) if n != 4),
        "classes": ["b", "c", "ä"],
        "groups": 4,
        "ids_renamed": 1,
        "counts": dict.fromkeys(sorted(kind for kind, _ in problems), 1),
    }
    assert (done.videos, done.shards) == (VIDEOS, told["shards"])
    names, in_all = [video.video_id for video in videos], len(videos) + len(tars)
    assert [step[2] for step in steps] == [*names, *told["shards"]]
    assert [step[:2] for step in steps[-2:]] == [(in_all - 1, in_all), (in_all, in_all)]


@pytest.mark.parametrize(("change", "said"), [(b"more", "has {} bytes now"), (None, "is gone")])
def test_a_video_that_changes_before_it_is_copied_is_named(tmp_path: Path, change: bytes | None, said: str) -> None:
    size = len(data := encode(10))
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_bytes(data)
    changed = tmp_path / "b.mp4"

    def over(items: Sequence[Any], function: Callable[[Any], Any]) -> Iterator[Any]:
        yield from in_this_process(items, function)
        changed.write_bytes(data + change) if change else changed.unlink()

    found = [AnnotatedVideo(name, str(tmp_path / f"{name}.mp4"), ("x",)) for name in ("a", "b")]
    with pytest.raises(InputError) as error:
        pack(found, str(tmp_path / "out"), over=over)
    said = said.format(size + len(change or b""))
    assert f"b.mp4 had {size} bytes when it was checked, and {said}; pack again" in str(error.value)
    assert list((tmp_path / "out").iterdir()) == [], "no half of a shard"


KILLED = """
import os, pickle, signal, sys
from adaptfocus.pipelines.shards.packing import pack
videos, out, size = pickle.load(sys.stdin.buffer)
pack(videos, out, shard_size_bytes=size, workers=2,
     progress=lambda done, total, what: what.endswith("2.tar") and os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_pack_that_is_killed_is_resumed(videos: list[AnnotatedVideo], tmp_path: Path) -> None:
    import pickle

    given = pickle.dumps((videos, str(tmp_path), SHARD_BYTES))
    assert subprocess.run([sys.executable, "-c", KILLED], input=given, check=False).returncode == -signal.SIGKILL
    whole = expected(videos)
    there = tars_in(tmp_path)
    assert {"shard-000000.tar", "shard-000001.tar", "shard-000002.tar"} <= there.keys()
    assert there.items() <= whole.items(), "what is there is whole"
    assert not (tmp_path / "pack.json").exists()
    for name in [*whole][3:]:  # so that the same are there in each run of this test
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"already holds tars \(3\); .* give --resume"):
        pack(videos, str(tmp_path), shard_size_bytes=SHARD_BYTES)
    (tmp_path / "shard-000001.tar").write_bytes(b"cut off")
    labelled = tmp_path / "shard-000000.tar"  # the same size, and another label
    labelled.write_bytes(there[labelled.name].replace(b'"labels": ["b", ', b'"labels": ["x", ', 1))
    assert labelled.read_bytes() != there[labelled.name]
    (tmp_path / "shard-000004.tar.0123.part").write_bytes(b"half")
    before = (tmp_path / "shard-000002.tar").stat().st_mtime_ns
    pack(videos, str(tmp_path), shard_size_bytes=SHARD_BYTES, resume=True, workers=1)
    assert tars_in(tmp_path) == whole
    assert (tmp_path / "shard-000002.tar").stat().st_mtime_ns == before, "it was kept"
    assert {path.name for path in tmp_path.iterdir()} == {*whole, "classes.txt", "pack.json"}


def test_what_cannot_be_resumed_is_said_and_stays(videos: list[AnnotatedVideo], tmp_path: Path) -> None:
    out = str(tmp_path)
    other = tmp_path / "shard-000007.tar"
    other.write_bytes(b"of another pack")
    with pytest.raises(InputError, match=r"shard-000007\.tar is not a shard of this pack; resume with"):
        pack(videos[:1], out, resume=True, workers=1)
    with pytest.raises(InputError, match="--overwrite removes the shards that --resume keeps"):
        pack(videos[:1], out, resume=True, overwrite=True)
    assert tars_in(tmp_path) == {other.name: b"of another pack"}
    other.unlink()
    pack(videos[:1], out, resume=True, workers=1)
    with pytest.raises(InputError, match="holds a whole pack, nothing to resume"):
        pack(videos[:2], out, resume=True, workers=1)
    steps = iter([1])

    def stopped(*step: Any) -> None:
        next(steps)

    with pytest.raises(StopIteration):
        pack(videos[:4], out, overwrite=True, workers=1, progress=stopped)
    assert list(tmp_path.iterdir()) == [], "the old summary would say that new shards are whole"
