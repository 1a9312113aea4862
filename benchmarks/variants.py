"""What is compared on the benchmark worlds: a recipe and a list of overrides under a name each.

Input: names. Does: looks them up. Output: Variants. To try something, add a line.

Every variant trains on the same videos, from the same start, with the same seed and schedule, for as many clips.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.errors import ConfigError

REFERENCE = "resampled"  # what ablations change one thing of


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    what: str
    recipe: str
    overrides: tuple[str, ...] = ()


MAIN = {
    "full": Variant("labels of clips from annotated intervals", "full"),
    "noisy": Variant("every clip has its video's labels", "noisy"),
    "ours": Variant("AF and CF, clips drawn uniformly", "ours"),
    "resampled": Variant("ours, and half of the clips drawn around salient times", "ours_resampled"),
    "best": Variant("resampled, and noisy-OR over a video's clips", "ours_resampled_noisy_or"),
}

_ALONE = {
    "af_only": ("no clip focusing", "focus.clip_focusing=false"),
    "cf_only": ("no action focusing", "focus.action_focusing=false"),
    "no_normalisation": ("no mass normalisation", "focus.normalise_mass=false"),
    "eps0": ("no exploration", "plan.explore_probability=0"),
    "eps1": ("exploration alone: draws what `ours` draws", "plan.explore_probability=1"),
    "delta.25": ("wider focus", "focus.delta=0.25"),
    "warmup0": ("no warm-up", "focus.warmup_epochs=0"),
    "warmup6": ("6 epochs of warm-up", "focus.warmup_epochs=6"),
    "T.05": ("harder weights", "focus.temperature=0.05"),
    "T.2": ("softer weights", "focus.temperature=0.2"),
    "last_visit": ("a bin keeps its last visit only", "saliency.update_rate=1"),
    "no_fading": ("bins do not fade", "saliency.staleness=1"),
    "lead0": ("no batch is drawn an epoch early", "plan.lead_batches=0"),
}

ABLATIONS = {name: Variant(what, "ours_resampled", (change,)) for name, (what, change) in _ALONE.items()} | {
    "noisy_or_alone": Variant("noisy, and noisy-OR over a video's clips", "noisy", ("focus.noisy_or=1",)),
    "one_cycle": Variant(
        "resampled under the schedule of the recipe `world`",
        "ours_resampled",
        ("optim.schedule=one_cycle", "optim.learning_rate=0.004", "optim.beta2=0.999", "optim.weight_decay=0.01"),
    ),
}

VARIANTS = MAIN | ABLATIONS
GROUPS = {"main": tuple(MAIN), "ablations": tuple(ABLATIONS), "all": tuple(VARIANTS)}


def chosen(names: Sequence[str]) -> dict[str, Variant]:
    """Variants by name, in the order of the table; a group's name stands for all of it.

    Raises:
        ConfigError: no variant or group has that name; suggests the nearest.
    """
    wanted: set[str] = set()
    for name in names:
        if name not in GROUPS and name not in VARIANTS:
            near = difflib.get_close_matches(name, [*GROUPS, *VARIANTS], n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise ConfigError(f"there is no variant '{name}'; {hint}There are: {', '.join([*GROUPS, *VARIANTS])}")
        wanted.update(GROUPS.get(name, (name,)))
    return {name: variant for name, variant in VARIANTS.items() if name in wanted}
