"""Which world: its kind, its size, its seed.

Input: values. Does: checks that they give a world. Output: a frozen WorldConfig, the content of a world's world.json.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.worlds.render import APPEARANCES, SPRITE_PIXELS, SPRITES
from adaptfocus.pipelines.worlds.trimmed import MOVEMENTS

SPLITS = ("train", "test")
MOTIONS = ("horizontal", "vertical")


@dataclass(frozen=True)
class WorldKind:
    """What tells one world from another."""

    label_counts: tuple[int, ...]  # a video has one of these, each as likely
    min_coverage: float  # share of its video that an action covers
    max_coverage: float
    coverage_power: float  # coverage = min + (max - min) u^power, u uniform
    max_intervals: int  # an action's share is one interval, or up to this many
    by_appearance: bool = False  # a class is a thing, whatever it does; else a sprite that runs along an axis
    is_composed: bool = False  # a video is an activity: actions in an order, one at a time (worlds/activities.py)
    min_seconds: float = 4.0  # of a video
    is_filmed: bool = False  # camera, light and sizes change, and classes come in pairs (worlds/filmed.py)


# A kind's place is part of what its videos are drawn from: add at the end.
KINDS = {
    # 2-5 labels, mean 3.5; coverage 10-25 %, mean 16 %: like MultiThumos and Breakfast.
    "a": WorldKind((2, 3, 4, 5), 0.10, 0.25, 1.5, max_intervals=1),
    # mean 5.1 labels; coverage mean 34 %: long and frequent actions, like Charades.
    "b": WorldKind((3, 4, 4, 5, 5, 5, 6, 6, 6, 7), 0.20, 0.48, 1.0, max_intervals=2),
    # For a first look in a minute: fewer labels a video (mean 2.3), coverage mean 27 %, so that focusing gets under way
    # within six epochs; in A it takes the thirty of the benchmark. Never compare its figures with those of A or B.
    "demo": WorldKind((2, 2, 3), 0.18, 0.36, 1.0, max_intervals=1),
    # A's labels and coverage, but known by colour and shape, not by movement: what motion-only inputs cost.
    "c": WorldKind((2, 3, 4, 5), 0.10, 0.25, 1.5, max_intervals=1, by_appearance=True),
    # Trimmed clips of other labels, to pre-train on (worlds/trimmed.py): one to three sprites, all the time.
    "pretrain": WorldKind((1, 2, 3), 1.0, 1.0, 1.0, max_intervals=1, min_seconds=2.0),
    # For what features are good for: activities, each of which is some actions in an order. Of an action's coverage,
    # that of one time; it may come twice. How many labels a video has follows from its activity.
    "d": WorldKind((), 0.08, 0.16, 1.0, max_intervals=2, is_composed=True),
    # Not at the ceiling: short and long actions, before a camera that moves. Labels before their partners join.
    "e": WorldKind((1, 2, 3), 0.03, 0.30, 1.0, max_intervals=2, is_filmed=True),
}
TRIMMED = "pretrain"
COMPOSED_SPRITES = 4  # 8 actions are the fewest that give the sets of a composed world


def check_kind(kind: str) -> str:
    """Return `kind` if there is one of that name. Raises ConfigError."""
    if kind not in KINDS:
        raise ConfigError(f"world kind {kind!r} is not known; choose one of {', '.join(KINDS)}")
    return kind


@dataclass(frozen=True)
class WorldConfig:
    """A world. The defaults are the benchmark's; WORLDS has those of each kind.

    With `long_tail`, the labels of the training videos are drawn with class frequencies proportional to 1 / rank, as
    far as they can be: a video shows a class once at most, so the most frequent class of A is in 90 % of its videos,
    and not in 113 %. The test split stays balanced, so that mAP there weighs all classes alike.

    Raises:
        ConfigError: a value that gives no world.
    """

    kind: str = "a"
    num_train_videos: int = 240
    num_test_videos: int = 100
    min_seconds: float = 60.0
    max_seconds: float = 120.0
    fps: int = 4
    pixels: int = 20
    upscale: int = 4
    num_sprites: int = 6  # K = 2 x this; of trimmed clips, this and the number of movements
    distractors: float = 1.0  # seen at a time, on average; trimmed clips have none
    seed: int = 0
    long_tail: bool = False

    def __post_init__(self) -> None:
        check_kind(self.kind)
        if not 1 <= self.num_sprites <= len(SPRITES):
            raise ConfigError(f"num_sprites is {self.num_sprites}; choose 1 to {len(SPRITES)}")
        least_seconds = KINDS[self.kind].min_seconds
        if not least_seconds <= self.min_seconds <= self.max_seconds:
            raise ConfigError(
                f"min_seconds {self.min_seconds} and max_seconds {self.max_seconds}: "
                f"a video lasts at least {least_seconds:g} seconds, and the maximum is not below the minimum"
            )
        if self.pixels < 2 * SPRITE_PIXELS or (self.pixels * self.upscale) % 2:
            raise ConfigError(
                f"pixels {self.pixels} x upscale {self.upscale}: at least {2 * SPRITE_PIXELS} pixels, "
                "and an even product, which H.264 with 4:2:0 chroma needs"
            )
        if self.fps < 1 or self.upscale < 1 or self.distractors < 0 or self.seed < 0:
            raise ConfigError(
                f"fps {self.fps}, upscale {self.upscale}, distractors {self.distractors}, seed {self.seed}: "
                "fps and upscale are at least 1, the others not negative"
            )
        if self.kind == TRIMMED and (self.long_tail or self.distractors):
            raise ConfigError(
                f"kind {self.kind!r} with long_tail {self.long_tail}, distractors {self.distractors}: trimmed clips "
                "have neither a long tail nor distractors; choose another kind, or leave them out"
            )
        if KINDS[self.kind].is_composed and (self.long_tail or self.num_sprites < COMPOSED_SPRITES):
            raise ConfigError(
                f"kind {self.kind!r} with long_tail {self.long_tail}, num_sprites {self.num_sprites}: its labels "
                f"follow from activities, all as frequent and made of {2 * COMPOSED_SPRITES} actions or more; "
                f"choose another kind, or no long tail and num_sprites {COMPOSED_SPRITES} or more"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """The K names, such as ``red_square_horizontal``; their order is the class ids'."""
        sprites = SPRITES[: self.num_sprites]
        if self.kind == TRIMMED:
            return (*sprites, *MOVEMENTS)
        if KINDS[self.kind].by_appearance:
            return APPEARANCES[: 2 * self.num_sprites]
        return tuple(f"{sprite}_{motion}" for sprite in sprites for motion in MOTIONS)

    def num_videos(self, split: str) -> int:
        return {"train": self.num_train_videos, "test": self.num_test_videos}[split]


# The demo's world: 5 s to encode on two cores, 2.3 MB. Six epochs of 4 clips a video tell Ours from Noisy in it, with
# each of 14 paired seeds and two batch sizes tried (trainers/settings/recipes.py has the figures).
DEMO_WORLD = WorldConfig(
    kind="demo",
    num_train_videos=128,
    num_test_videos=40,
    min_seconds=30,
    max_seconds=40,
    num_sprites=4,
    distractors=0.3,
)
# Each kind at its usual size.
WORLDS = {kind: WorldConfig(kind) for kind in ("a", "b", "c")} | {
    "d": WorldConfig("d", num_sprites=COMPOSED_SPRITES, distractors=2.0),
    "demo": DEMO_WORLD,
    "e": WorldConfig("e"),
    "pretrain": WorldConfig("pretrain", 4000, 200, min_seconds=2.5, max_seconds=3.5, distractors=0),
}


def world_of(kind: str, **changes: int | bool | float | None) -> WorldConfig:
    """The usual world of a kind, with those of `changes` that are not None.

    Raises:
        ConfigError: there is no such kind, or a value that gives no world.
    """
    return replace(WORLDS[check_kind(kind)], **{name: value for name, value in changes.items() if value is not None})
