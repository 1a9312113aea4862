"""Cut clips out of a corpus: of a run's salient moments, or of a list, in processes of this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from adaptfocus.pipelines.over import in_processes
from adaptfocus.pipelines.store.urls import absolute

if TYPE_CHECKING:
    from adaptfocus.pipelines.cutting.clips import Clip, Cutting, Refused
    from adaptfocus.pipelines.cutting.moments import VideoMoments
    from adaptfocus.pipelines.cutting.shards import Clips

JOBS_AT_ONCE = 8192  # that are in memory, and that one set of processes cuts: about the videos of a partition

Told = Callable[..., None]


def clips_of_run(
    run_url: str, out_url: str, how: Cutting, *, seconds: float | None, min_score: float, per_video: int,
    per_label: int | None, epoch: int | None, shard_size_bytes: int, overwrite: bool, workers: int | None, tell: Told,
) -> Clips:  # fmt: skip
    """Cut the salient moments of a run.

    Args:
        seconds: length of a clip; that of the run's clips if None. epoch: counted from 0; the newest if None.

    Raises:
        ConfigError, InputError, StorageError: as `salient_videos` and `write_clips`.
    """
    from adaptfocus.pipelines.cutting.shards import check_room, import_webdataset, write_clips
    from adaptfocus.trainers.localisation.salient import SalientRules, clip_seconds, salient_videos
    from adaptfocus.trainers.runs.open import classes_of, load_config

    import_webdataset()
    run_url, out_url = absolute(run_url), absolute(out_url)
    config = load_config(run_url)
    rules = SalientRules(clip_seconds(config) if seconds is None else seconds, min_score, per_video, per_label)
    check_room(out_url, overwrite)
    results = cut_all(salient_videos(run_url, rules, epoch), how, workers, tell)
    settings = {"run": run_url, **vars(rules), **vars(how)}
    return write_clips(results, out_url, classes_of(config), shard_size_bytes, settings, {})


def clips_of_list(
    moments_url: str, index_url: str, out_url: str, how: Cutting, *, min_score: float, shard_size_bytes: int,
    overwrite: bool, workers: int | None, tell: Told,
) -> Clips:  # fmt: skip
    """Cut listed moments of an index. Those with a score below `min_score` are not used; they are counted.

    Raises:
        ConfigError, InputError, StorageError: as `read_moments`, `listed_videos` and `write_clips`.
    """
    from adaptfocus.pipelines.cutting.listed import listed_videos, read_moments
    from adaptfocus.pipelines.cutting.shards import check_room, import_webdataset, write_clips
    from adaptfocus.pipelines.index.load import open_index

    import_webdataset()
    moments_url, index_url, out_url = absolute(moments_url), absolute(index_url), absolute(out_url)
    listed, index, unknown = read_moments(moments_url), open_index(index_url), Counter[str]()
    good = {
        video: [each for each in own if each.score is None or each.score >= min_score] for video, own in listed.items()
    }
    if low := sum(map(len, listed.values())) - sum(map(len, good.values())):
        unknown["low_score"] += low
    labels = {each.label for own in listed.values() for each in own}
    classes = [*index.classes, *sorted(labels - set(index.classes))]
    check_room(out_url, overwrite)
    results = cut_all(listed_videos(good, index_url, index.fingerprint, unknown), how, workers, tell)
    settings = {"moments": moments_url, "index": index_url, "min_score": min_score, **vars(how)}
    return write_clips(results, out_url, classes, shard_size_bytes, settings, unknown)


def cut_all(
    parts: Iterable[list[VideoMoments]], how: Cutting, workers: int | None, tell: Told
) -> Iterator[Clip | Refused]:
    """The clips of all moments in their order, for any number of processes."""
    from adaptfocus.pipelines.cutting.clips import cut_video

    done = known = 0
    for jobs in _batches(parts):
        known += sum(len(job.moments) for job in jobs)
        for results in in_processes(workers)(jobs, partial(cut_video, how)):
            yield from results
            done += len(results)
            tell(done, known)


def _batches(parts: Iterable[list[Any]]) -> Iterator[list[Any]]:
    """Small parts together, so that each set of processes has enough to do."""
    held: list[Any] = []
    for part in parts:
        held += part
        if len(held) >= JOBS_AT_ONCE:
            yield held
            held = []
    if held:
        yield held
