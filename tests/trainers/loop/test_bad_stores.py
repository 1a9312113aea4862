"""Training against a faulty store: the same run, or one clear message; never a good video in quarantine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from adaptfocus.infra.demo.local_s3 import LocalS3
from adaptfocus.pipelines import store as storage
from adaptfocus.pipelines.errors import ReplacedError, own_error_in
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.trainers.errors import StoppedError
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.training import train
from adaptfocus.trainers.runs.ledger import audit
from adaptfocus.trainers.runs.log import Run
from adaptfocus.trainers.runs.preparation import prepare
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.faults.s3_faults import FaultyStore
from benchmarks.store_faults import FAULTS, plan_and_ledger_differ
from tests.conftest import own_place, use_environment
from tests.worlds import SmallWorld


@pytest.fixture
def store(local_s3: LocalS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStore]:
    with FaultyStore(local_s3) as found:
        use_environment(monkeypatch, found.environment)
        yield found


@pytest.fixture
def config(store: FaultyStore, small_world: SmallWorld, request: pytest.FixtureRequest) -> TrainConfig:
    """A run whose tars, index and folder lie in the store."""
    url = own_place(request, store.store)  # type: ignore[arg-type]
    for path in sorted((small_world.folder / "shards-train").glob("*.tar")):
        storage.write_bytes(storage.join(url, "shards", path.name), path.read_bytes())
    build_index([f"{url}/shards"], f"{url}/index", classes=small_world.config.classes, workers=1)
    return small_world.run_config(f"{url}/runs", "run", f"index={url}/index")


def trained(config: TrainConfig) -> Run:
    prepare(config)
    train(config, LocalEngine(config.plan.bags_per_batch))
    return Run(config.url)


def shards_of(config: TrainConfig) -> list[str]:
    return storage.list_files(config.index.replace("/index", "/shards"))


def replace_shards(config: TrainConfig) -> None:
    """The same tars, written again with a byte of padding changed: other tags, as long as before."""
    for url in shards_of(config):
        data = bytearray(storage.read_bytes(url))
        data[-1] ^= 1
        storage.write_bytes(url, bytes(data))


@pytest.mark.slow
def test_bad_days_change_nothing_of_a_run(store: FaultyStore, config: TrainConfig) -> None:
    """503s, resets and broken bodies, of shards and of the run's own files: plan and ledger are the same."""
    undisturbed = trained(config)
    store.reset(faults=FAULTS)
    disturbed = trained(config.model_copy(update={"name": "disturbed"}))
    assert sum(store.played().values()) >= 10, "too few faults to say anything"
    assert plan_and_ledger_differ(disturbed, undisturbed) == 0
    found = audit(disturbed)
    assert (found.clips_lost, found.clips_twice, found.clips_undecodable) == (0, 0, 0)
    metrics = [e.metrics for e in disturbed.entries() if e.kind == "checkpoint"]
    retries = sum(m["read_retries"] for m in metrics)
    by_reason = [m[name] for m in metrics for name in m if name.startswith("read_retries_")]
    assert retries == sum(by_reason)
    assert not any(e.metrics.get("read_retries") for e in undisturbed.entries())


def test_a_shard_that_is_replaced_under_a_run_ends_it(config: TrainConfig) -> None:
    prepare(config)
    replace_shards(config)
    with pytest.raises(ReplacedError, match=r"\.tar has been replaced .* restore it, or index again and begin a new"):
        train(config, LocalEngine(config.plan.bags_per_batch))
    assert [e.kind for e in Run(config.url).entries()] == ["start"]
    replace_shards(config)
    run = trained(config)
    assert audit(run).clips_undecodable == 0, "restored, the run goes on"


@pytest.mark.parametrize("backend", ["packets", "demux"])
def test_a_local_file_that_is_replaced_is_named(small_world: SmallWorld, tmp_path: Path, backend: str) -> None:
    """This also works behind a symbolic link, which has its own time."""
    folder, behind = tmp_path / "shards", tmp_path / "behind"
    folder.mkdir()
    behind.mkdir()
    for path in sorted((small_world.folder / "shards-train").glob("*.tar")):
        (behind / path.name).write_bytes(path.read_bytes())
        os.utime(behind / path.name, (5, 5))
        (folder / path.name).symlink_to(behind / path.name)
    build_index(
        sorted(map(str, folder.iterdir())), str(tmp_path / "index"), classes=small_world.config.classes, workers=1
    )
    config = small_world.run_config(tmp_path / "runs", "run", f"index={tmp_path}/index", f"decode.backend={backend}")
    prepare(config)
    for path in behind.glob("*.tar"):
        os.utime(path, (9, 9))
    with pytest.raises(ReplacedError, match=r"has been replaced .* with its time of modification \(cp -p\)"):
        train(config, LocalEngine(config.plan.bags_per_batch))
    assert [e.kind for e in Run(config.url).entries()] == ["start"]


def test_ones_own_error_is_found_inside_rays() -> None:
    """As it comes from a decoding task, through the process that hands out blocks, to a rank."""
    exceptions = pytest.importorskip("ray.exceptions")
    error: Exception = ReplacedError("s3://b/a.tar has been replaced")
    for hop in ("decode", "hand out"):
        sent = exceptions.RayTaskError(hop, "Traceback of many lines", error)
        error = exceptions.RayTaskError.from_bytes(sent.to_bytes()).as_instanceof_cause()
    found = own_error_in(error)
    assert isinstance(found, ReplacedError)
    assert str(found) == "s3://b/a.tar has been replaced"
    assert own_error_in(ValueError("x")) is None


@pytest.mark.slow
@pytest.mark.ray
def test_a_replaced_shard_ends_a_run_on_ray_with_one_message(config: TrainConfig) -> None:
    """One rank meets it first. The others must not wait for it, and the group is not started three more times."""
    pytest.importorskip("ray")
    from adaptfocus.infra.running.cluster import connect
    from adaptfocus.trainers.on_ray.train import fit

    placement = {"engine": "ray", "workers": 2, "decode_workers": 2}
    config = TrainConfig.model_validate(config.model_dump() | {"placement": placement})
    prepare(config)
    replace_shards(config)
    with connect(None, cpus=8), pytest.raises(StoppedError, match=r"\.tar has been replaced .* begin a new run"):
        fit(config)
    assert len([e for e in Run(config.url).entries() if e.kind == "start"]) <= 2
    assert not [url for url in storage.list_files(config.url) if "failure-" in url]
