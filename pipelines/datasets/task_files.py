"""The files that downstream tasks are measured with, of the videos that were packed.

Input: a Release, and how long each packed video is. Does: cuts segments and moments to the videos.
Output: ``OUT/annotations/segmentation.jsonl``, ``activity.jsonl`` and ``grounding.jsonl``, each where the release knows
of such a thing (`annotations.tasks`), and Problem rows. For videos that lie in tars already, a list of their tags, too.
"""

from __future__ import annotations

import json
import math
import posixpath
from collections.abc import Mapping

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.names import key_of
from adaptfocus.pipelines.annotations.rows import Problem
from adaptfocus.pipelines.annotations.tasks import (
    ACTIVITY,
    ANNOTATIONS,
    GROUNDING,
    SEGMENTATION,
    ActivityVideo,
    Moment,
    SegmentedVideo,
    write_activities,
    write_grounding,
    write_segmentation,
)
from adaptfocus.pipelines.datasets.release import Release, ReleasedVideo

# Frame labels and containers differ by some frames: by more than this, the labels may be of another video.
SLACK_SECONDS = 1.0


def write_tasks(release: Release, out_url: str, seconds: Mapping[str, float]) -> list[Problem]:
    """Write the files; the videos' ids in them are those of an index of the shards.

    Problem kinds: ``labels_too_long``, ``labels_too_short`` (segments end over a second after or before their video;
    what sticks out is cut off), ``moment_clamped``, ``moment_dropped``, ``sentence_without_video``.
    """
    packed = [video for video in release.videos if video.video_id in seconds]
    problems: list[Problem] = []
    segmented = [_cut(video, seconds[video.video_id], problems) for video in packed if video.segments]
    if segmented:
        write_segmentation(store.join(out_url, ANNOTATIONS, SEGMENTATION), segmented)
    active = [
        ActivityVideo(key_of(video.video_id), video.split, video.activities)
        for video in packed
        if video.activities is not None
    ]
    if active:
        write_activities(store.join(out_url, ANNOTATIONS, ACTIVITY), active)
    moments, wrong = moments_of(release, seconds)
    if moments:
        write_grounding(store.join(out_url, ANNOTATIONS, GROUNDING), moments)
    return problems + wrong


def write_list(release: Release, list_url: str, with_intervals: bool = True) -> list[Problem]:
    """What `adaptfocus index --labels` reads, for tars that hold the videos already under their ids.

    Beside the list go ``classes.txt`` and the files of `write_tasks`, by the lengths that the release states.
    """
    rows = []
    for video in release.videos:
        row = {"id": key_of(video.video_id), "labels": video.labels, "split": video.split}
        rows.append(row | ({"intervals": video.intervals} if with_intervals and video.intervals is not None else {}))
    folder = posixpath.dirname(list_url) or "."
    store.write_bytes(list_url, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    store.write_bytes(store.join(folder, "classes.txt"), "".join(f"{c}\n" for c in release.classes).encode())
    return write_tasks(release, folder, stated_seconds(release))


def stated_seconds(release: Release) -> dict[str, float]:
    """How long the release says that each video is, by id; infinite where it does not."""
    return {video.video_id: video.duration_seconds or math.inf for video in release.videos}


def _cut(video: ReleasedVideo, duration_seconds: float, problems: list[Problem]) -> SegmentedVideo:
    """Its segments up to the video's end; what of the video lies after the last one has no label."""
    segments = video.segments
    assert segments
    end = segments[-1][1]
    if abs(end - duration_seconds) > SLACK_SECONDS:
        kind = "labels_too_long" if end > duration_seconds else "labels_too_short"
        said = f"its labels end at {end:.2f} s, the video at {duration_seconds:.2f} s"
        problems.append(Problem(kind, video.video_id, said))
    last = min(end, duration_seconds)
    kept = tuple((a, min(b, last), label) for a, b, label in segments if a < last)
    return SegmentedVideo(key_of(video.video_id), video.split, last, kept)


def moments_of(release: Release, seconds: Mapping[str, float]) -> tuple[list[Moment], list[Problem]]:
    """The sentences about the videos of `seconds`, cut to these lengths, and what is wrong with the others."""
    split_of = {video.video_id: video.split for video in release.videos if video.video_id in seconds}
    moments: list[Moment] = []
    problems: list[Problem] = []
    for sentence in release.sentences:
        where = f"{sentence.where} ({sentence.video_id})"
        if sentence.video_id not in split_of:
            problems.append(Problem("sentence_without_video", where, "its video is not there"))
            continue
        start = max(sentence.start_seconds, 0.0)
        end = min(sentence.end_seconds, seconds[sentence.video_id])
        shown = f"{sentence.start_seconds:g} to {sentence.end_seconds:g} s"
        if not start < end < math.inf:
            problems.append(Problem("moment_dropped", where, f"{shown} holds no time of the video; it was left out"))
            continue
        if (start, end) != (sentence.start_seconds, sentence.end_seconds):
            problems.append(Problem("moment_clamped", where, f"{shown} was cut to {start:g} to {end:g} s"))
        moments.append(Moment(key_of(sentence.video_id), split_of[sentence.video_id], start, end, sentence.text))
    return moments, problems
