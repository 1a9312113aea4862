"""Every family of backbones trains on two Ray Train workers what it trains in one process.

All share one worker group, because starting one takes longer than the steps. Clips are real, decoded from the small
world; the models are those of `small_backbones`. Ray Data does not depend on the backbone, and is tested elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from adaptfocus.infra.running.planning import first_plan
from adaptfocus.pipelines.index.load import open_index
from adaptfocus.pipelines.schemas import PLAN_SCHEMA
from adaptfocus.pipelines.settings import make
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.pipelines.stream.clips import read_and_decode
from adaptfocus.trainers.backbones import BACKBONES, MAKERS
from adaptfocus.trainers.batches import LabelShape, join_batches
from adaptfocus.trainers.loop.commits import SinceCommit
from adaptfocus.trainers.loop.engine import LocalEngine
from adaptfocus.trainers.loop.step import train_step
from adaptfocus.trainers.ranks import Engine
from adaptfocus.trainers.runs.open import clip_shape
from adaptfocus.trainers.settings.run import TrainConfig
from tests.trainers.backbones.small_backbones import NAMES, SHAPE, small
from tests.worlds import SmallWorld

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.library]

# The other backbones have the same classes, with other depths and clips.
FAMILIES = [n for n in NAMES if n not in ("x3d_m", "x3d_l", "mvit_b_32x3", "mvit_b_64x3", "mvit_b_24_32x3")]
STEPS = 2  # DistributedDataParallel complains of a weight without a gradient when the next step begins
BAGS = 4


def settings_of(world: SmallWorld, name: str) -> dict[str, Any]:
    """A run on small clips of real videos, with everything that is drawn for each clip."""
    frames, size = SHAPE.get(name, (4, 32))
    settings = [f"backbone={name}", f"clip.frames={frames}", f"clip.size_pixels={size}", "plan.clips_per_bag=2",
                f"plan.bags_per_batch={BAGS}", "dropout=0.3", "augment.crop_area=[0.3, 1]",
                "augment.flip_probability=0.5", "placement.isolate_decoding=false"]  # fmt: skip
    settings += ["drop_path=0.3"] if name.startswith("mvit") else []
    return world.run_config(world.folder / "runs", name, *settings).model_dump(mode="json")


def steps(values: dict[str, Any], engine: Engine) -> dict[str, Any]:
    """Some steps on this rank's part of the first global batch -> its losses, and the weights that it then has."""
    config = make(TrainConfig, values)
    plan, facts = first_plan(config, f"{config.url}-plan-{engine.rank}-of-{engine.workers}"), open_index(config.index)
    classes, mine = len(facts.classes), BAGS // engine.workers
    ((url, *place),) = plan.slices(engine.rank * mine, (engine.rank + 1) * mine)
    rows = read_table(url, PLAN_SCHEMA, *place)
    labels = LabelShape(plan.max_labels, config.saliency.bins)
    (batch,) = join_batches([read_and_decode(rows, clip_shape(config))], [rows], labels)
    assert batch.ok.all()
    model = small(config.backbone, num_classes=classes)
    trained, done = engine.wrap(model), SinceCommit()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02)  # AdamW makes a step of any gradient, rounding included
    for step in range(STEPS):
        train_step(config, engine, trained, model, optimiser, batch, 0, step / STEPS, done)
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    return {"losses": [float(loss) for loss in done.losses], "weights": weights}


def on_worker(settings: dict[str, Any]) -> None:
    """What each worker of the group does."""
    from tests.trainers.loop.test_distributed import GlooEngine

    torch.set_num_threads(1)
    context = ray.train.get_context()
    engine = GlooEngine(context.get_world_rank(), context.get_world_size())
    found = {name: steps(values, engine) for name, values in settings["runs"].items()}
    torch.save(found, Path(settings["folder"]) / f"{engine.rank}.pt")


@pytest.fixture(scope="module")
def settings(small_world: SmallWorld) -> dict[str, dict[str, Any]]:
    return {name: settings_of(small_world, name) for name in FAMILIES if BACKBONES[name].installed}


@pytest.fixture(scope="module")
def ranks(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two Ray Train workers has trained, by backbone."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from adaptfocus.infra.running.cluster import connect

    folder = tmp_path_factory.mktemp("ranks")
    with connect(None, cpus=2):
        TorchTrainer(
            on_worker,
            train_loop_config={"runs": settings, "folder": str(folder)},
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ScalingConfig(num_workers=2),
            run_config=RunConfig(name="backbones", storage_path=str(folder / "ray")),
        ).fit()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", FAMILIES)
def test_two_workers_train_what_one_process_trains(
    settings: dict[str, Any], ranks: list[dict[str, Any]], name: str, one_thread: None
) -> None:
    if name not in settings:
        pytest.skip(f"not installed: {BACKBONES[name].extra}")
    alone = steps(settings[name], LocalEngine(BAGS, torch.device("cpu")))
    first, second = (rank[name] for rank in ranks)
    for step, loss in enumerate(alone["losses"]):
        assert first["losses"][step] + second["losses"][step] == pytest.approx(loss, rel=1e-4)
    assert abs(alone["losses"][1] - alone["losses"][0]) > 1e-4, "the first step has changed the model"
    for weight, value in alone["weights"].items():
        assert torch.equal(first["weights"][weight], second["weights"][weight]), weight
        torch.testing.assert_close(first["weights"][weight], value, atol=2e-5, rtol=1e-4, msg=weight)


def test_every_backbone_is_of_a_family_that_was_trained() -> None:
    def family(name: str) -> str:
        make_model = MAKERS[name].make
        return getattr(make_model, "func", make_model).__name__

    assert {family(name) for name in NAMES} == {family(name) for name in FAMILIES}
