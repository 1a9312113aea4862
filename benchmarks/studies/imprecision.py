"""Annotation as people make it: intervals that start early, end late, or are missing.

The true intervals of an index are perturbed, and some are left out; the draws only depend on (seed, video id). The
result is an index of the same videos with the annotation that `full` is trained on. A label whose intervals are all
missing is removed as well, because a person who annotates intervals knows no other labels. Nothing is scored with this
index: scores and hit rates use the true intervals, and weak variants keep the true index and all of its tags.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.index.named import read_named
from adaptfocus.pipelines.index.partitions import ROWS, write_manifests, write_partition
from adaptfocus.pipelines.index.snapshots import fingerprint_of, newest_snapshot, partitions_of, write_snapshot
from adaptfocus.pipelines.schemas import INDEX_SCHEMA


@dataclass(frozen=True)
class Imprecision:
    """How imprecise an annotation is: shares of its intervals, each drawn independently of the others.

    Raises:
        ConfigError: a share outside 0 to 1, or a negative length.
    """

    early: float = 0.5  # start early
    late: float = 0.5  # end late
    missing: float = 0.1
    most: float = 1.0  # an end is off by a uniform share of up to this of the interval's length

    def __post_init__(self) -> None:
        for name in ("early", "late", "missing"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise ConfigError(f"{name} is {share}; a share of the intervals must be from 0 to 1")
        if not self.most >= 0:
            raise ConfigError(f"most is {self.most}; intervals are lengthened by 0 or more of their length")


def perturbed(
    intervals: Sequence[dict[str, Any]], duration_seconds: float, video_id: str, seed: int, how: Imprecision
) -> list[dict[str, Any]]:
    """The intervals of a video as an imprecise person would have marked them: a pure function of the arguments.

    Args:
        intervals: `label`, `start_seconds`, `end_seconds` of each.
        duration_seconds: of the video; no interval begins before 0 or ends after it.
        video_id: with the seed, decides the draws.
        seed: of the annotation.
        how: the shares.

    Returns:
        The intervals that are left, in their order.
    """
    rng = np.random.default_rng([seed, *video_id.encode()])
    kept = []
    for each in intervals:
        # All six numbers are drawn for each interval, so that a share only changes what it is a share of.
        is_missing, is_early, is_late = rng.random(3) < (how.missing, how.early, how.late)
        before, after = how.most * rng.random(2) * (each["end_seconds"] - each["start_seconds"])
        if is_missing:
            continue
        start = max(0.0, each["start_seconds"] - is_early * before)
        end = max(each["end_seconds"], min(duration_seconds, each["end_seconds"] + is_late * after))
        kept.append({**each, "start_seconds": float(start), "end_seconds": float(end)})
    return kept


def write_imprecise(index: Path, out: Path, seed: int, how: Imprecision) -> None:
    """Write the index `out`, which is `index` with perturbed intervals, under another name first, then rename it.

    A video without intervals (null) stays as it is.
    """
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(index, part)
    replace_rows(str(part), lambda videos: _with_annotation(videos, seed, how))
    part.rename(out)


def replace_rows(index_url: str, change: Callable[[pa.Table], pa.Table], classes: Sequence[str] | None = None) -> None:
    """Add a snapshot of the same videos with other columns.

    Args:
        change: rows of INDEX_SCHEMA -> the same rows, changed.
        classes: the class list if it changes.
    """
    before = newest_snapshot(index_url)
    assert before is not None, f"there is no index at {index_url}"
    partitions, counts = [], Counter[str]()
    for each in partitions_of(index_url, before):
        assert each.dead is None, "the rows of dead videos would come alive"
        rows = change(read_named(index_url, ROWS, each.name, INDEX_SCHEMA))
        made, labels = write_partition(index_url, each.uid, rows, (each.first_hash, each.last_hash))
        partitions.append(made)
        counts.update(labels)
    names = before.classes if classes is None else list(classes)
    manifests = write_manifests(index_url, partitions, len(partitions))
    after = replace(
        before, number=before.number + 1, parent=before.number, classes=names, manifests=manifests,
        fingerprint=fingerprint_of(before, names, manifests), label_counts={name: counts[name] for name in names},
        unlabelled=sum(each.unlabelled for each in partitions), max_labels=max(each.max_labels for each in partitions),
    )  # fmt: skip
    write_snapshot(index_url, after)


def _with_annotation(videos: pa.Table, seed: int, how: Imprecision) -> pa.Table:
    rows = videos.select(["video_id", "duration_seconds", "labels", "intervals"]).to_pylist()
    for row in rows:
        if row["intervals"] is not None:
            known = {each["label"] for each in row["intervals"]}
            row["intervals"] = perturbed(row["intervals"], row["duration_seconds"], row["video_id"], seed, how)
            left = {each["label"] for each in row["intervals"]}
            row["labels"] = [label for label in row["labels"] if label in left or label not in known]
    for name in ("labels", "intervals"):
        place = videos.schema.get_field_index(name)
        column = pa.array([row[name] for row in rows], videos.schema.field(name).type)
        videos = videos.set_column(place, videos.schema.field(name), column)
    return videos
