"""Starts of the backbone for the benchmark on people, made from the training side only, as `adaptfocus pretrain` does.

`order` learns from the training videos, and reads no label. `labels` learns the classes of trimmed clips: those of the
background classes, by the groups of the training videos. No label of the benchmark is among them.

    OUT/starts/gestures-0-order.pt        the start of seed 0; its run is OUT/starts/gestures-0-order.pt.run
    OUT/trimmed/gestures-0/index          the trimmed clips of `labels`
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adaptfocus.pipelines.annotations.rows import AnnotatedVideo
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.shards.packing import pack
from adaptfocus.trainers.evaluation.export import export_model
from adaptfocus.trainers.settings.run import TrainConfig
from benchmarks.studies.people_videos import Corpus, is_made, make_corpus, read_clips, split_of
from benchmarks.studies.regime_runs import train_here

StartTask = Literal["order", "labels"]


@dataclass(frozen=True)
class Start:
    """A start of one corpus and seed."""

    url: str
    config: TrainConfig  # of the run whose last weights it is
    cache_folder: str | None = None  # of frames that were decoded once


def is_all_made(corpus: Corpus, folder: Path, start: Start | None) -> bool:
    """Whether the corpus and its start are there. Raises as `is_made`."""
    return is_made(corpus, folder) and (start is None or Path(start.url).exists())


def make_corpus_and_start(corpus: Corpus, folder: Path, start: Start | None) -> None:
    """Make what is missing of a corpus and of its start. The start is written completely or not at all."""
    if not is_made(corpus, folder):
        make_corpus(corpus, folder)
    if start is None or Path(start.url).exists():
        return
    if start.config.task == "labels" and not (Path(start.config.index) / "snapshots").exists():
        pack_trimmed(corpus, Path(start.config.index).parent)
    train_here(start.config, start.cache_folder)
    export_model(start.config.url, start.url, "torch")


def pack_trimmed(corpus: Corpus, folder: Path) -> None:
    """Pack and index the background clips of the training groups, each with its class as its label.

    Raises:
        ConfigError: they have fewer than two classes, so that there is nothing to tell apart.
    """
    split = split_of(corpus, read_clips(corpus.source))
    clips = [clip for name in split.background for clip in split.clips["train"][name]]
    classes = sorted({clip.label for clip in clips})
    if len(classes) < 2:
        raise ConfigError(
            f"{corpus.name}: its background has one class, {classes[0]}; a start by `labels` needs two or more: name "
            "more classes in its background, or take the start `order`"
        )
    videos = [
        AnnotatedVideo(f"clip-{number:05d}", clip.path, (clip.label,), split="train", group=clip.group)
        for number, clip in enumerate(clips)
    ]
    shutil.rmtree(folder, ignore_errors=True)
    pack(videos, str(folder / "shards"), classes=classes)
    build_index([str(folder / "shards")], str(folder / "index"), classes=classes, workers=1)
