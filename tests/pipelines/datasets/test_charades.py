"""Charades' files as they are: at full size with the known counts, and each quirk by itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from adaptfocus.pipelines.datasets.charades import read_charades, read_charades_sta
from adaptfocus.pipelines.datasets.formats import read_release
from adaptfocus.pipelines.datasets.release_summary import summarise
from adaptfocus.pipelines.errors import InputError
from tests.pipelines.datasets import official_sizes as sizes
from tests.pipelines.datasets.release_files import kinds, write


def test_charades_at_full_size(tmp_path: Path) -> None:
    sizes.write_charades(tmp_path)
    release = read_release("charades", str(tmp_path))
    summary = summarise(release, [*release.problems, *release.interval_problems()])
    assert summary.classes == 157
    assert summary.unused_classes == []
    test, train = summary.splits
    assert (train.split, train.videos, train.without_labels, train.ends_after_video) == ("train", 7985, 174, 14_596)
    assert (test.split, test.videos, test.without_labels, test.ends_after_video) == ("test", 1863, 49, 5027)
    assert (train.intervals, test.intervals) == (49_809, 16_691)
    assert train.no_time + test.no_time == 7
    # Every interval that ends late begins inside its video here, so it is cut and not dropped.
    assert summary.problems == {"interval_clamped": 14_596 + 5_027, "interval_dropped": 7}


CHARADES_CLASSES = "c000 Holding some clothes\nc001 Putting clothes somewhere\nc002 Holding some clothes\n"
CHARADES_HEADER = "id,subject,script,actions,length\n"


def test_charades_rows_that_stray(tmp_path: Path) -> None:
    rows = (
        'AAAAA,S1,"Walks in, sits; ""hi""",c001 11.90 21.20;c000 0.00 12.60;c001 1.00 2.00,20.5\n'
        "BBBBB,S1,x,,10\n"
        ",S1,x,c000 0 1,10\n"
        "CCCCC,S1,x,c000 5.00 4.00;c007 1 2;c000 1;c000 one two,ten\n"
    )
    files = {"Charades_v1_classes.txt": CHARADES_CLASSES, "a/Charades_v1_train.csv": CHARADES_HEADER + rows}
    release = read_charades(write(tmp_path, files))
    assert release.classes == (
        "Holding some clothes (c000)",
        "Putting clothes somewhere",
        "Holding some clothes (c002)",
    )
    first, second, third = release.videos
    assert first.labels == ("Putting clothes somewhere", "Holding some clothes (c000)")
    assert first.intervals is not None
    assert first.intervals[0] == ("Putting clothes somewhere", 11.9, 21.2), "clamped when the true length is known"
    assert (first.duration_seconds, first.split, first.activities) == (20.5, "train", first.labels)
    assert (second.labels, second.intervals) == ((), ())
    assert (third.labels, third.duration_seconds) == (("Holding some clothes (c000)",), None)
    wanted = {"bad_row": 1, "label_not_in_classes": 1, "bad_action": 2, "bad_length": 1, "missing_list": 1}
    assert kinds(release) == wanted
    assert Counter(p.kind for p in release.interval_problems()) == {"interval_clamped": 1, "interval_dropped": 1}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "there is no Charades_v1_classes.txt; needed are"),
        ({"Charades_v1_classes.txt": CHARADES_CLASSES}, "there are no lists"),
        ({"a/Charades_v1_classes.txt": "", "b/Charades_v1_classes.txt": ""}, "there are 2 Charades_v1_classes.txt"),
        ({"Charades_v1_classes.txt": "c000\n"}, "line 1: 'c000' is not an id and a name"),
        ({"Charades_v1_classes.txt": "c000 a\nc000 b\n"}, "line 2: the id c000 occurs twice"),
        (
            {"Charades_v1_classes.txt": CHARADES_CLASSES, "Charades_v1_test.csv": "id,actions\n"},
            "there is no column length",
        ),
        (
            {
                "Charades_v1_classes.txt": CHARADES_CLASSES,
                "Charades_v1_train.csv": CHARADES_HEADER + "A,,,,1\n",
                "Charades_v1_test.csv": CHARADES_HEADER + "A,,,,1\n",
            },
            "'A' occurs twice: Charades_v1_train.csv line 2 and Charades_v1_test.csv line 2",
        ),
        (
            {
                "Charades_v1_classes.txt": CHARADES_CLASSES,
                "a/Charades_v1_train.csv": CHARADES_HEADER,
                "b/Charades_v1_train.csv": CHARADES_HEADER,
            },
            "there are 2 Charades_v1_train.csv",
        ),
        (
            {"Charades_v1_classes.txt": CHARADES_CLASSES, "Charades_v1_train.csv": f"{CHARADES_HEADER}{'A' * 200_000}"},
            "does not parse as CSV after line 1",
        ),
        (
            {"Charades_v1_classes.txt": CHARADES_CLASSES, "Charades_v1_test.csv": CHARADES_HEADER + "../A,,,,1\n"},
            "the video id '../A' cannot be used",
        ),
    ],
)
def test_what_is_not_charades_is_said(tmp_path: Path, files: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_charades(write(tmp_path, files))


def test_charades_sta_lines(tmp_path: Path) -> None:
    text = "AO8RW 0.0 6.9##a person is putting a book on a shelf.\n\nAO8RW 1 2##  \nAO8RW 1##sits.\nAO8RW a b##sits.\n"
    sentences, problems = read_charades_sta([f"{write(tmp_path, {'sta.txt': text})}/sta.txt"])
    (one,) = sentences
    assert (one.video_id, one.start_seconds, one.end_seconds) == ("AO8RW", 0.0, 6.9)
    assert one.text == "a person is putting a book on a shelf."
    assert [(p.kind, p.where) for p in problems] == [("bad_sentence", f"sta.txt line {k}") for k in (3, 4, 5)]
