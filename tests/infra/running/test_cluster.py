"""A command starts its own cluster, and joins another only where it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.footage import encode, write_tar

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.ray]
VIDEO = encode(5)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Of this module's own, while the environment names another, which does not answer."""
    from adaptfocus.infra.running.cluster import connect

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "127.0.0.1:9")
        with connect(None, cpus=3):
            yield


def test_a_cluster_that_was_started_here_before_is_left_alone() -> None:
    """Without an address Ray would join the cluster of this variable, or whatever was last started on the machine."""
    assert ray.cluster_resources()["CPU"] == 3


def test_what_cannot_be_there_is_said_at_once(tmp_path: Path) -> None:
    """Here: a path that a node does not see, and more resources than a cluster of fixed size has."""
    from adaptfocus.infra.running.cluster import check_offered, check_seen
    from adaptfocus.pipelines.errors import ConfigError
    from adaptfocus.trainers.settings.parts import PlacementConfig

    index = tmp_path / "snapshots"
    index.touch()
    gone = {"index": str(index), "runs": str(tmp_path / "gone")}
    check_seen(gone)  # this machine's own nodes see what it sees
    check_seen({"index": str(index)}, own_host="elsewhere")
    with pytest.raises(ConfigError, match=r"runs is .*/gone, a path of this machine, and the node .* has nothing"):
        check_seen(gone, own_host="elsewhere")
    check_offered(PlacementConfig(workers=2))
    with pytest.raises(ConfigError, match=r"which is 8 CPU, and the cluster on this machine has 3"):
        check_offered(PlacementConfig(workers=2, worker_resources={"CPU": 4}))


def test_an_index_made_on_a_cluster_is_the_same(type_, tmp_path: Path) -> None:
    """Tars are read and videos dealt by tasks; a fingerprint is a hash of all rows."""
    from adaptfocus.pipelines.index.build import build_index
    from adaptfocus.pipelines.index.deal import Sizes
    from adaptfocus.pipelines.index.load import load_index, open_index, refused_of
    from adaptfocus.trainers.on_ray.over import OnRay

    tars = tmp_path / "tars"
    for number in range(5):
        members = {"bad.mp4": b"?"} | {f"v{2 * number + n}.mp4": VIDEO for n in range(3)}
        write_tar(tars / f"{number}.tar", members)
    code, out, _ = type_("index", tars, "--out", tmp_path / "typed", "--ray", "--workers", 2)
    assert (code, out.splitlines()[0][:40]) == (0, "11 videos of 0 classes in 5 shards (0 un")
    assert type_("index", tars, "--out", tmp_path / "typed", "--address", "x")[0] == 2
    sizes = Sizes(partition_rows=4, range_partitions=1, group_rows=4)
    for name, way in (("here", {"workers": 1}), ("there", {"over": OnRay(2)})):
        told: list[int] = []
        tell = {"progress": lambda *step, told=told: told.append(step[0])}
        done = build_index([str(tars)], str(tmp_path / name), sizes=sizes, **tell, **way)
        assert (done.videos, done.shards_read, done.refused) == (11, 5, {"duplicate_id": 4, "unreadable_video": 5})
        assert told[:5] == [1, 2, 3, 4, 5]
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    assert open_index(here) == open_index(there)
    assert [*refused_of(here)] == [*refused_of(there)]
    whole = load_index(str(tmp_path / "typed"), ["video_id"]).table["video_id"].to_pylist()
    assert sorted(whole) == sorted(load_index(here, ["video_id"]).table["video_id"].to_pylist())


def test_shards_written_on_a_cluster_are_the_same(type_, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Videos are checked and shards written by tasks, whose folder is another: the list's paths are relative."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(40):  # three tasks check them
        (videos / f"{number:02d}.mp4").write_bytes(VIDEO)
    (videos / "07.mp4").write_bytes(b"?")
    (videos / "list.csv").write_text("path,labels\n" + "".join(f"{n:02d}.mp4,{'xy'[n % 2]}\n" for n in range(40)))
    monkeypatch.chdir(tmp_path)
    words = ["pack", "--manifest", "videos/list.csv", "--shard-size", 8 * len(VIDEO), "--workers", 2]
    found = {}
    for out, more in (("here", []), ("there", ["--ray"])):
        code, said, _ = type_(*words, "--out", out, *more)
        assert (code, said.splitlines()[0][:11]) == (0, "39 videos, ")
        assert "unreadable_video 1" in said
        found[out] = {path.name: path.read_bytes() for path in (tmp_path / out).iterdir() if path.name != "pack.json"}
    assert found["there"] == found["here"]
    assert len(found["here"]) > 4
    assert type_(*words, "--out", "there", "--address", "x")[0] == 2
    (tmp_path / "there" / "pack.json").unlink()
    gone = tmp_path / "there" / "shard-000001.tar"
    gone.unlink()
    assert type_(*words, "--out", "there", "--ray", "--resume")[0] == 0
    assert gone.read_bytes() == found["here"][gone.name]
