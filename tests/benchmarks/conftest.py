"""What tests of several benchmarks need."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.studies.people_videos import Corpus
from tests.benchmarks.stitched import CLASSES, PEOPLE, grey_of, write_clip


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of CLASS/PERSON_NUMBER.mp4; each clip has one grey, which identifies its class and person."""
    folder = tmp_path_factory.mktemp("clips")
    for label in CLASSES:
        for person in PEOPLE:
            write_clip(folder / label / f"{person}_1.mp4", grey_of(label, person))
    return folder


@pytest.fixture(scope="session")
def corpus(clips: Path) -> Corpus:
    return Corpus(
        "small", str(clips), held_out=("eve",), background=("rest",), train_videos=12, test_videos=3, min_seconds=20,
        max_seconds=30, min_labels=1, max_labels=2, fps=10, width=64, height=48,
    )  # fmt: skip
