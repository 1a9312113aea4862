"""Times become packets: the right frames, the right keyframe, the fewest bytes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines.video.packets import Packets, encode_packets
from adaptfocus.pipelines.video.spans import find_clips, packets_of, shown_pts


def table(pts: list[int], keys: list[int], sizes: list[int] | None = None, holes: list[int] | None = None) -> dict:
    """Packets in decoding order with presentation times `pts`; ticks of a tenth of a second."""
    sizes = sizes or [10] * len(pts)
    holes = holes or [0] * len(pts)
    offsets = np.cumsum([0, *[s + h for s, h in zip(sizes, holes, strict=True)]])[:-1]
    return {
        "video_id": "v", "access": "packets", "member_offset_bytes": 5000, "time_base_numerator": 1,
        "time_base_denominator": 10,
        "packets": encode_packets(Packets(
            offsets, np.array(sizes), np.array(pts), np.arange(len(pts)), np.isin(np.arange(len(pts)), keys)
        )),
    }  # fmt: skip


def shown(video: dict) -> np.ndarray:
    return shown_pts(video, packets_of(video))


def found_in(video: dict, *times_seconds: list[float]) -> tuple[list[list[int]], list[dict]]:
    return find_clips(video, packets_of(video), shown(video), [np.array(times) for times in times_seconds])


def one_span(video: dict, times_seconds: list[float]) -> dict:
    """The frames of one clip and its only span."""
    (frame_pts,), (span,) = found_in(video, times_seconds)
    return opened(span) | {"frame_pts": frame_pts}


def opened(span: dict) -> dict:
    """A span and the columns of its packets."""
    columns = {f"packet_{name}": values.tolist() for name, values in vars(packets_of(span)).items()}
    return span | columns


def test_the_frame_on_display_is_the_last_one_not_after_the_time() -> None:
    video = table([0, 10, 20, 30], [0])
    found = one_span(video, [0.99, 1.0, 1.01, 2.999, -5.0, 99.0])
    assert found["frame_pts"] == [0, 10, 10, 20, 0, 30]


def test_time_zero_is_the_first_frame_whatever_its_pts() -> None:
    video = table([500, 510, 520], [0])
    assert one_span(video, [1.0])["frame_pts"] == [510]


def test_the_range_begins_at_the_keyframe_and_ends_with_the_last_packet_needed() -> None:
    video = table(list(range(0, 100, 10)), [0, 4, 8], holes=[3] * 10)  # 3 bytes of audio after each packet
    found = one_span(video, [5.0, 6.0])
    assert found["frame_pts"] == [50, 60]
    assert found["packet_pts"] == [40, 50, 60]
    assert found["offset_bytes"] == 5000 + 4 * 13
    assert found["size_bytes"] == 2 * 13 + 10
    assert found["packet_offset_bytes"] == [0, 13, 26]


def test_an_open_gops_leading_pictures_are_decoded_from_the_keyframe_before() -> None:
    # Decoding order: I0 P3 B1 B2 | I6 (B4 B5 lead it: shown before it, decoded after it) B4 B5
    video = table([0, 30, 10, 20, 60, 40, 50], [0, 4])
    leading = one_span(video, [5.0])
    assert leading["frame_pts"] == [50]
    assert leading["packet_pts"] == [0, 30, 10, 20, 60, 40, 50]
    key = one_span(video, [6.0])
    assert key["packet_pts"] == [60]


def test_pictures_before_the_first_keyframe_are_not_shown() -> None:
    video = table([20, 0, 10, 30], [0])  # a cut stream: 0 and 10 lead a keyframe whose past is missing
    assert shown(video).tolist() == [20, 30]
    assert one_span(video, [0.0])["frame_pts"] == [20]


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_every_wanted_frame_is_in_the_range_and_the_first_packet_is_a_keyframe(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 60))
    keys = {0} | data.draw(st.sets(st.integers(0, count - 1), max_size=8))
    sizes = data.draw(st.lists(st.integers(1, 500), min_size=count, max_size=count))
    holes = data.draw(st.lists(st.integers(0, 50), min_size=count, max_size=count))
    times = data.draw(st.lists(st.floats(-1, count + 1), min_size=1, max_size=8))
    video = table([10 * i for i in range(count)], list(keys), sizes, holes)
    found = one_span(video, times)
    assert set(found["frame_pts"]) <= set(found["packet_pts"])
    assert found["packet_pts"][0] // 10 in keys
    ends = [o + s for o, s in zip(found["packet_offset_bytes"], found["packet_size_bytes"], strict=True)]
    assert found["packet_offset_bytes"][0] == 0
    assert max(ends) == found["size_bytes"]


def test_clips_of_one_gop_are_one_span_and_clips_far_apart_are_two() -> None:
    video = table(list(range(0, 200, 10)), [0, 10])
    frame_pts, spans = found_in(video, [2.0, 3.0], [5.0], [15.0])
    assert frame_pts == [[20, 30], [50], [150]]
    assert [opened(span)["packet_pts"] for span in spans] == [list(range(0, 60, 10)), list(range(100, 160, 10))]


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_spans_hold_every_clips_frames_and_no_packet_twice(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 60))
    keys = {0} | data.draw(st.sets(st.integers(0, count - 1), max_size=8))
    video = table([10 * i for i in range(count)], list(keys))
    clips = data.draw(st.lists(st.lists(st.floats(-1, count + 1), min_size=1, max_size=5), min_size=1, max_size=6))
    frame_pts, spans = found_in(video, *clips)
    packets = [pts for span in spans for pts in opened(span)["packet_pts"]]
    assert packets == sorted(set(packets))
    assert {pts for clip in frame_pts for pts in clip} <= set(packets)
    assert all(opened(span)["packet_pts"][0] // 10 in keys for span in spans)
