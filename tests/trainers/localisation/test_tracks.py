"""Subtitles as players read them, and names of files."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines.annotations.names import unsafe_reason
from adaptfocus.trainers.localisation.tracks import safe_name, subrip, webvtt

CUES = [(3661.5, 3662.0, "put <cup> & --> plate"), (0.0, 1.2345, "run 0.90")]


def test_webvtt_literally() -> None:
    assert webvtt(CUES) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.234\nrun 0.90\n\n"
        "01:01:01.500 --> 01:01:02.000\nput &lt;cup&gt; &amp; --&gt; plate\n"
    )
    assert webvtt([]) == "WEBVTT\n"


def test_subrip_literally() -> None:
    assert subrip(CUES) == (
        "1\n00:00:00,000 --> 00:00:01,234\nrun 0.90\n\n2\n01:01:01,500 --> 01:01:02,000\nput <cup> & -> plate\n"
    )


def test_a_cue_without_length_is_still_shown() -> None:
    assert "00:00:01.000 --> 00:00:01.001" in webvtt([(1.0, 1.0, "a")])
    assert subrip([(0.0, 1.0, "long ---> arrow")]).count("-->") == 1, "shortening it must not leave an arrow"


@settings(deadline=None)
@given(st.lists(st.text(), min_size=2, max_size=6, unique=True))
def test_names_are_safe_and_different(ids: list[str]) -> None:
    names = [safe_name(video_id) for video_id in ids]
    assert len({name.lower() for name in names}) == len(ids)
    for name in names:
        assert unsafe_reason(name) is None
        assert "/" not in name
        assert len(name) <= 100
        assert not name.startswith((".", "-"))


def test_a_plain_name_stays() -> None:
    assert safe_name("kitchen_01.a") == "kitchen_01.a"
    assert safe_name("kitchen/01").startswith("kitchen_01-")
    assert safe_name("A") != "A"  # "a" may be another video
