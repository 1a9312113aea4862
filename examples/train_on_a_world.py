"""Render videos whose actions are known, pack and index them, train a run on their tags, and score it.

    python examples/train_on_a_world.py FOLDER [EPOCHS]

It takes half a minute on two cores. With so few videos and epochs the score says nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

from adaptfocus.infra.running.worlds import make_world
from adaptfocus.pipelines.settings import make
from adaptfocus.pipelines.worlds.config import world_of
from adaptfocus.trainers.evaluation import evaluate
from adaptfocus.trainers.evaluation.scoring import predict_here
from adaptfocus.trainers.loop import LocalEngine, train
from adaptfocus.trainers.runs import Run, audit, prepare
from adaptfocus.trainers.settings import TrainConfig, recipe


def main(folder: str, epochs: int = 2) -> None:
    # 1. Videos with tags, in tars with an index. For videos of your own: `adaptfocus pack` and `adaptfocus index`.
    world = world_of("demo", seed=0, num_train_videos=8, num_test_videos=4)
    made = make_world(world, f"{folder}/world", processes=2)
    print(f"{made['train'].videos} training and {made['test'].videos} test videos of {len(world.classes)} classes")

    # 2. Settings: a recipe, and what differs from it. What is wrong is said now, and not after an hour.
    values = {"name": "first", "runs": f"{folder}/runs", "index": f"{folder}/world/index/train", "epochs": epochs}
    config = make(TrainConfig, recipe("small") | values, ["focus.warmup_epochs=1"])
    prepare(config)

    # 3. Train in this process. Killed at any moment, the same call resumes the run from its last commit.
    train(config, LocalEngine(config.plan.bags_per_batch))
    counted = audit(Run(config.url))
    print(f"clips planned {counted.clips_planned}, trained {counted.clips_trained}, lost {counted.clips_lost}, "
          f"twice {counted.clips_twice}")  # fmt: skip

    # 4. Score it on videos that it has not seen.
    scores = evaluate(Run(config.url), config, f"{folder}/world/index/test", 10, "test", predict_here)
    print(f"mAP, max over views: {100 * (scores.map_max or 0):.1f} %")


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()), *(int(epochs) for epochs in sys.argv[2:3]))
