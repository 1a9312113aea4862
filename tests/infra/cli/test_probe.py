"""`adaptfocus probe`, from a world to a page: what a user types, what comes back, and what errors say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from adaptfocus.infra.report.probe_page import render_probe_report
from adaptfocus.infra.running.worlds import make_world
from adaptfocus.pipelines.annotations.tasks import read_segmentation
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.features import store as feature_store
from adaptfocus.pipelines.features.store import COUNTED, VideoFeatures
from adaptfocus.pipelines.settings import make
from adaptfocus.pipelines.worlds.config import SPLITS, world_of
from adaptfocus.trainers.evaluation.extraction import Extraction, extract, make_here
from adaptfocus.trainers.evaluation.feature_model import weights_of
from adaptfocus.trainers.pretraining.training import pretrain
from adaptfocus.trainers.probes.run import run_probe
from adaptfocus.trainers.settings.run import TrainConfig
from tests.infra.report.browser import look_at

TASKS = ("segmentation", "activity", "grounding")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny world of activities, and features of it by a start that is hardly trained."""
    folder = tmp_path_factory.mktemp("probe")
    made = world_of("d", num_train_videos=12, num_test_videos=5, min_seconds=20, max_seconds=30)
    make_world(made, str(folder), processes=1)
    pretrain(str(folder / "start.pt"), steps=2)
    for split in SPLITS:
        index = str(folder / "index" / split)
        values = {"name": "x", "runs": str(folder), "index": index, "backbone": "small3d", "clip": {"fps": 4.0},
                  "placement": {"isolate_decoding": False}}  # fmt: skip
        config = make(TrainConfig, values)
        weights = weights_of(config, weights_url=str(folder / "start.pt"))
        job = Extraction(config, len(made.classes), weights, index, "pooled", 0.5, split)
        extract(job, str(folder / "features" / split), make_here)
    return folder


def arguments(world: Path, task: str, out: Path, *more: str) -> list[str]:
    features = [word for split in SPLITS for word in ("--features", str(world / "features" / split))]
    return ["probe", task, *features, "--annotations", str(world / "annotations"), "--out", str(out), *more]


def write_features(url: Path, videos: dict[str, np.ndarray], stride_seconds: float = 0.5, kind: str = "pooled") -> str:
    """A feature set by hand."""
    feature_store.claim(str(url), {"kind": kind, "stride_seconds": stride_seconds, "backbone": "none"})
    rows = [
        VideoFeatures(name, row, None, (), len(x) / 2, np.arange(len(x)) / 2 + 0.25, x.astype(np.float32))
        for row, (name, x) in enumerate(videos.items())
    ]
    feature_store.write_part(str(url), "000000", [(each, dict.fromkeys(COUNTED, 0)) for each in rows], [])
    feature_store.finish(str(url), ["000000"])
    return str(url)


@pytest.mark.parametrize("task", TASKS)
def test_a_probe_from_features_to_a_page(type_, world: Path, tmp_path: Path, task: str) -> None:
    code, out, err = type_(*arguments(world, task, tmp_path, "--seeds", "0,1", "--epochs", "2"))
    assert code == 0, err
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["task"], result["dim"], result["stride_seconds"], result["seeds"]) == (task, 32, 0.5, [0, 1])
    assert result["items"]["train"]["videos"] == 12
    assert result["without_features"]["test"]["videos"] == 0
    for name, metric in result["metrics"].items():
        assert len(metric["values"]) == 2
        assert all(0 <= value <= 1 for value in metric["values"]), name
        assert metric["mean"] == pytest.approx(sum(metric["values"]) / 2)
        assert name in out
    assert set(result["headline"]) <= set(result["metrics"])
    predictions = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert len(predictions) == result["items"]["test"]["annotations"]
    assert {row["video_id"] for row in predictions} == {f"d-test-{n:05d}" for n in range(5)}
    if task == "segmentation":
        truth = {video.video_id: video for video in read_segmentation(str(world / "annotations/segmentation.jsonl"))}
        for row in predictions:
            starts, ends = [s for s, _, _ in row["segments"]], [e for _, e, _ in row["segments"]]
            assert starts == [0, *ends[:-1]], "the whole video, without a gap"
            assert ends[-1] == truth[row["video_id"]].duration_seconds
    page = (tmp_path / "report.html").read_text()
    assert f"Probe: {task}" in page
    assert "Every annotated video has features." in page
    assert "<script" not in page


def test_the_same_command_gives_the_same_scores(world: Path) -> None:
    features = [str(world / "features" / split) for split in SPLITS]
    found = [run_probe("activity", features, str(world / "annotations"), (seed,), epochs=2) for seed in (0, 0, 1)]
    losses = [each.outcomes[0].losses for each in found]
    assert losses[0] == losses[1] != losses[2]


def test_videos_without_features_are_left_out_and_counted(type_, world: Path, tmp_path: Path) -> None:
    """Features of some of the videos, and of others that nobody annotated."""
    rng = np.random.default_rng(0)
    names = [*(f"d-train-{n:05d}" for n in range(10)), *(f"d-test-{n:05d}" for n in range(3)), "never-heard-of"]
    url = write_features(tmp_path / "some", {name: rng.standard_normal((50, 4)) for name in names})
    command = ["probe", "activity", "--features", url, "--annotations", world / "annotations/activity.jsonl"]
    code, out, err = type_(*command, "--out", tmp_path / "out", "--epochs", 1, "--seeds", 0)
    assert code == 0, err
    assert "train: 2 annotated videos without features left out (such as d-train-00010)" in out
    assert "test: 2 annotated videos without features left out" in out
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert result["without_features"]["train"] == {"videos": 2, "examples": ["d-train-00010", "d-train-00011"]}
    assert (result["items"]["train"]["videos"], result["items"]["test"]["videos"]) == (10, 3)
    assert (
        "2 annotated train videos left out, without features: d-train-00010"
        in (tmp_path / "out/report.html").read_text()
    )


def test_what_cannot_be_probed_is_said(type_, world: Path, tmp_path: Path) -> None:
    def said(*words: object) -> str:
        code, _, err = type_("probe", *words, "--out", tmp_path / "out", "--annotations", world / "annotations")
        assert code == 2
        return " ".join(err.split())

    train = world / "features" / "train"
    x = {f"d-test-{n:05d}": np.ones((40, 32)) for n in range(5)}
    sets = {
        "narrow": write_features(tmp_path / "narrow", {name: each[:, :8] for name, each in x.items()}),
        "slow": write_features(tmp_path / "slow", x, stride_seconds=1.0),
        "maps": write_features(tmp_path / "maps", {n: each.reshape(40, 2, 2, 8) for n, each in x.items()}, kind="maps"),
        "nan": write_features(tmp_path / "nan", {name: each * np.nan for name, each in x.items()}),
        "strange": write_features(tmp_path / "strange", {"someone-else": np.ones((40, 32))}),
    }
    both = ("activity", "--features", train, "--features")
    assert "there is no probe 'dancing'; choose one of segmentation" in said("dancing", "--features", train)
    assert "features of 8 dimensions every 0.5 s" in said(*both, sets["narrow"])
    assert "of 32 dimensions every 1 s" in said(*both, sets["slow"])
    assert "has features of kind 'maps'; a probe takes pooled vectors" in said(*both, sets["maps"])
    assert "1280 values of the features of 'd-test-00000' are not finite" in said(*both, sets["nan"])
    assert "none of the 5 annotated videos of split 'test'" in said(*both, sets["strange"])
    assert "and another set both have features of" in said(*both, train)
    assert "--seeds '1;2': give 1 to 100 whole numbers" in said("activity", "--features", train, "--seeds", "1;2")
    annotations = tmp_path / "nothing.jsonl"
    rows = [{"video_id": f"d-{split}-00000", "split": split, "activities": []} for split in SPLITS]
    annotations.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        InputError, match="both splits must have a video with an activity; of 1 training and 1 test videos"
    ):
        run_probe("activity", [str(train), str(world / "features" / "test")], str(annotations))
    annotations.write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(InputError, match=r"has no rows of split 'test' \(there are: train\)"):
        run_probe("activity", [str(train)], str(annotations))
    assert "there are no features at" in said("activity", "--features", tmp_path / "nowhere")


@pytest.mark.chromium
@pytest.mark.parametrize(("task", "theme"), [("segmentation", "light"), ("grounding", "dark")])
def test_nothing_sticks_out_of_the_page(world: Path, tmp_path: Path, task: str, theme: str) -> None:
    features = [str(world / "features" / split) for split in SPLITS]
    result = run_probe(task, features, str(world / "annotations"), (0,), epochs=1)
    page = render_probe_report(result, "2026-01-01 00:00", "adaptfocus probe ...")
    assert [seen.problems() for seen in look_at(page, tmp_path, theme, f"probe-{task}")] == [[], []]
