"""Files of a release and what was read of them: what the tests of data sets share."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from adaptfocus.pipelines.datasets.release import Release, ReleasedVideo


def kinds(release: Release) -> Counter[str]:
    return Counter(problem.kind for problem in release.problems)


def by_id(release: Release) -> dict[str, ReleasedVideo]:
    return {video.video_id: video for video in release.videos}


def write(folder: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return str(folder)
