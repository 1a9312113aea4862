"""The formats that `adaptfocus pack --format` reads.

Input: the name of a format and where the annotations are. Does: calls its reader. Output: a Release.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import replace

from adaptfocus.pipelines.annotations.manifest import read_listed
from adaptfocus.pipelines.datasets.activitynet import read_activitynet
from adaptfocus.pipelines.datasets.breakfast import read_breakfast
from adaptfocus.pipelines.datasets.charades import read_charades, read_charades_sta
from adaptfocus.pipelines.datasets.multithumos import read_multithumos
from adaptfocus.pipelines.datasets.release import Release, ReleasedVideo
from adaptfocus.pipelines.errors import ConfigError

FORMATS = ("charades", "breakfast", "multithumos", "activitynet", "csv")


def read_release(
    name: str,
    annotations_url: str,
    *,
    classes: Sequence[str] | None = None,
    activities_as_labels: bool = False,
    sentences_urls: Sequence[str] = (),
) -> Release:
    """All videos of a release.

    Args:
        name: one of FORMATS.
        classes: of activitynet and csv; the others have class lists of their own.
        activities_as_labels: of breakfast: tags are activities, not actions.
        sentences_urls: of charades: files of Charades-STA.

    Raises:
        ConfigError: there is no such format, or an option is of another.
        InputError: the files are not those of this format.
        StorageError: they cannot be read.
    """
    if name not in FORMATS:
        raise ConfigError(f"there is no format '{name}'; there are: {', '.join(FORMATS)}")
    for given, option, formats in (
        (classes is not None, "--classes", ("activitynet", "csv")),
        (activities_as_labels, "--labels activities", ("breakfast",)),
        (bool(sentences_urls), "--sentences", ("charades",)),
    ):
        if given and name not in formats:
            raise ConfigError(f"{option} is of the format {' or '.join(formats)}, not of {name}")
    if name == "charades":
        sentences, problems = read_charades_sta(sentences_urls)
        release = read_charades(annotations_url)
        return replace(release, sentences=tuple(sentences), problems=(*release.problems, *problems))
    if name == "breakfast":
        return read_breakfast(annotations_url, activities_as_labels)
    if name == "multithumos":
        return read_multithumos(annotations_url)
    if name == "activitynet":
        return read_activitynet(annotations_url, classes)
    return _read_csv(annotations_url, classes)


def _read_csv(list_url: str, classes: Sequence[str] | None) -> Release:
    """A manifest: with a path a row, or without paths, where the files are looked for by the rows' ids."""
    videos = [
        ReleasedVideo(
            v.video_id, v.split, v.labels, v.intervals, path=v.path or None, names=(v.video_id,), group=v.group
        )
        for v, _ in read_listed(list_url, classes)
    ]
    names = classes if classes is not None else sorted({label for video in videos for label in video.labels})
    return Release(f"csv {posixpath.basename(list_url)}", tuple(names), tuple(videos))
