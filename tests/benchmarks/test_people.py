"""The benchmark on people: nobody is on both sides, and what the index says is what the stitched video shows."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.index.packets import with_packets
from adaptfocus.pipelines.video.spans import packets_of, shown_pts
from adaptfocus.trainers.runs.open import load_config
from benchmarks.people import Study, figures_of, read_corpora, run_study, write_files
from benchmarks.studies.people_starts import pack_trimmed
from benchmarks.studies.people_videos import (
    Corpus,
    draw_video,
    is_made,
    make_corpus,
    read_clips,
    split_of,
)
from benchmarks.studies.regime_figures import Outcome
from benchmarks.studies.variants import VARIANTS
from tests.benchmarks.stitched import grey_of, write_clip
from tests.footage import footage_folder


def test_a_group_is_on_one_side_only(corpus: Corpus) -> None:
    split = split_of(corpus, read_clips(corpus.source))
    assert split.labels == ("jump", "wave")
    for side, people in (("train", {"ann", "bob"}), ("test", {"eve"})):
        shown = {c for n in range(12) for s in draw_video(corpus, split, side, n) for c in s.clips}
        assert {c.group for c in shown} == people


def test_without_names_about_a_third_of_the_clips_is_held_out(corpus: Corpus) -> None:
    split = split_of(replace(corpus, held_out=(), background=()), read_clips(corpus.source))
    sides = [{c.group for each in split.clips[side].values() for c in each} for side in ("train", "test")]
    assert sorted(map(len, sides)) == [1, 2]
    assert not sides[0] & sides[1]
    assert len(split.background) == 1


def test_an_action_is_one_interval_of_its_share(corpus: Corpus) -> None:
    split = split_of(corpus, read_clips(corpus.source))
    for number in range(40):
        segments = draw_video(corpus, split, "train", number)
        total = sum(s.frames for s in segments)
        labels = [s.label for s in segments if s.label]
        assert 1 <= len(labels) == len(set(labels)) <= 2
        assert all(0.095 <= s.frames / total <= 0.225 for s in segments if s.label)
        assert draw_video(corpus, split, "train", number) == segments, "drawn again, it is the same"
        assert all(c.label == (s.label or "rest") for s in segments for c in s.clips)


def test_the_index_says_what_the_video_shows(corpus: Corpus, tmp_path: Path) -> None:
    """A frame inside an interval has a grey of that class and of a person of that side; others have one of rest."""
    make_corpus(corpus, tmp_path / "made")
    assert is_made(corpus, tmp_path / "made")
    for side, people in (("train", ("ann", "bob")), ("test", ("eve",))):
        index = load_index(str(tmp_path / "made" / "index" / side))
        assert tuple(index.classes) == ("jump", "wave")
        for video in with_packets(index.table).to_pylist():
            assert len(shown_pts(video, packets_of(video))) == round(video["duration_seconds"] * 10)
            seen = greys(video)
            for number, grey in enumerate(seen.tolist()):
                inside = [
                    i["label"] for i in video["intervals"] if i["start_seconds"] <= number / 10 < i["end_seconds"]
                ]
                assert min(abs(grey - grey_of(k, who)) for k in inside or ["rest"] for who in people) < 8
            assert sorted({i["label"] for i in video["intervals"]}) == sorted(video["labels"])
    with pytest.raises(ConfigError, match=r"holds another corpus \(fps: 10 -> 12\)"):
        is_made(replace(corpus, fps=12), tmp_path / "made")


def greys(video: dict) -> np.ndarray:
    """The mean of each frame of a video of an index."""
    with open(video["shard_url"].removeprefix("file://"), "rb") as tar:
        tar.seek(video["member_offset_bytes"])
        member = tar.read(video["member_size_bytes"])
    path = Path(video["shard_url"].removeprefix("file://")).with_suffix(f".{video['video_id']}.mp4")
    path.write_bytes(member)
    with av.open(str(path)) as container:
        return np.array([frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)])


def test_a_table_of_clips(clips: Path, tmp_path: Path) -> None:
    table = tmp_path / "clips.csv"
    (tmp_path / "a.mp4").write_bytes((clips / "jump" / "ann_1.mp4").read_bytes())
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["path", "class", "group"], ["a.mp4", "jump", "room 1"]])
    for source in (table, tmp_path):
        assert [(c.label, c.group) for c in read_clips(str(source))] == [("jump", "room 1")]
    table.write_text("path,class,group\nb.mp4,jump,1\n")
    with pytest.raises(InputError, match=r"line 2: .*b\.mp4 is missing"):
        read_clips(str(table))
    table.write_text("path,class\na.mp4,jump\n")
    with pytest.raises(InputError, match="no column group"):
        read_clips(str(table))


def test_a_name_without_a_person_is_told(clips: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "jump" / "one.mp4", 90, 0.5)
    with pytest.raises(InputError, match=r"one\.mp4 does not name its person; call it PERSON_ANYTHING\.mp4"):
        read_clips(str(tmp_path))
    with pytest.raises(InputError, match="has no clips"):
        read_clips(str(tmp_path / "nothing"))


def test_a_class_that_one_side_lacks_is_told(corpus: Corpus) -> None:
    found = [c for c in read_clips(corpus.source) if (c.label, c.group) != ("wave", "eve")]
    with pytest.raises(ConfigError, match="no clip of class 'wave' is left for test when eve are held out"):
        split_of(corpus, found)
    with pytest.raises(ConfigError, match="there is no group 'dan'; there are ann, bob, eve"):
        split_of(replace(corpus, held_out=("dan",)), found)


def test_figures_are_shares_of_the_way_from_noisy_to_full() -> None:
    """Corpus x: (60 - 50) / (90 - 50) = .25 and (80 - 50) / 40 = .75, mean .5; y: .1; over both .3."""
    scores = {
        "x": {"noisy": (50, 50), "full": (90, 90), "best": (60, 80)},
        "y": {"noisy": (40,), "full": (60,), "best": (42,)},
    }
    outcomes = [
        Outcome(corpus, seed, variant, value, value, None, None, {1: value}, 1)
        for corpus, variants in scores.items()
        for variant, values in variants.items()
        for seed, value in enumerate(values)
    ]
    found = {each.name: each.value for each in figures_of(outcomes)}
    assert found["people.x.best"] == 70.0
    assert found["people.x.gap_closed.best"] == pytest.approx(0.5)
    assert found["people.y.gap_closed.best"] == pytest.approx(0.1)
    assert found["people.gap_closed.best"] == pytest.approx(0.3)


def test_a_study_from_clips_to_a_page(corpus: Corpus, tmp_path: Path) -> None:
    """Through the real pipeline, and with frames decoded once: the same scores. Both runs begin from one start."""
    study = Study(
        tmp_path, (corpus,), (3,), {"noisy": VARIANTS["noisy"], "full": VARIANTS["full"]}, epochs=2, views=3,
        curve_every=1, overrides=("plan.bags_per_batch=4",), start="order", start_epochs=1,
    )  # fmt: skip
    outcomes = run_study(study, processes=1)
    (start,) = (tmp_path / "starts").glob("*.pt")
    learnt = load_config(f"{start}.run")
    assert (learnt.task, learnt.index, learnt.epochs) == ("order", study.jobs()[0].config.index, 1)
    assert {load_config(job.config.url).weights for job in study.jobs()} == {str(start)}
    assert run_study(replace(study, is_cached=True), processes=1) == outcomes
    write_files(study, outcomes, figures_of(outcomes))
    page = (tmp_path / "results.md").read_text()
    assert "## small" in page
    assert "| `full`: labels of clips from annotated intervals |" in page
    assert json.loads((tmp_path / "curves.json").read_text())["small"]["noisy"]["epochs"] == [1, 2]


def test_a_start_by_labels_sees_neither_labels_nor_people_of_the_test(corpus: Corpus, tmp_path: Path) -> None:
    two = replace(corpus, background=("rest", "wave"), max_labels=1)
    config = Study(tmp_path, (two,), (0,), {}, start="labels").start_of(two, tmp_path / "corpora" / "small-0")
    assert config
    assert config.config.focus.regime == "noisy"
    pack_trimmed(two, Path(config.config.index).parent)
    videos = with_packets(load_index(config.config.index).table).to_pylist()
    assert sorted(video["labels"][0] for video in videos) == ["rest", "rest", "wave", "wave"]
    shown = {round(float(greys(video).mean())) for video in videos}
    assert all(min(abs(grey - grey_of(k, who)) for k in two.background for who in ("ann", "bob")) < 8 for grey in shown)
    with pytest.raises(ConfigError, match="its background has one class, rest"):
        pack_trimmed(corpus, tmp_path / "one")


def test_corpora_of_a_file_count_from_its_folder(tmp_path: Path) -> None:
    listed = tmp_path / "corpora.json"
    listed.write_text(json.dumps([{"name": "mine", "source": "clips", "held_out": ["ann"]}]))
    assert read_corpora(listed) == [Corpus("mine", str(tmp_path / "clips"), ("ann",))]
    listed.write_text(json.dumps([{"name": "mine", "sauce": "clips"}]))
    with pytest.raises(ConfigError, match="is not a list of corpora"):
        read_corpora(listed)


@pytest.mark.footage
def test_real_clips_can_be_stitched() -> None:
    """Gestures and surveillance scenes, groups kept apart."""
    for name, held_out, background, labels in (
        ("gestures", ("b",), ("other",), (2, 4)),
        ("scuffles", (), ("other",), (0, 1)),
    ):
        corpus = Corpus(
            name,
            str(footage_folder() / "people" / name),
            held_out,
            background,
            min_labels=labels[0],
            max_labels=labels[1],
        )
        split = split_of(corpus, read_clips(corpus.source))
        groups = [{c.group for each in split.clips[side].values() for c in each} for side in ("train", "test")]
        assert groups[0]
        assert groups[1]
        assert not groups[0] & groups[1]
