"""The variants that are compared on the benchmark worlds. Each is a recipe and a list of overrides under a name.

Every variant trains on the same videos, from the same start, with the same seed and schedule, for the same number of
clips. To try something, add a line.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from adaptfocus.pipelines.errors import ConfigError
from benchmarks.studies.imprecision import Imprecision

REFERENCE = "resampled"  # ablations change one thing in it


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    what: str
    recipe: str
    overrides: tuple[str, ...] = ()
    annotation: Imprecision | None = None  # imprecise intervals to train on, instead of the true ones


_NO_FADING, _FADING = "input.fade_background=0", "input.fade_background=0.5"

MAIN = {
    "full": Variant("labels of clips from annotated intervals", "full"),
    "noisy": Variant("every clip has its video's labels", "noisy"),
    "ours": Variant("AF and CF, clips drawn uniformly", "ours"),
    "resampled": Variant("ours, and half of the clips drawn around salient times", "ours_resampled"),
    "noisy_or": Variant("resampled, and noisy-OR over a video's clips", "ours_resampled_noisy_or"),
    "negatives": Variant("noisy_or, and masked labels as weak negatives", "best", (_NO_FADING,)),
    "best": Variant("negatives, and the background faded in half of the clips", "best"),
    "noisy_faded": Variant("noisy with the same fading", "noisy", (_FADING,)),
    "full_faded": Variant("full with the same fading", "full", (_FADING,)),
}

# (variant, the noisy and the full to compare it with). What one of the three has, the others have too.
LIKE_FOR_LIKE = {
    "gap_closed": ("best", "noisy_faded", "full_faded"),
    "gap_closed_unfaded": ("negatives", "noisy", "full"),
    "gap_closed_moving": ("best_moving", "noisy_moving", "full_moving"),
}

_ALONE = {
    "af_only": ("no clip focusing", "focus.clip_focusing=false"),
    "cf_only": ("no action focusing", "focus.action_focusing=false"),
    "no_normalisation": ("no mass normalisation", "focus.normalise_mass=false"),
    "eps0": ("no exploration", "plan.explore_probability=0"),
    "eps1": ("only exploration: draws what `ours` draws", "plan.explore_probability=1"),
    "delta.25": ("wider focus", "focus.delta=0.25"),
    "warmup0": ("no warm-up", "focus.warmup_epochs=0"),
    "warmup6": ("6 epochs of warm-up", "focus.warmup_epochs=6"),
    "T.05": ("harder weights", "focus.temperature=0.05"),
    "T.2": ("softer weights", "focus.temperature=0.2"),
    "last_visit": ("a bin keeps its last visit only", "saliency.update_rate=1"),
    "no_fading": ("bins do not fade", "saliency.staleness=1"),
    "lead0": ("no batch is drawn an epoch early", "plan.lead_batches=0"),
}

# What was tried beyond the paper, each as one change of `best`.
_PAST = {
    "neg0": ("no weak negatives", "focus.background_weight=0"),
    "neg1": ("weak negatives of half the weight", "focus.background_weight=1"),
    "neg4": ("weak negatives of twice the weight", "focus.background_weight=4"),
    "neg_from.1": ("weak negatives from a tenth of the training on", "focus.background_from=0.1"),
    "or0": ("no noisy-OR", "focus.noisy_or=0"),
    "fade.8": ("fading in four clips of five", "input.fade_background=0.8"),
    "explore.3": ("less exploration", "plan.explore_probability=0.3"),
    "explore.7": ("more exploration", "plan.explore_probability=0.7"),
    "bags5": ("batches of half as many videos, twice the steps", "plan.bags_per_batch=5"),
    "bags4": ("batches of 4 videos, 2.5 times the steps", "plan.bags_per_batch=4"),
    "zdc": ("kernels without a mean over time, fading kept", "input.motion=zero_mean_kernels"),
    "both": ("RGB and differences, fading kept", "input.motion=rgb_and_difference"),
    "last": ("a bin keeps its last visit only", "saliency.update_rate=1"),
}

# Inputs without what stands still, for every regime. None of them has faded backgrounds.
_MOTION = {
    "diff": ("differences", "input.motion=difference"),
    "zdc": ("kernels without a mean over time", "input.motion=zero_mean_kernels"),
    "both": ("RGB and differences", "input.motion=rgb_and_difference"),
}
_REGIMES = {"noisy": "noisy", "full": "full", "negatives": "best"}

ABLATIONS = {name: Variant(what, "ours_resampled", (change,)) for name, (what, change) in _ALONE.items()} | {
    "noisy_or_alone": Variant(
        "noisy, and noisy-OR over a video's clips",
        "ours",
        ("focus.action_focusing=false", "focus.clip_focusing=false", "focus.noisy_or=1"),
    ),
    "one_cycle": Variant(
        "resampled under a one-cycle schedule",
        "ours_resampled",
        ("optim.schedule=one_cycle", "optim.learning_rate=0.004", "optim.beta2=0.999", "optim.weight_decay=0.01"),
    ),
}

PAST = {name: Variant(f"best, {what}", "best", (change,)) for name, (what, change) in _PAST.items()}
MOTION = {
    f"{regime}_{short}": Variant(f"{regime}, {what}", recipe, (_NO_FADING, change))
    for regime, recipe in _REGIMES.items()
    for short, (what, change) in _MOTION.items()
}
TAIL = {
    f"{regime}_repeat": Variant(f"{regime}, rare classes repeated", recipe, ("plan.repeat_factor=0.5",))
    for regime, recipe in (_REGIMES | {"best": "best"}).items()
    if regime != "negatives"
} | {"best_balanced": Variant("best, rare classes looked at more", "best", ("plan.focus_balance=1",))}

# These find slow classes sooner (docs/results_drawn.md): an input that cannot see what stands still, and more steps.
_SOONER = ("input.motion=zero_mean_kernels", "plan.bags_per_batch=4")
MOVING = {
    "best_moving": Variant("best, kernels without a mean over time, batches of 4 videos", "best", _SOONER),
    "noisy_moving": Variant("noisy with the same fading, kernels and batches", "noisy", (_FADING, *_SOONER)),
    "full_moving": Variant("full with the same fading, kernels and batches", "full", (_FADING, *_SOONER)),
}

FREED = {
    "focused": Variant("negatives, with focused negatives and rivalry of a video's labels", "focused"),
    "focused_no_rivalry": Variant("focused, without rivalry", "focused", ("focus.rivalry=0",)),
    "focused_no_negatives": Variant("focused, negatives all alike", "focused", ("focus.negative_focus=0",)),
    "figure2": Variant("what the paper's figure shows", "figure2"),
    "figure2_ratio": Variant("figure2, weights p / threshold", "figure2", ("focus.weight_form=ratio",)),
    "figure2_exponential": Variant("figure2, exponential weights", "figure2", ("focus.weight_form=exponential",)),
    "figure2_superloss": Variant(
        "figure2, SuperLoss weights", "figure2", ("focus.weight_form=superloss", "focus.temperature=1")
    ),
    "figure2_bins": Variant(
        "figure2, bins that fade", "figure2", ("saliency.form=bins", "saliency.bins=20", "saliency.staleness=0.98")
    ),
    "figure2_after": Variant("figure2, read after the clip's own visit", "figure2", ("saliency.read=after",)),
    "figure2_mass": Variant("figure2, mass normalisation", "figure2", ("focus.normalise_mass=true",)),
}

# Full with the input of `focused`, to compare tags with; then the same with annotation as people make it.
_SAME_INPUT, _OVERLAP = "input.motion=auto", "focus.full_labels=overlap"
IMPRECISE = {
    "full_same_input": Variant("full with the input of focused", "full", (_SAME_INPUT,)),
    "full_imprecise": Variant(
        "full_same_input from imprecise intervals, a tenth of them missing", "full", (_SAME_INPUT,), Imprecision()
    ),
    "full_wide": Variant(
        "full_same_input from imprecise intervals, none missing", "full", (_SAME_INPUT,), Imprecision(missing=0.0)
    ),
    "full_imprecise_overlap": Variant(
        "full_imprecise, positive wherever a clip overlaps", "full", (_SAME_INPUT, _OVERLAP), Imprecision()
    ),
}

VARIANTS = MAIN | ABLATIONS | PAST | MOTION | TAIL | MOVING | FREED | IMPRECISE
# For stitched videos of real people (benchmarks/people.py). None has faded backgrounds.
PEOPLE = ("full", "noisy", "ours", "negatives", "focused", "figure2")
GROUPS = {
    "main": tuple(MAIN),
    "ablations": tuple(ABLATIONS),
    "past": ("best", *PAST),
    "motion": ("full", "noisy", "negatives", "best", *MOTION),
    "tail": ("full", "noisy", "best", *TAIL),
    "moving": ("best", *MOVING),
    "people": PEOPLE,
    "freed": ("full", "noisy", *FREED),
    "imprecise": ("focused", *IMPRECISE),
    "all": tuple(VARIANTS),
}


def chosen(names: Sequence[str]) -> dict[str, Variant]:
    """Variants by name, in the order of the table; the name of a group stands for all its variants.

    Raises:
        ConfigError: no variant or group has that name; suggests the nearest.
    """
    wanted: set[str] = set()
    for name in names:
        if name not in GROUPS and name not in VARIANTS:
            near = difflib.get_close_matches(name, [*GROUPS, *VARIANTS], n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise ConfigError(
                f"there is no variant '{name}'; {hint}The variants are: {', '.join([*GROUPS, *VARIANTS])}"
            )
        wanted.update(GROUPS.get(name, (name,)))
    return {name: variant for name, variant in VARIANTS.items() if name in wanted}
