"""The plan of an epoch depends only on its arguments."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.plan.draw import plan_clips
from adaptfocus.pipelines.plan.order import order_of_epoch
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.resolve import resolve
from adaptfocus.pipelines.plan.settings import ClipConfig, DrawRules, PlanConfig
from adaptfocus.pipelines.plan.views import plan_views
from adaptfocus.pipelines.saliency.bins import Bins
from adaptfocus.pipelines.saliency.settings import SaliencyConfig
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable
from adaptfocus.pipelines.schemas import INDEX_SCHEMA, NO_LABEL, EpochPlan
from adaptfocus.pipelines.video.packets import Packets, encode_packets
from adaptfocus.pipelines.video.spans import packets_of

CLIP = ClipConfig(frames=4, frame_stride=1, fps=5.0, size_pixels=16)
RULES = DrawRules(clips_per_bag=3, bags_per_batch=2, explore_probability=0.5, delta=0.15, focus_from_epoch=1)
CLASSES = ("jump", "run", "sit")


def video(number: int, labels: list[str], seconds: int = 40, gop: int = 10, fps: int = 5) -> dict:
    """A row of the index whose packets are 100 bytes each, one after the other."""
    frames = seconds * fps
    at = np.arange(frames)
    return {
        "video_id": f"v{number}", "shard_url": "shard.tar", "member_name": f"v{number}.mp4",
        "member_offset_bytes": 1000 * number, "member_size_bytes": 100 * frames, "codec": "h264", "extradata": b"x",
        "width": 64, "height": 48, "rotation_degrees": 0, "is_mirrored": False,
        "pixel_aspect_numerator": 1, "pixel_aspect_denominator": 1,
        "time_base_numerator": 1, "time_base_denominator": fps,
        "duration_seconds": float(seconds), "frame_rate_hz": float(fps), "labels": labels,
        "intervals": [{"label": name, "start_seconds": 10.0, "end_seconds": 20.0} for name in labels],
        "access": "packets", "indexed_by": "header", "keys_in_order": True, "packet_count": frames,
        "packets": encode_packets(Packets(100 * at, np.full(frames, 100), at, at, at % gop == 0)),
    }  # fmt: skip


def planner_of(videos: list[dict]) -> Planner:
    light = [{name: value for name, value in row.items() if name != "packets"} for row in videos]
    table = pa.Table.from_pylist(light, schema=INDEX_SCHEMA)
    return Planner.of(table.append_column("packets", [[row["packets"] for row in videos]]), CLASSES)


def with_frames(plan: EpochPlan, planner: Planner | None = None) -> list[dict]:
    """The bags of a plan with the frames and packets of their clips."""
    planner = planner or FIVE
    videos = planner.table.take(planner.places(plan.table.column("video_row").to_numpy()))
    found = resolve(plan.table, videos.column("packets").to_pylist()).to_pylist()
    return [drawn | bag for drawn, bag in zip(plan.table.to_pylist(), found, strict=True)]


FIVE = planner_of([video(n, ["jump", "sit"] if n % 2 else ["run"]) for n in range(5)])


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8).filter(any), st.data())
@settings(max_examples=40, deadline=None)
def test_a_video_is_found_in_whichever_chunk_it_lies(sizes: list[int], data: st.DataObject) -> None:
    """An index has a chunk of rows for each shard, and some shards have none."""
    rows = [{"video_id": f"v{n}", "labels": []} for n in range(sum(sizes))]
    schema, ends = pa.schema([("video_id", pa.string()), ("labels", pa.list_(pa.string()))]), np.cumsum(sizes)
    parts = [pa.Table.from_pylist(rows[end - size : end], schema) for size, end in zip(sizes, ends, strict=True)]
    planner = Planner.of(pa.concat_tables(parts), ())
    row = data.draw(st.integers(0, len(rows) - 1))
    assert planner.video(row) == rows[row]


def draw(planner: Planner = FIVE, saliency: SaliencyTable | None = None, **changes) -> EpochPlan:
    arguments = {"seed": 7, "epoch": 0, "clip": CLIP, "rules": RULES, "staleness": 0.98} | changes
    return plan_clips(planner, saliency or planner.empty_saliency(SaliencyConfig()), **arguments)


def centers(plan: EpochPlan) -> list[list[float]]:
    return [[clip["center_seconds"] for clip in clips] for clips in plan.table.column("clips").to_pylist()]


def visited(planner: Planner, tau: float, score: float = 0.8) -> SaliencyTable:
    """A snapshot in which every action of every video has its spike at `tau`."""
    empty = planner.empty_saliency(SaliencyConfig())
    bins = Bins(empty.bins.score.clone(), empty.bins.tau.clone(), empty.bins.epoch.clone())
    b = int(tau * 20)
    bins.score[:, b], bins.tau[:, b], bins.epoch[:, b] = score, tau, 0
    return dataclasses.replace(empty, bins=bins)


def test_the_literal_plan_of_seed_7() -> None:
    """Pins the sampler itself. Change these numbers only together with a major version: every resumed or replayed
    run of a user would otherwise silently train on other clips."""
    plan = draw()
    assert plan.table.column("video_id").to_pylist() == LITERAL_ORDER
    assert plan.carried == LITERAL_CARRIED
    assert np.round(centers(plan), 4).tolist() == LITERAL_CENTERS


LITERAL_ORDER = ["v0", "v4", "v1", "v3"]
LITERAL_CARRIED = (2,)
LITERAL_CENTERS = [
    [29.1117, 19.7153, 36.7088],
    [28.0495, 37.4069, 37.8326],
    [38.7253, 27.2477, 26.5399],
    [14.0153, 29.1595, 34.5238],
]


def test_the_literal_frames_and_packets_of_seed_7() -> None:
    """The digests are those of plans of version 1, whose spans were lists of numbers: a new form moves no clip."""
    rows = [one_row_of_old(row) for row in with_frames(draw(saliency=visited(FIVE, 0.3), epoch=1))]
    spans = [spelt_out(span) for row in rows for span in row["spans"]]
    assert [[clip["frame_pts"][0] for clip in row["clips"]] for row in rows[:1]] == [[32, 22, 65]]
    assert [(offset, pts) for offset, _, _, _, pts, *_ in spans[:1]] == [(4000, [20, 21, 22, 23, 24, 25])]
    assert digest(spans) == "667c195091b15579c3d2e2da24c46afec55b96ee355ad7f98d076c821b1da1de"
    others = [{name: value for name, value in row.items() if name not in ("spans", "extradata")} for row in rows]
    assert digest(others) == "0a7edd9dd96be06afbaccf3c72aabd76be93c79b750e31ea3c266d1fd80c6ce7"


OLD_COLUMNS = (
    *("slot", "video_row", "occurrence", "video_id", "shard_url", "member_name", "member_offset_bytes"),
    *("member_size_bytes", "shard_size_bytes", "shard_tag", "codec", "extradata", "rotation_degrees", "is_mirrored"),
    *("pixel_aspect_numerator", "pixel_aspect_denominator", "access", "keys_in_order", "duration_seconds", "label_ids"),
    *("clips", "spans", "clip_positive", "saliency_score", "saliency_tau", "saliency_epoch"),
)


def one_row_of_old(row: dict) -> dict:
    """A bag in the form of plans before version 3, which the digests are of."""
    order = ("clip_id", "center_seconds", "tau", "focus_label_id", "frame_pts")
    clips = [{name: clip[name] for name in order} for clip in row["clips"]]
    return {name: row[name] for name in OLD_COLUMNS} | {"clips": clips}


def spelt_out(span: dict) -> list:
    packets = packets_of(span)
    columns = (packets.offset_bytes, packets.size_bytes, packets.pts, packets.dts, packets.is_key)
    return [span["offset_bytes"], span["size_bytes"], *(column.tolist() for column in columns), span["continues"]]


def digest(rows: list) -> str:
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


@given(st.integers(0, 2**32 - 1), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_the_same_arguments_give_the_same_plan_and_another_epoch_another(seed: int, epoch: int) -> None:
    one, again = draw(seed=seed, epoch=epoch), draw(seed=seed, epoch=epoch)
    assert one.table.equals(again.table)
    assert one.carried == again.carried
    assert centers(one) != centers(draw(seed=seed, epoch=epoch + 1))


def test_a_videos_draws_do_not_depend_on_which_other_videos_there_are() -> None:
    alone = {row["video_id"]: row["clips"] for row in draw().table.to_pylist()}
    more = draw(planner_of([video(n, ["run"]) for n in range(50, 70)] + FIVE.table.to_pylist()))
    shared = [row for row in more.table.to_pylist() if row["video_id"] in alone]
    assert len(shared) >= 4
    for row in shared:
        assert [c["center_seconds"] for c in row["clips"]] == [c["center_seconds"] for c in alone[row["video_id"]]]


def test_order_is_a_permutation_and_keeps_the_relative_order_of_a_part() -> None:
    names = [f"n{i}" for i in range(200)]
    order = order_of_epoch(names, 5, 3)
    assert sorted(order) == list(range(200))
    assert order != list(range(200))
    part = random.Random(0).sample(names, 50)
    whole = [names[i] for i in order if names[i] in part]
    assert whole == [part[i] for i in order_of_epoch(part, 5, 3)]


def test_the_tail_is_carried_into_the_next_epoch_and_nothing_is_lost() -> None:
    seen: list[int] = []
    carried: tuple[int, ...] = ()
    for epoch in range(4):
        plan = draw(epoch=epoch, carried=carried)
        assert plan.table.num_rows % RULES.bags_per_batch == 0
        rows = plan.table.column("video_row").to_pylist()
        assert rows[: len(carried)] == list(carried)
        seen, carried = seen + rows, plan.carried
    assert sorted([*seen, *carried]) == sorted(list(range(5)) * 4)


def test_a_video_with_two_bags_in_an_epoch_gets_other_clips_in_the_second() -> None:
    plan = draw(epoch=1, carried=(3,))
    both = [row for row in plan.table.to_pylist() if row["video_row"] == 3]
    assert [row["occurrence"] for row in both] == [0, 1]
    assert [c["center_seconds"] for c in both[0]["clips"]] != [c["center_seconds"] for c in both[1]["clips"]]
    ids = [c["clip_id"] for row in plan.table.to_pylist() for c in row["clips"]]
    assert len(set(ids)) == len(ids)


def test_excluded_videos_are_never_planned_not_even_when_carried() -> None:
    plan = draw(carried=(2,), excluded=(2, 4))
    assert not {2, 4} & {*plan.table.column("video_row").to_pylist(), *plan.carried}


def test_too_few_videos_for_a_batch_is_an_error_with_the_fix() -> None:
    with pytest.raises(ConfigError, match=r"2 usable videos do not fill one global batch of 4; lower plan.bags_per"):
        draw(rules=dataclasses.replace(RULES, bags_per_batch=4), excluded=(0, 1, 2))


def test_saliency_moves_the_clips_of_the_next_epoch() -> None:
    """The feedback itself: a snapshot that says 'at 0.3' draws half of the clips there; poisoned to say 'at 0.9',
    the very same draws move there, and the exploring clips stay where they were."""
    true, poisoned = (draw(saliency=visited(FIVE, tau), epoch=1) for tau in (0.3, 0.9))
    moved = stayed = 0
    for before, after in zip(true.table.to_pylist(), poisoned.table.to_pylist(), strict=True):
        for a, b in zip(before["clips"], after["clips"], strict=True):
            if a["focus_label_id"] == NO_LABEL:
                assert a["center_seconds"] == b["center_seconds"]
                stayed += 1
            else:
                assert abs(a["tau"] - 0.3) <= RULES.delta + 1e-9
                assert abs(b["tau"] - 0.9) <= RULES.delta + 1e-9
                moved += 1
    assert moved >= 3
    assert stayed >= 3


@pytest.mark.parametrize("rules", [dataclasses.replace(RULES, focus_from_epoch=None), RULES])
def test_nothing_is_focused_without_resampling_or_during_warm_up(rules: DrawRules) -> None:
    epoch = 3 if rules.focus_from_epoch is None else 0
    plan = draw(saliency=visited(FIVE, 0.3), epoch=epoch, rules=rules)
    assert {c["focus_label_id"] for row in plan.table.to_pylist() for c in row["clips"]} == {NO_LABEL}


def test_delta_in_seconds_replaces_the_fraction() -> None:
    rules = dataclasses.replace(RULES, delta_seconds=1.0, explore_probability=0.0)
    plan = draw(saliency=visited(FIVE, 0.5), epoch=1, rules=rules)
    assert all(abs(c - 20.0) <= 1.0 + 1e-9 for clips in centers(plan) for c in clips)


@given(st.floats(0, 1), st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_clips_lie_inside_their_video_however_short(tau: float, seconds: int) -> None:
    planner = planner_of([video(n, ["run"], seconds=seconds) for n in range(2)])
    plan = draw(planner, saliency=visited(planner, min(tau, 0.999)), epoch=1)
    half = 1.5 / 5
    for row in with_frames(plan, planner):
        for clip in row["clips"]:
            assert 0 <= clip["center_seconds"] <= seconds
            if seconds > 2 * half:
                assert half - 1e-9 <= clip["center_seconds"] <= seconds - half + 1e-9
            assert len(clip["frame_pts"]) == CLIP.frames
            assert set(clip["frame_pts"]) <= {pts for span in row["spans"] for pts in packets_of(span).pts.tolist()}


def test_full_labels_follow_the_centre_and_weak_ones_never_do() -> None:
    full = draw(rules=dataclasses.replace(RULES, full_labels="centre", bags_per_batch=1))
    for row in full.table.to_pylist():
        inside = [10.0 <= clip["center_seconds"] <= 20.0 for clip in row["clips"]]
        assert np.reshape(row["clip_positive"], (3, -1)).all(axis=1).tolist() == inside
    wide = draw(rules=dataclasses.replace(RULES, full_labels="overlap", bags_per_batch=1))
    half = (CLIP.frames - 1) / 2 * CLIP.stride_seconds(5)
    for row in wide.table.to_pylist():
        over = [10.0 - half <= clip["center_seconds"] <= 20.0 + half for clip in row["clips"]]
        assert np.reshape(row["clip_positive"], (3, -1)).all(axis=1).tolist() == over
    assert {flag for row in draw().table.to_pylist() for flag in row["clip_positive"]} == {True}


def test_the_bag_carries_its_own_saliency_rows() -> None:
    snapshot = FIVE.empty_saliency(SaliencyConfig())
    snapshot.bins.score[:] = torch.arange(len(snapshot.video_row))[:, None]
    for row in draw(saliency=snapshot, epoch=1).table.to_pylist():
        own = snapshot.bins.score[snapshot.pairs_of(row["video_row"])].flatten().tolist()
        assert row["saliency_score"] == own


def test_views_are_uniform_from_the_first_possible_centre_to_the_last() -> None:
    plan = plan_views(FIVE, CLIP, 5)
    assert plan.table.column("video_row").to_pylist() == [0, 1, 2, 3, 4]
    assert np.allclose(centers(plan)[0], np.linspace(0.3, 39.7, 5))
    assert np.allclose(centers(plan_views(FIVE, CLIP, 1))[0], [20.0])


def test_the_head_of_an_epoch_stays_as_it_was_drawn_and_nobody_is_lost_or_twice() -> None:
    """The first bags are drawn from the snapshot before, and the rest from the newer one."""
    carried = (4, 2)
    early = draw(epoch=1, carried=carried, only_bags=2)
    assert early.table.column("video_row").to_pylist() == [4, 2]
    later = draw(epoch=1, carried=carried, head=early.table, saliency=visited(FIVE, 0.9), excluded=[0])
    assert later.table.slice(0, 2).equals(early.table)
    rows = later.table.column("video_row").to_pylist() + list(later.carried)
    assert sorted(rows) == [1, 2, 2, 3, 4, 4]
    assert later.table.column("slot").to_pylist() == list(range(6))
    again = {row: later.table.column("occurrence").to_pylist()[slot] for slot, row in enumerate(rows[:6]) if slot > 1}
    assert again[4] == again[2] == 1, "the second bag of a video in an epoch draws other clips than its first"


def test_a_head_is_at_most_a_quarter_of_an_epoch() -> None:
    config = PlanConfig(bags_per_batch=4, lead_batches=2)
    assert [config.head_bags(4 * batches) for batches in (1, 3, 4, 8, 100)] == [0, 0, 4, 8, 8]
    assert PlanConfig(lead_batches=0).head_bags(1000) == 0
