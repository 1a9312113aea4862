"""Downstream tasks read what was written, and an error about a broken rule names the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptfocus.pipelines.annotations.tasks import (
    ActivityVideo,
    Moment,
    SegmentedVideo,
    read_activities,
    read_grounding,
    read_segmentation,
    write_activities,
    write_grounding,
    write_segmentation,
)
from adaptfocus.pipelines.errors import InputError

SEGMENTED = {"video_id": "a", "split": "s1", "duration_seconds": 3.0, "segments": [[0, 1, "SIL"], [1, 3, "pour"]]}
ACTIVITY = {"video_id": "a", "split": None, "activities": ["tea"]}
MOMENT = {"video_id": "a", "split": "test", "start_seconds": 0, "end_seconds": 6.9, "sentence": "a person sits."}


def test_segments_come_back(store_url: str) -> None:
    # Borders at 15 frames a second are infinite decimals. After rounding, segments must still meet.
    thirds = tuple((k / 15, (k + 1) / 15, f"label {k % 2}") for k in range(40))
    videos = [
        SegmentedVideo("P03_cam01_P03_tea", "s1", 40 / 15, thirds),
        SegmentedVideo("é/ü", None, 2.0, ((0.0, 2.0, "SIL"),)),
    ]
    url = f"{store_url}/annotations/segmentation.jsonl"
    write_segmentation(url, videos)
    back = read_segmentation(url)
    assert [(v.video_id, v.split) for v in back] == [("P03_cam01_P03_tea", "s1"), ("é/ü", None)]
    assert back[1] == videos[1]
    for (start, end, label), (wanted_start, wanted_end, wanted_label) in zip(back[0].segments, thirds, strict=True):
        assert (start, end) == pytest.approx((wanted_start, wanted_end), abs=1e-6)
        assert label == wanted_label


def test_activities_and_moments_come_back(tmp_path: Path) -> None:
    videos = [ActivityVideo("a", "train", ("c001", "c002")), ActivityVideo("b", None, ())]
    write_activities(str(tmp_path / "activity.jsonl"), videos)
    assert read_activities(str(tmp_path / "activity.jsonl")) == videos
    moments = [Moment("a", "train", 0.0, 6.9, "a person puts a 'bag' down."), Moment("a", "train", 1.25, 2.5, "sits")]
    write_grounding(str(tmp_path / "grounding.jsonl"), moments)
    assert read_grounding(str(tmp_path / "grounding.jsonl")) == moments


@pytest.mark.parametrize(
    ("read", "row", "changed", "said"),
    [
        (read_segmentation, SEGMENTED, {"segments": [[0, 1, "SIL"], [1.5, 3, "pour"]]}, "'pour' begins at 1.5 s"),
        (read_segmentation, SEGMENTED, {"segments": [[0, 2, "SIL"], [1, 3, "pour"]]}, "'pour' begins at 1 s"),
        (read_segmentation, SEGMENTED, {"segments": [[0.5, 3, "SIL"]]}, "the previous one ends at 0 s"),
        (read_segmentation, SEGMENTED, {"duration_seconds": 4}, "ends at 3 s; duration_seconds is 4"),
        (read_segmentation, SEGMENTED, {"segments": [[0, 0, "SIL"]]}, "its end must be later"),
        (read_segmentation, SEGMENTED, {"segments": [[0, float("nan"), "SIL"]]}, "its end must be later"),
        (read_segmentation, SEGMENTED, {"segments": []}, "there are no segments"),
        (read_segmentation, SEGMENTED, {"segments": [["SIL", 0, 3]]}, "seconds must be numbers, not 'SIL'"),
        (read_segmentation, SEGMENTED, {"segments": [[0, 3]]}, "must be a list of"),
        (read_activities, ACTIVITY, {"activities": ["tea", "tea"]}, "occurs twice"),
        (read_activities, ACTIVITY, {"activities": "tea"}, "must be a list of names"),
        (read_activities, ACTIVITY, {"video_id": 7}, "video_id must be non-empty text"),
        (read_grounding, MOMENT, {"end_seconds": 0}, "goes from 0 to 0 s"),
        (read_grounding, MOMENT, {"start_seconds": -1}, "its start must be 0 or later"),
        (read_grounding, MOMENT, {"sentence": " "}, "sentence must be non-empty text"),
        (read_grounding, MOMENT, {"split": 1}, "split must be non-empty text"),
        (read_grounding, MOMENT, {"start_seconds": True}, "must be numbers, not True"),
    ],
)
def test_what_breaks_a_rule_is_said_with_its_line(tmp_path: Path, read, row: dict, changed: dict, said: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"\n{json.dumps(row)}\n")
    assert len(read(str(path))) == 1
    path.write_text(f"{json.dumps(row | {'video_id': 'b'})}\n\n{json.dumps(row | changed)}\n")
    with pytest.raises(InputError, match=f"line 3: .*{said}"):
        read(str(path))


def test_files_that_are_none_of_these_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for text, said in [
        ("", "holds no rows"),
        ("{", "line 1: Expecting"),
        ("[]", "line 1: holds list, not an object"),
        (json.dumps(ACTIVITY | {"x": 1}).replace("split", "Split"), "line 1: there is no 'split'"),
        (f"{json.dumps(ACTIVITY)}\n{json.dumps(ACTIVITY)}", "'a' occurs twice"),
    ]:
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            read_activities(str(path))
    path.write_bytes(b'{"video_id": "\xff"}')
    with pytest.raises(InputError, match=r"line 1: byte 14 .*is not UTF-8"):
        read_activities(str(path))
