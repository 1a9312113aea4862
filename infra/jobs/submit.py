"""A training as a job on a Ray cluster that is already there.

Input: what `train` takes, and the address of a cluster's dashboard.
Does: checks everything that can be checked before anything is sent, packs the code, submits through Ray Jobs, follows
the log. Output: the exit code of the job. Nothing that is sent holds a secret: a job's environment and command are
shown in the dashboard, so nodes need credentials of their own.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from adaptfocus.infra.jobs.client import JobClient, dashboard_url
from adaptfocus.infra.running.progress import console
from adaptfocus.infra.running.settings import settings_file, settings_from
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.trainers.runs.preparation import is_finished, prepare
from adaptfocus.trainers.settings.run import TrainConfig

PACKAGE = "adaptfocus"
MAX_PACKAGE_BYTES = 10_000_000  # the head keeps every package in its memory, and every node fetches it
SETTINGS_FILE = "settings.yaml"
# Where the store is, and no more: these are shown to everybody who sees the dashboard.
PASSED_ON = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")
FOR_ALL_PROCESSES = {
    "PYTHONUNBUFFERED": "1",  # lines of the log come as they are written
    # What a job that was stopped had reserved for its decoders stays reserved, 180 s by default: resumed at once on a
    # cluster without room for both, a run would stand still that long. A living job asks anew every 10 s.
    "RAY_DATA_AUTOSCALING_REQUEST_EXPIRE_TIME_S": "30",
}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
RUN_KEY = "adaptfocus_run"  # in a job's metadata: the run's URL


def submit_training(
    recipe_name: str,
    overrides: list[str],
    config_url: str | None,
    address: str,
    command: str,
    *,
    package: bool,
    check: bool,
    follow: bool,
    shared_paths: bool,
    take_over: bool = False,
) -> int:
    """Submit a run, or say that it is finished; the exit code of the command.

    Args:
        command: what the user typed, which is also how the run is resumed.
        package: send this code; without, the nodes must have adaptfocus installed.
        check: look at index, weights and run folder from here, as `train` does before it begins.
        shared_paths: local paths are on a file system that every node mounts at the same place.

    Raises:
        AdaptFocusError: settings, places, package or cluster are not fit for it; nothing has been submitted.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("submitting needs Ray's client, which is not installed; pip install 'adaptfocus[jobs]'")
    config = settings_from(recipe_name, overrides, config_url)
    if config.placement.engine == "local":
        raise ConfigError("a job trains on the cluster: leave placement.engine at auto, or use `adaptfocus train`")
    address = dashboard_url(address)
    visible_from_nodes(config, address, shared_paths)
    if check:
        prepare(config)
        if is_finished(config):
            console.print(f"{config.url} is finished: {config.epochs} epochs are trained", soft_wrap=True)
            return 0
    client = JobClient(address)
    client.refuse_second(RUN_KEY, config.url)
    settings = settings_file(config_url) if config_url else None
    typed = [*overrides, *(f"{key}={url}" for key, url in _paths(config).items())]
    with make_working_dir(settings, package) as folder:
        runtime_env: dict = {"env_vars": variables_to_pass()} | ({"working_dir": folder} if folder else {})
        job = client.submit(
            submission_id=f"{config.name}-{uuid.uuid4().hex[:6]}",
            entrypoint=entrypoint(recipe_name, typed, settings is not None, take_over),
            runtime_env=runtime_env,
            metadata={RUN_KEY: config.url, "adaptfocus_recipe": recipe_name},
        )
    _say_how_to_go_on(job, client.address, config.url, command)
    return client.follow(job) if follow else 0


def entrypoint(recipe_name: str, overrides: list[str], with_settings: bool, take_over: bool = False) -> str:
    """What the job runs on the head: the command that a user would type there."""
    more = (["--config", SETTINGS_FILE] if with_settings else []) + (["--take-over"] if take_over else [])
    return shlex.join(["python", "-m", "adaptfocus", "train", recipe_name, *overrides, *more, "--address", "auto"])


def variables_to_pass() -> dict[str, str]:
    """The variables of this environment that a job is given."""
    given = {name: store.check_url(os.environ[name]) for name in PASSED_ON if os.environ.get(name)}
    return given | FOR_ALL_PROCESSES


def visible_from_nodes(config: TrainConfig, address: str, shared_paths: bool) -> None:
    """Refuse places that only this machine sees.

    Raises:
        ConfigError: a local path, or a store on this machine's loopback for a cluster elsewhere.
    """
    for key, url in _paths(config).items():
        if not shared_paths:
            raise ConfigError(
                f"{key}={url} is a path of one machine, and a cluster's nodes each have their own; use s3://..., "
                "or say --shared-paths where every node mounts the same file system there"
            )
    given = variables_to_pass()
    endpoint = given.get("AWS_ENDPOINT_URL_S3") or given.get("AWS_ENDPOINT_URL", "")
    if urlsplit(endpoint).hostname in _LOOPBACK and urlsplit(address).hostname not in _LOOPBACK:
        raise ConfigError(
            f"AWS_ENDPOINT_URL is {endpoint}, which on a node is that node itself; give an address that the nodes reach"
        )


def _paths(config: TrainConfig) -> dict[str, str]:
    """The places that are paths, whole: a job works in a folder of its own."""
    places = {key: getattr(config, key) for key in ("runs", "index", "features", "weights", "start_from")}
    return {key: url for key, url in places.items() if url is not None and store.is_local(url)}


@contextlib.contextmanager
def make_working_dir(settings: dict | None, package: bool) -> Iterator[str | None]:
    """A temporary folder with this code and the settings, as the nodes will see it; None if there is nothing to send.

    Raises:
        ConfigError: it would be larger than MAX_PACKAGE_BYTES.
    """
    if not package and settings is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="adaptfocus-job-") as folder:
        if package:
            _copy_packages(Path(folder))
        if settings is not None:
            (Path(folder) / SETTINGS_FILE).write_text(yaml.safe_dump(settings))
        yield folder


def _copy_packages(folder: Path) -> None:
    files = dict(_files_of(PACKAGE))
    sizes = {source: source.stat().st_size for source in files.values()}
    if sum(sizes.values()) > MAX_PACKAGE_BYTES:
        largest = sorted(sizes, key=lambda path: -sizes[path])[:3]
        named = ", ".join(f"{path} ({sizes[path] / 1e6:.1f} MB)" for path in largest)
        raise ConfigError(
            f"the code to send has {sum(sizes.values()) / 1e6:.1f} MB, at most {MAX_PACKAGE_BYTES / 1e6:.0f} MB are "
            f"sent; the largest files are {named}. Move data out of {PACKAGE}'s folders, or install adaptfocus on "
            "the nodes and say --no-package"
        )
    for target, source in files.items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / target)  # links are followed: a node could not


def _files_of(package: str) -> Iterator[tuple[Path, Path]]:
    """(place in the working directory, file) of an importable package, wherever it is installed."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    top = Path(spec.submodule_search_locations[0])
    for folder, subfolders, names in os.walk(top, followlinks=True):  # in a checkout, pipelines and others are links
        subfolders[:] = sorted(name for name in subfolders if name != "__pycache__" and not name.startswith("."))
        for path in sorted(Path(folder) / name for name in names if not name.startswith(".")):
            yield Path(package) / path.relative_to(top), path


def _say_how_to_go_on(job: str, address: str, run_url: str, command: str) -> None:
    for line in (
        f"job {job} trains {run_url}",
        "  nodes use credentials of their own; of this environment they are given "
        f"{', '.join(n for n in PASSED_ON if os.environ.get(n)) or 'none of the AWS variables'}",
        f"  its log:     ray job logs {job} --address {address} --follow",
        f"  to stop it:  ray job stop {job} --address {address}",
        f"  to resume:   {command}",
        f"  all runs:    adaptfocus runs {run_url.rsplit('/', 1)[0]}",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
