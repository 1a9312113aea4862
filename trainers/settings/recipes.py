"""Named runs. A recipe's docstring gives its cost, its command and what to expect.

Each recipe is a function that returns a nested dict for TrainConfig. key=value overrides any of its values.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.trainers.settings.recipes_of_the_paper import RECIPES_OF_THE_PAPER

# What gained on every world tried, in addition to the regime itself (docs/results_drawn.md).
PAST_THE_PAPER = {"noisy_or": 1.0, "background_weight": 2.0}
# These keep focusing from locking onto moments that only the model likes (docs/method.md#the-trap).
FREED = PAST_THE_PAPER | {"negative_focus": 0.7, "rivalry": 1.0, "background_from": 0.6}
# From scratch, small3d learns nothing of real people on RGB, not even from true labels (docs/results.md).
MOVING = {"motion": "auto"}
# The schedule raises the score of every regime, so all have it (docs/results_drawn.md).
OPTIM = {"schedule": "up7", "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.02}


def small() -> dict[str, Any]:
    """A small in-tree backbone, from scratch, on your own videos: a first look at data on two cores.

    Cost: 240 clips a video, each decoded anew, which takes most of the time.
    Command: adaptfocus train small name=first runs=URL index=URL
    Expect (measured: docs/results.md): on 120 videos of people, row `focused`. That took 28,800 clips; with thousands
    of videos, fewer epochs are enough. On the 120 videos half of the epochs find little: 51 mAP, and 92 after all 60.
    """
    return {
        "epochs": 60,
        "backbone": "r2plus1d_tiny",
        "clip": {"fps": 4.0},  # frames, stride and pixels are the backbone's
        "plan": {"clips_per_bag": 4, "bags_per_batch": 8},
        "input": MOVING,
        "optim": OPTIM | {"learning_rate": 3e-3},
        "focus": FREED,
    }


def world() -> dict[str, Any]:
    """The benchmark worlds of docs/method.md: 30 epochs, 10 videos x 4 clips a batch, AdamW 7e-3, `up7`.

    Cost: 28,800 clips; about a minute of one core in one process, 5 minutes of two through Ray.
    Command: adaptfocus train world name=mine runs=URL index=URL weights=URL focus.regime=ours
    """
    return small() | {
        "epochs": 30,
        "backbone": "small3d",
        "input": {},
        "plan": {"clips_per_bag": 4, "bags_per_batch": 10},
        # A high rate while the first spikes form breaks their discovery: in the demo ours at 1.5e-2 lost to noisy, and
        # at 7e-3 it never did. A spike is a high score of a label at one moment of a video.
        "optim": OPTIM | {"learning_rate": 7e-3},
        "focus": {"warmup_epochs": 2},
    }


def demo() -> dict[str, Any]:
    """The demo's runs, on `pipelines.worlds.config.DEMO_WORLD` and the start of `trainers.pretraining.training`.

    Cost: 3,072 clips of 128 videos in 96 steps; about 45 s on two cores, half of them starting Ray's processes.
    Command: adaptfocus demo (it sets name, places, seed and regime).
    Expect (five paired seeds in one process, 2026-11-23): mAP-max 67 for noisy and 78 for ours, which won each time, by
    7.5 to 17. These figures are no benchmark: the world is easier than worlds A and B, so that six epochs are enough
    for ours. Batches of 4 bags (and a rate of 5e-3) give 74 and 84, but take Ray twice as many steps.
    """
    return world() | {
        "epochs": 6,
        "plan": {"clips_per_bag": 4, "bags_per_batch": 8},
        "focus": {"warmup_epochs": 1},
        "checkpoint": {"every_batches": 4, "keep": 2},
        "placement": {"workers": 2, "decode_workers": 1},
    }


def full() -> dict[str, Any]:
    """The reference on the benchmark worlds: clips get their labels from annotated intervals.

    No weakly supervised run reads these intervals.

    Cost: 28,800 clips of 240 videos in 720 steps; about a minute of one core.
    Command: adaptfocus train full name=full runs=URL index=URL weights=URL
    Expect (measured: docs/results.md, which `python -m benchmarks.regimes` makes): mAP-max, row `full`.
    """
    return _regime("full")


def noisy() -> dict[str, Any]:
    """The baseline on the benchmark worlds: every clip has all labels of its video.

    Cost: that of `full`.
    Command: adaptfocus train noisy name=noisy runs=URL index=URL weights=URL
    Expect (measured: docs/results.md): mAP-max, row `noisy`.
    """
    return _regime("noisy")


def ours() -> dict[str, Any]:
    """AdaptFocus without resampling: clips are drawn uniformly, and AF and CF weight the positives.

    Cost: that of `full`.
    Command: adaptfocus train ours name=ours runs=URL index=URL weights=URL
    Expect (measured: docs/results.md): mAP-max, row `ours`.
    """
    return _regime("ours", resample=False)


def ours_resampled() -> dict[str, Any]:
    """AdaptFocus with resampling: saliency also says where half of the next epoch's clips are drawn.

    Cost: that of `full`.
    Command: adaptfocus train ours_resampled name=ours_resampled runs=URL index=URL weights=URL
    Expect (measured: docs/results_drawn.md): mAP-max, row `resampled`.
    """
    return _regime("ours", resample=True)


def ours_resampled_noisy_or() -> dict[str, Any]:
    """`ours_resampled` plus a noisy-OR loss over the clips of each video.

    Cost: that of `full`.
    Command: adaptfocus train ours_resampled_noisy_or name=noisy-or runs=URL index=URL weights=URL
    Expect (measured: docs/results_drawn.md): mAP-max, row `noisy_or`.
    """
    return _regime("ours", resample=True, focus={"noisy_or": 1.0})


def best() -> dict[str, Any]:
    """Beyond the paper: noisy-OR, weak negatives where clip focusing masks, a faded background in half of the clips.

    Cost: that of `full`.
    Command: adaptfocus train best name=best runs=URL index=URL weights=URL
    Expect (measured: docs/results_drawn.md): mAP-max, row `best`. Where looks tell actions apart, turn the fading off:
    input.fade_background=0 (row `negatives`).
    """
    return _regime("ours", resample=True, focus=PAST_THE_PAPER) | {"input": {"fade_background": 0.5}}


def focused() -> dict[str, Any]:
    """The recipe for data of which nothing is known: noisy-OR, weak negatives, focused negatives, rivalry of labels.

    Cost: that of `full`.
    Command: adaptfocus train focused name=focused runs=URL index=URL
    Expect (measured: docs/results.md): mAP-max, row `focused`.
    """
    return _regime("ours", resample=True, focus=FREED) | {"input": MOVING}


def pretrain_labels() -> dict[str, Any]:
    """Pre-training on your own trimmed clips of other classes or people: noisy training, with labels that are true.

    Cost: 120 clips a video of the index; a batch has 32 clips of 16 videos.
    Command: adaptfocus pretrain INDEX --out weights.pt --task labels
    Expect (measured: docs/results.md#starts): row `labels`.
    """
    return small() | {"plan": {"clips_per_bag": 2, "bags_per_batch": 16}, "focus": {"regime": "noisy"}}


def pretrain_order() -> dict[str, Any]:
    """Pre-training without labels, on the videos that will be trained on: in what order is a clip shown?

    Cost: 240 clips a video, with twice as many frames decoded for each.
    Command: adaptfocus pretrain INDEX --out weights.pt --task order
    Expect (measured: docs/results.md#starts): row `order`.
    """
    return small() | {"task": "order", "focus": {"regime": "full"}}


def figure2() -> dict[str, Any]:
    """Only what the paper's public figure shows: AF and CF, with one spike and its time for each video and label.

    The spike is a running maximum, read before a clip's own visit. The mask is hard, and draws are uniform. Weights are
    not normalised. Of their form the figure shows only that a weight is below 1 below the threshold, and above 1 above
    it; see focus.weight_form.
    Cost: that of `full`.
    Command: adaptfocus train figure2 name=figure2 runs=URL index=URL weights=URL
    Expect (measured: docs/results.md): mAP-max, row `figure2`.
    """
    saliency = {"form": "running_max", "read": "before", "bins": 1, "staleness": 1.0}
    return _regime("ours", resample=False, focus={"normalise_mass": False}) | {"saliency": saliency}


def _regime(regime: str, resample: bool = False, focus: dict[str, Any] | None = None) -> dict[str, Any]:
    below = world()
    return below | {
        "plan": below["plan"] | {"resample": resample},
        "focus": below["focus"] | {"regime": regime} | (focus or {}),
    }


RECIPES: dict[str, Callable[[], dict[str, Any]]] = {
    each.__name__: each
    for each in (
        demo,
        small,
        world,
        full,
        noisy,
        ours,
        ours_resampled,
        ours_resampled_noisy_or,
        best,
        focused,
        figure2,
        pretrain_labels,
        pretrain_order,
        *RECIPES_OF_THE_PAPER,
    )
}


def recipe(name: str) -> dict[str, Any]:
    """The values of a named recipe.

    Raises:
        ConfigError: no recipe of that name; suggests the nearest.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise ConfigError(f"there is no recipe '{name}'; {hint}The recipes are: {', '.join(sorted(RECIPES))}")
    return RECIPES[name]()
