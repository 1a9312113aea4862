"""Weak-FEAT's material of the benchmark on people: annotations for segmentation and grounding, from true intervals.

Nobody has written sentences about stitched videos. Each interval gets one sentence, a template with its class's name
in it. There are no activities: the order of actions in a video is drawn and means nothing.

    OUT/annotations/gestures-0/segmentation.jsonl, grounding.jsonl
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from adaptfocus.pipelines.annotations.tasks import (
    ANNOTATIONS,
    BACKGROUND,
    GROUNDING,
    SEGMENTATION,
    Moment,
    SegmentedVideo,
    write_grounding,
    write_segmentation,
)
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.worlds.config import SPLITS
from adaptfocus.pipelines.worlds.tasks import segments_of
from benchmarks.people import Study
from benchmarks.studies.people_videos import Corpus
from benchmarks.studies.weak_feat_runs import Material

TASKS = ("segmentation", "grounding")
FULL, WEAK = "full", "focused"
TEMPLATES = ("somebody makes {}", "here is {}", "the person in the video shows {}", "{} can be seen")


def materials_of(study: Study) -> list[Material]:
    """The material of each corpus and seed, in the study's order; the study is finished."""
    jobs = {(job.world, job.seed, job.variant): job.config for job in study.jobs()}
    return [
        Material(
            study.out,
            folder.name,
            corpus.seed,
            {split: str(folder / "index" / split) for split in SPLITS},
            str(annotate(corpus, folder, study.out / ANNOTATIONS / folder.name)),
            jobs[corpus.name, corpus.seed, FULL].url,
            jobs[corpus.name, corpus.seed, WEAK].url,
        )
        for corpus, folder in study.stitched()
    ]


def annotate(corpus: Corpus, folder: Path, out: Path) -> Path:
    """Write the tasks' files of a stitched corpus to `out`, which is returned. They are a pure function of the corpus.

    Raises:
        ConfigError: a label has the name that segmentation gives to all other time.
    """
    columns = ["video_id", "duration_seconds", "intervals"]
    videos = []
    for split in SPLITS:
        index = load_index(str(folder / "index" / split), columns)
        if BACKGROUND in index.classes:
            raise ConfigError(f"{corpus.name}: a label is called '{BACKGROUND}'; rename it, or give it in --background")
        videos += [(split, video) for video in index.table.to_pylist()]
    segmented = (
        SegmentedVideo(v["video_id"], split, v["duration_seconds"], segments_of(_intervals(v), v["duration_seconds"]))
        for split, v in videos
    )
    write_segmentation(str(out / SEGMENTATION), segmented)
    random = np.random.default_rng([corpus.seed, 3])
    write_grounding(str(out / GROUNDING), (m for split, v in videos for m in _moments(v, split, random)))
    return out


def _intervals(video: dict[str, Any]) -> list[tuple[str, float, float]]:
    """(label, start_seconds, end_seconds) in order of time."""
    found = [(each["label"], each["start_seconds"], each["end_seconds"]) for each in video["intervals"]]
    return sorted(found, key=lambda interval: interval[1])


def _moments(video: dict[str, Any], split: str, random: np.random.Generator) -> Iterator[Moment]:
    for label, start, end in _intervals(video):
        sentence = TEMPLATES[random.integers(len(TEMPLATES))].format(label.replace("_", " "))
        yield Moment(video["video_id"], split, start, end, sentence)
