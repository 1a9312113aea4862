"""Exports are read back as the projects that they are for read them, with separate code.

What each reader does was taken from its source: the data sets of MS-TCN, POC, LTContext, CPL and MMN, OpenTAD's
`LoadFeats`, and Timeception's loader.
"""

from __future__ import annotations

import importlib
import json
import pickle
import pickletools
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptfocus.pipelines.annotations.tasks import (
    ActivityVideo,
    Moment,
    SegmentedVideo,
    write_activities,
    write_segmentation,
)
from adaptfocus.pipelines.errors import ConfigError, InputError, StorageError
from adaptfocus.pipelines.features.layouts import export, verify
from adaptfocus.pipelines.features.layouts.given import Given, at_times, names_of
from adaptfocus.pipelines.features.layouts.grounding import glance_seconds
from adaptfocus.pipelines.features.store import VideoFeatures
from tests.pipelines.features import layout_files
from tests.pipelines.features.layout_files import (
    DIM,
    DURATIONS,
    FPS,
    TEST,
    by_hand,
    exported,
    feature_set,
    ids_of,
    original,
    rewritten,
    segments,
)


@pytest.mark.parametrize("layout", ["mstcn", "asformer", "ltcontext"])
def test_segmentation_projects_read_features_and_labels_of_the_same_frames(
    layout: str, given: Given, maps: Given, tmp_path: Path
) -> None:
    out, _ = exported(layout, given, maps, tmp_path)
    actions = {}
    for line in (out / "mapping.txt").read_text().split("\n")[:-1]:
        actions[line.split()[1]] = int(line.split()[0])
    assert actions == {"SIL": 0, "pour_milk": 1}
    seen = []
    for split in ("train", "test"):
        for line in (out / "splits" / f"{split}.split1.bundle").read_text().split("\n")[:-1]:
            features = np.load(out / "features" / (line.split(".")[0] + ".npy"))
            assert Path(line).stem == line.split(".")[0], "the two ways of taking a name apart agree"
            content = (out / "groundTruth" / line).read_text().split("\n")[:-1]
            classes = [actions[label] for label in content]
            video_id = next(i for i in DURATIONS if i.replace(".", "-") + ".txt" == line)
            duration, video = DURATIONS[video_id], original(given, video_id)
            assert (video_id == TEST) == (split == "test")
            assert features.dtype == np.float32
            assert features.shape == (DIM, round(duration * FPS)) == (DIM, len(classes))
            for frame in range(features.shape[1]):
                seconds = (frame + 0.5) / FPS
                np.testing.assert_allclose(features[:, frame], by_hand(video, seconds), atol=1e-5)
                on = next((name for s, e, name in segments(duration) if s <= seconds < e), "SIL")
                assert content[frame] == on.replace(" ", "_")
            seen.append(video_id)
    assert sorted(seen) == sorted(DURATIONS)
    assert verify(layout, str(out), given) == (4, [])
    assert verify(layout, str(out), Given()) == (4, [])


def test_poc_finds_recipes_in_names(given: Given, maps: Given, tmp_path: Path) -> None:
    out, _ = exported("poc", given, maps, tmp_path)
    recipes = dict(line.split()[::-1] for line in (out / "recipe_mapping.txt").read_text().split("\n")[:-1])
    assert recipes == {"milk": "0", "tea": "1"}
    names = [n for split in ("train", "test") for n in (out / f"split1.{split}").read_text().split("\n")[:-1]]
    assert len(names) == 4
    for name in names:
        assert name.split("_")[3] in recipes
        feature = np.load(out / "features" / f"{name}.npy")
        assert feature.shape[0] == DIM
        assert feature.shape[1] == len((out / "groundTruth" / f"{name}.txt").read_text().split("\n")) - 1
    assert verify("poc", str(out), given) == (4, [])


def test_poc_is_given_recipes_where_names_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_files, "DURATIONS", {"a.1": 4.0, TEST: 5.0})
    train = feature_set(tmp_path / "train", "train")
    segmentation, activities = str(tmp_path / "s.jsonl"), str(tmp_path / "a.jsonl")
    write_segmentation(segmentation, [SegmentedVideo("a.1", "train", 4.0, segments(4.0))])
    write_activities(activities, [ActivityVideo("a.1", "train", ("fried egg",))])
    given = Given((train,), segmentation_url=segmentation)
    with pytest.raises(ConfigError, match=r"P03_cam01_P03_cereals.*'a-1' has none; give an activity\.jsonl"):
        export("poc", given, str(tmp_path / "out"))
    export("poc", Given((train,), segmentation_url=segmentation, activities_url=activities), str(tmp_path / "out"))
    (name,) = (tmp_path / "out" / "split1.train").read_text().split()
    assert name.split("_")[3] == "fried-egg"


def test_cpl_reads_steps_first(given: Given, maps: Given, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    out, _ = exported("cpl", given, maps, tmp_path)
    rows = json.loads((out / "train.json").read_text()) + json.loads((out / "test.json").read_text())
    assert len(rows) == 4
    with h5py.File(out / "features.hdf5", "r") as file:
        for video_id, duration, (start, end), sentence in rows:
            assert (duration, start, end) == (DURATIONS[video_id], 1.0, 3.5)
            assert sentence == f"a person, {video_id}"
            assert np.array_equal(np.asarray(file[video_id]).astype(np.float32), original(given, video_id).features)
    assert verify("cpl", str(out), given) == (4, [])


def test_d3g_finds_a_glance_in_each_moment_that_it_trains_on(given: Given, maps: Given, tmp_path: Path) -> None:
    """Its loader takes ``glances[i]`` of each video in train.json, to a cell of 32: a time inside the moment."""
    pytest.importorskip("h5py")
    out, _ = exported("d3g", given, maps, tmp_path)
    trained = json.loads((out / "train.json").read_text())
    seen = []
    for video in trained.values():
        assert len(video["glances"]) == len(video["timestamps"]) == len(video["sentences"])
        for (start, end), glance in zip(video["timestamps"], video["glances"], strict=True):
            assert start <= glance <= min(end, video["duration"])
            assert 0 <= round(glance / video["duration"] * 31) <= 31
            seen.append(glance)
    assert len(set(seen)) == 3, "drawn, and not all the same"
    export("d3g", given, str(tmp_path / "again"))
    assert json.loads((tmp_path / "again" / "train.json").read_text()) == trained
    export("mmn", given, str(tmp_path / "mmn"))
    assert "glances" not in (tmp_path / "mmn" / "train.json").read_text()

    def said(change: Callable[[dict[str, Any]], Any]) -> str:
        changed = json.loads(json.dumps(trained))
        change(changed["P03_cam01_P03_tea"])
        (out / "train.json").write_text(json.dumps(changed))
        return "\n".join(verify("d3g", str(out), Given())[1])

    assert said(lambda video: None) == ""
    assert "'P03_cam01_P03_tea' has no 'glances', which D3G reads for training" in said(lambda v: v.pop("glances"))
    assert "does not have one glance for each of its moments" in said(lambda v: v["glances"].append(2.0))
    assert "has a glance at 3.6 s, outside its moment [1.0, 3.5]" in said(lambda v: v.update(glances=[3.6]))
    assert "one glance for each" in said(lambda v: v.update(glances=["2"]))
    assert "outside its moment" in said(lambda v: v.update(glances=[float("nan")]))


def test_a_glance_is_never_behind_the_videos_end() -> None:
    """Moments of annotation files end up to seconds after the video."""
    glances = [glance_seconds(Moment("v", None, 4.0, 9.0, f"sentence {n}"), 5.0) for n in range(200)]
    assert 4.0 <= min(glances) < 4.1
    assert 4.9 < max(glances) <= 5.0
    assert glance_seconds(Moment("v", None, 6.0, 9.0, "after its end"), 5.0) == 5.0


@pytest.mark.parametrize("layout", ["mmn", "d3g"])
def test_mmn_gets_what_was_written(layout: str, given: Given, maps: Given, tmp_path: Path) -> None:
    """Its reader normalises rows and averages to 32 of them: what it is given survives both."""
    h5py, torch = pytest.importorskip("h5py"), pytest.importorskip("torch")
    out, _ = exported(layout, given, maps, tmp_path)
    annotations = json.loads((out / "train.json").read_text())
    assert [*annotations] == [i for i in DURATIONS if i != TEST]
    with h5py.File(out / "features.hdf5", "r") as file:
        for video_id, annotation in annotations.items():
            assert (annotation["timestamps"], annotation["duration"]) == ([[1.0, 3.5]], DURATIONS[video_id])
            stored = file[video_id][:]
            rows = torch.nn.functional.normalize(torch.from_numpy(stored), dim=1)
            edges = (torch.arange(0, 33, 1.0) / 32 * len(rows)).round().long().clamp(max=len(rows) - 1)
            read = torch.stack([rows[s:e].mean(0) if s < e else rows[s] for s, e in pairwise(edges.tolist())])
            assert stored.shape == (32, DIM)
            np.testing.assert_allclose(read.numpy(), stored, atol=1e-6)
            plain = torch.nn.functional.normalize(torch.from_numpy(original(given, video_id).features), dim=1)
            cut = (torch.arange(0, 33, 1.0) / 32 * len(plain)).round().long().clamp(max=len(plain) - 1)
            wanted = [plain[s:e].mean(0) if s < e else plain[s] for s, e in pairwise(cut.tolist())]
            along = torch.nn.functional.cosine_similarity(torch.stack(wanted), read, dim=1)
            assert along.min() > 1 - 1e-5, "each row points where the mean of its stretch does"
    assert verify(layout, str(out), given) == (4, [])


def test_opentad_reads_steps_first(given: Given, maps: Given, tmp_path: Path) -> None:
    out, _ = exported("opentad", given, maps, tmp_path)
    for video_id in DURATIONS:
        found = np.load(out / f"{video_id.replace('.', '-')}.npy").astype(np.float32)
        assert np.array_equal(found, original(given, video_id).features)
    assert verify("opentad", str(out), given) == (4, [])


def test_timeception_reads_maps_of_as_many_times(given: Given, maps: Given, tmp_path: Path) -> None:
    out, _ = exported("timeception", given, maps, tmp_path)
    for video_id in ids_of(maps):
        data = (out / f"{video_id.replace('.', '-')}.pkl").read_bytes()
        found, video = pickle.loads(data), original(maps, video_id)
        assert found.shape == (8, 3, 3, DIM)
        assert b"numpy.core.multiarray" in data[:60], "numpy 1 knows no other name"
        # Python 2.7's reader knows the opcodes up to protocol 2; it raises at any other.
        assert max(opcode.proto for opcode, _, _ in pickletools.genops(data)) <= 2
        for step, features in enumerate(found):
            seconds = (step + 0.5) / 8 * video.duration_seconds
            assert np.array_equal(features, video.features[np.abs(video.center_seconds - seconds).argmin()])
    assert verify("timeception", str(out), maps) == (3, [])
    assert verify("timeception", str(out), Given()) == (3, [])


@pytest.mark.parametrize("layout", ["mstcn", "cpl", "opentad"])
def test_exports_lie_on_the_store_as_on_a_disk(layout: str, given: Given, s3_url: str) -> None:
    export(layout, given, s3_url)
    assert verify(layout, s3_url, given) == (4, [])
    with pytest.raises(ConfigError, match="is not empty"):
        export(layout, given, s3_url)


def test_pooled_vectors_are_no_maps_and_the_other_way_round(given: Given, maps: Given, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Timeception reads maps features.* pooled ones; extract with --maps"):
        export("timeception", given, str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="extract without --maps"):
        export("mstcn", maps, str(tmp_path / "out"))
    exported("timeception", given, maps, tmp_path)
    rewritten(tmp_path / "out", "timeception", lambda array: array.mean(axis=(1, 2)))
    assert "not pooled vectors: extract with --maps" in verify("timeception", str(tmp_path / "out"), Given())[1][0]


def test_names_that_readers_would_mix_up_are_refused() -> None:
    assert names_of(["a.b", "c d", "e/f"]) == {"a.b": "a-b", "c d": "c-d", "e/f": "e-f"}
    with pytest.raises(InputError, match=r"'a\.b' and 'a-b' would both be named 'a-b'"):
        names_of(["a.b", "a-b"])
    with pytest.raises(InputError, match="'a' is in two of the feature sets"):
        names_of(["a", "a"])


def test_what_does_not_fit_is_said(given: Given, maps: Given, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no layout 'mstc'; choose one of: mstcn"):
        export("mstc", given, str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="--fps is 0"):
        Given(fps=0)
    exported("opentad", given, maps, tmp_path)
    with pytest.raises(ConfigError, match="is not empty"):
        export("opentad", given, str(tmp_path / "out"))
    with pytest.raises(InputError, match="there is nothing at"):
        verify("opentad", str(tmp_path / "nowhere"), given)
    empty = tmp_path / "empty.jsonl"
    write_segmentation(str(empty), [SegmentedVideo("stranger", "train", 4.0, segments(4.0))])
    with pytest.raises(InputError, match="no video of the features has labels"):
        export("mstcn", Given(given.sets, segmentation_url=str(empty)), str(tmp_path / "other"))


@pytest.mark.parametrize("rule", ["linear", "nearest"])
def test_features_at_other_times(rule: Any) -> None:
    video = VideoFeatures("a", 0, None, (), 3.0, np.array([0.5, 1.5, 2.5]), np.float32([[0], [10], [40]]))
    found = at_times(video, np.array([0.0, 0.5, 0.75, 1.0, 1.25, 2.5, 9.0]), rule)[:, 0]
    expected = [0, 0, 2.5, 5, 7.5, 40, 40] if rule == "linear" else [0, 0, 0, 0, 10, 40, 40]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    one = VideoFeatures("b", 0, None, (), 0.4, np.array([0.2]), np.float32([[7]]))
    assert at_times(one, np.array([0.0, 0.4]), rule)[:, 0].tolist() == [7, 7]


@pytest.mark.parametrize("layout", ["mstcn", "opentad", "mmn"])
def test_one_odd_video_is_left_out_of_an_export_and_counted(
    layout: str, given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = {"mstcn": "frames.at_frames", "opentad": "arrays.laid_out", "mmn": "grounding.average_steps"}[layout]
    odd = f"adaptfocus.pipelines.features.layouts.{odd}"
    module, _, name = odd.rpartition(".")
    plain = getattr(importlib.import_module(module), name)
    left = [True]

    def broken_once(*given: Any) -> Any:
        if left and left.pop():
            raise IndexError("index 7 is out of bounds")
        return plain(*given)

    monkeypatch.setattr(odd, broken_once)
    done = export(layout, given, str(tmp_path / "out"))
    assert (done["videos"], done["left out"]) == (3, 1)
    assert any("P03_cam01_P03_tea: unexpected_error: IndexError: index 7" in name for name in done)

    def broken(*given: Any) -> Any:
        raise IndexError("index 7 is out of bounds")

    monkeypatch.setattr(odd, broken)
    with pytest.raises(InputError, match="index 7 is out of bounds"):
        export(layout, given, str(tmp_path / "none"))


@pytest.mark.parametrize("layout", ["cpl", "mmn", "d3g"])
@pytest.mark.parametrize("split", ["../../x", "adaptfocus"])
def test_a_split_chooses_no_file_outside_or_of_ours(layout: str, split: str, given: Given, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    row = {"video_id": TEST, "split": split, "start_seconds": 0, "end_seconds": 1, "sentence": "s"}
    (tmp_path / "g.jsonl").write_text(json.dumps(row))
    out = tmp_path / "top" / "one" / "out"
    with pytest.raises(InputError, match="split"):
        export(layout, replace(given, grounding_url=str(tmp_path / "g.jsonl")), str(out))
    assert not [*(tmp_path / "top").rglob("*.json")]


def test_a_link_in_the_folder_does_not_lead_an_export_out(given: Given, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "features").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="would lead out of"):
        export("mstcn", given, str(tmp_path / "out"), overwrite=True)
    assert not [*(tmp_path / "elsewhere").iterdir()]
