"""Fixtures for all tests: a clean environment, two S3 stores, and a switch that forbids skipping.

The stores `local_s3` (moto, in another process) and `ceph_s3` (Ceph's gateway) run once a session. `s3_url`, `ceph_url`
and `store_url` give each test its own folder in them, with the environment set to reach it.

``ADAPTFOCUS_REQUIRE_ALL=1`` turns a skipped test that is marked ceph, chromium, footage, install or library into a
failed one. `.ci/run` sets it, so that a broken installation there does not leave things untested.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from adaptfocus.infra.demo.local_s3 import LocalS3
from tests.ceph import CephGateway, missing_programs
from tests.clean_install import build_wheel, install
from tests.s3_server import ExclusiveS3
from tests.worlds import SmallWorld, make_world

TESTS = Path(__file__).resolve().parent
MAY_BE_MISSING = ("ceph", "chromium", "footage", "install", "library")


def require_all() -> bool:
    return os.environ.get("ADAPTFOCUS_REQUIRE_ALL") == "1"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", r"error:::adaptfocus(\.|$)")


# Fixtures that bring a store, a rendered world or a process: what asks for one is not quick.
COSTLY = {"local_s3", "ceph_s3", "small_world", "wheel", "core_environment", "demo_environment", "browser", "type_"}
# Files whose tests decode, train or start processes by themselves, for more than five seconds in all.
COSTLY_FILES = {
    *("pipelines/apart/test_pool.py", "pipelines/apart/test_windows.py", "pipelines/decode/test_crops.py"),
    *("pipelines/decode/test_frames.py", "pipelines/decode/test_member.py", "pipelines/decode/test_windows.py"),
    *("pipelines/store/test_s3_get.py", "trainers/pretraining/test_clips.py", "trainers/loop/test_no_sync.py"),
    *("trainers/loop/test_step.py", "trainers/probes/test_probe_heads.py"),
    *("infra/jobs/test_submit.py", "infra/running/test_worlds.py"),
}


def name_of(test: Path) -> str:
    """A file's place below tests/."""
    return test.relative_to(TESTS).as_posix() if test.is_relative_to(TESTS) else test.name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `quick` what needs nothing but this process: `make check` runs these. Mark as `aside` what
    `tests/everything.py` runs in its second process."""
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        asks = set(getattr(item, "fixturenames", ())) & COSTLY or name_of(item.path) in COSTLY_FILES
        if not asks and not marks & {"ray", "slow", *MAY_BE_MISSING}:
            item.add_marker("quick")
        # What starts Ray mostly waits. The studies fill that process up, so that both end at about the same time.
        if ("ray" in marks and "install" not in marks) or name_of(item.path).startswith("benchmarks/"):
            item.add_marker("aside")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    report = yield
    marks = [name for name in MAY_BE_MISSING if item.get_closest_marker(name)]
    if report.skipped and not hasattr(report, "wasxfail") and marks and require_all():
        report.outcome = "failed"
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.longrepr = f"skipped although ADAPTFOCUS_REQUIRE_ALL=1 ({', '.join(marks)}): {reason}"
    return report


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide credentials, endpoint and profile of the person who runs the tests; do not wait for a cloud's metadata."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def use_environment(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    """Set these variables and forget the S3 clients made under others: fsspec keeps them by their arguments."""
    from s3fs import S3FileSystem

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()


def own_place(request: pytest.FixtureRequest, store: LocalS3 | CephGateway) -> str:
    """A folder URL that no other test writes to."""
    module = request.node.nodeid.split("::")[0].removesuffix(".py").replace("/", ".")
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    return store.url(module, name)


@pytest.fixture(scope="session")
def local_s3() -> Iterator[LocalS3]:
    """The S3 server of the demo, made exclusive, once for all tests. To write to it, ask for `s3_url`."""
    with ExclusiveS3() as server:
        yield server


@pytest.fixture
def s3_url(local_s3: LocalS3, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty folder in the local S3 server, with the environment set to reach it."""
    use_environment(monkeypatch, local_s3.environment)
    return own_place(request, local_s3)


@pytest.fixture(scope="session")
def ceph_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CephGateway]:
    """Ceph's gateway, once for all tests marked ceph. To write to it, ask for `ceph_url`."""
    missing = missing_programs()
    if missing:
        pytest.skip(
            f"not installed: {', '.join(missing)} "
            "(apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common)"
        )
    with CephGateway(tmp_path_factory.mktemp("ceph")) as gateway:
        yield gateway


@pytest.fixture
def ceph_url(ceph_s3: CephGateway, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty folder in the Ceph gateway, with the environment set to reach it."""
    use_environment(monkeypatch, ceph_s3.environment)
    return own_place(request, ceph_s3)


@pytest.fixture(params=["local", "moto", pytest.param("ceph", marks=pytest.mark.ceph)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder, once on this machine's disk, once in moto and once in Ceph."""
    if request.param == "local":
        return str(tmp_path / "store")
    return request.getfixturevalue({"moto": "s3_url", "ceph": "ceph_url"}[request.param])


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    """18 training and 6 test videos of about 25 s, packed and indexed on this machine's disk."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our wheel."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def core_environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of an environment with the wheel and its core dependencies."""
    return install(wheel, "", tmp_path_factory.mktemp("core") / "env")


@pytest.fixture(scope="session")
def demo_environment(wheel: Path, core_environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of an environment with the extra `demo`: Ray, S3, a local S3 server."""
    return install(wheel, "demo", tmp_path_factory.mktemp("demo") / "env", like=core_environment.parent)
