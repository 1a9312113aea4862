"""Start a localisation: of an index, or of plain videos, which are indexed on the way; here or on a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptfocus.infra.running.placement import check_this_machine, cpus_of
from adaptfocus.infra.running.progress import progress_bar
from adaptfocus.infra.running.run import OWN, check_ray, engine_of
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.over import Over, in_this_process
from adaptfocus.pipelines.store.strict_json import json_text
from adaptfocus.pipelines.store.urls import absolute
from adaptfocus.pipelines.url_secrets import redact_secrets

if TYPE_CHECKING:
    from adaptfocus.pipelines.index.build import IndexSummary
    from adaptfocus.trainers.localisation.localising import Localisation, Localised
    from adaptfocus.trainers.localisation.outputs import Outputs


@dataclass(frozen=True)
class Found:
    """What a localisation gave."""

    job: Localisation
    done: Localised
    out: Outputs
    scores: dict[str, Any] | None  # None: no interval of the index is known
    indexed: IndexSummary | None  # of plain videos
    strange: list[str]  # labels of the index that the run does not have: their intervals are not scored


def run_localisation(
    run_url: str,
    videos: Sequence[str],
    out_url: str,
    *,
    stride_seconds: float | None = None,
    epoch: int | None = None,
    threshold: float | None = None,
    calibrate: str | None = None,
    top: int | None = None,
    merge_seconds: float = 0.0,
    min_seconds: float = 0.0,
    tracks: bool = True,
    engine: str = "auto",
    address: str | None = None,
    overrides: list[str] | None = None,
) -> Found:
    """Localise the videos of one index, or plain videos.

    Args:
        videos: the URL of an index; or video files, folders, globs and URLs.
        epoch: counted from 0; the newest checkpoint if None.
        stride_seconds: from one score to the next; half of a clip's length if None, at most a second.

    Raises:
        ConfigError, InputError, StorageError: as `trainers.localisation.localise`.
    """
    from adaptfocus.infra.running.settings import with_placement
    from adaptfocus.trainers.evaluation.extraction import Extraction, make_here
    from adaptfocus.trainers.evaluation.feature_model import weights_of
    from adaptfocus.trainers.localisation.intervals import Rules
    from adaptfocus.trainers.localisation.localising import Localisation
    from adaptfocus.trainers.runs.open import classes_of, load_config

    config = with_placement(load_config(absolute(run_url)), overrides)
    out_url, classes = absolute(out_url), tuple(classes_of(config))
    weights = weights_of(config, epoch)
    calibrate = calibrate and absolute(calibrate)
    length = config.clip.frames * config.clip.stride_seconds(0.0)
    stride = min(1.0, length / 2) if stride_seconds is None else stride_seconds
    job = Localisation(
        Extraction(config, len(classes), weights, "", "scores", stride), classes, out_url,
        Rules(merge_seconds, min_seconds), threshold, calibrate, top, tracks,
    )  # fmt: skip
    job.check()
    store.check_writable(out_url)
    index_url, indexed = index_of(videos, out_url, classes)
    job = job.of_index(index_url)
    if engine_of(config, engine, address) == "local":
        return _localised(job, make_here, in_this_process, indexed)
    check_ray()
    from adaptfocus.infra.running.cluster import check_seen, connect
    from adaptfocus.trainers.on_ray.extraction import make_on_cluster
    from adaptfocus.trainers.on_ray.over import tasks_beside_decoding

    if address in OWN:  # it takes all GPUs of this machine
        check_this_machine(config.placement.model_copy(update={"worker_resources": {}, "gpus_per_worker": 0}))
    with connect(address, cpus=cpus_of(config)):
        places = {"the run": store.join(config.url, "config.json"), "the index": store.join(index_url, "snapshots")}
        check_seen(places)
        return _localised(job, make_on_cluster, tasks_beside_decoding(config), indexed)


def index_of(videos: Sequence[str], out_url: str, classes: Sequence[str]) -> tuple[str, IndexSummary | None]:
    """The URL of the index that was given, or of one that is made of plain videos in OUT/index.

    Raises:
        ConfigError: several indexes are given, or an index and plain videos; or OUT has scores of other videos.
        InputError: no video can be used.
    """
    from adaptfocus.pipelines.index.build import build_index

    indexes = [url for url in videos if is_index(absolute(url))]
    if indexes and len(videos) > 1:
        raise ConfigError(
            f"{indexes[0]} is an index, and {len(videos)} places are given; give one index, or only plain videos"
        )
    if indexes:
        return absolute(indexes[0]), None
    place = store.join(out_url, "index")
    if store.exists(store.join(out_url, "scores", "extraction.json")):
        check_same_videos(videos, out_url)
    with progress_bar("looking at videos") as progress:
        summary = build_index(videos, place, classes=classes, progress=progress, are_videos=True)
    return place, summary


def check_same_videos(videos: Sequence[str], out_url: str) -> None:
    """Scores belong to one state of OUT/index, so other videos in it would end every later command into OUT.

    Raises:
        ConfigError: the videos are not those of OUT/index.
    """
    from adaptfocus.pipelines.index.shard_lists import read_shards
    from adaptfocus.pipelines.index.snapshots import newest_snapshot
    from adaptfocus.pipelines.shards.find import find_videos
    from adaptfocus.pipelines.shards.plain import printable

    place = store.join(out_url, "index")
    snapshot = newest_snapshot(place)
    if snapshot is None:
        return
    scored = {each.url for name in snapshot.shard_lists for each in read_shards(place, name)}
    given = set(map(printable, find_videos(videos)))
    if given == scored:
        return
    examples = sorted(given ^ scored)
    raise ConfigError(
        f"{out_url} has scores of other videos: {len(given - scored)} that are given are not among them, and "
        f"{len(scored - given)} of them are not given, such as {redact_secrets(examples[0])}; give the same videos, "
        "or another --out"
    )


def is_index(url: str) -> bool:
    """Whether a folder has the snapshots of an index."""
    if url.startswith(("http://", "https://")):
        return False
    return bool(store.list_files(store.join(url, "snapshots"))) if not _is_file(url) else False


def _is_file(url: str) -> bool:
    fs, path = store.filesystem(url)
    return bool(fs.isfile(path))


def _localised(job: Localisation, make: Any, over: Over, indexed: IndexSummary | None) -> Found:
    from adaptfocus.pipelines.index.load import open_index
    from adaptfocus.trainers.localisation.localising import localise
    from adaptfocus.trainers.localisation.scored import score_localisation

    done, out = localise(job, make, over, _bar)
    scores = score_localisation(out, done.parts, done.index, done.index_fingerprint, done.stride_seconds)
    if scores is not None:
        store.write_bytes(store.join(out.url, "metrics.json"), json_text(scores, indent=1).encode())
    strange = sorted(set(open_index(done.index, done.index_fingerprint).classes) - set(job.classes))
    return Found(job, done, out, scores, indexed, strange)


@contextlib.contextmanager
def _bar(title: str) -> Iterator[Callable[[int, int], None]]:
    with progress_bar(title) as progress:
        yield progress
