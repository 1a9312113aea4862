"""All settings of a run: everything that decides what is trained, and where.

A recipe's values and overrides become one frozen TrainConfig, which checks that they agree. It is saved with the run as
`config.json`. It holds no secrets: credentials live only in the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pydantic

from adaptfocus.pipelines import store
from adaptfocus.pipelines.decode.settings import DecodeConfig
from adaptfocus.pipelines.plan.settings import ClipConfig, DrawRules, PlanConfig
from adaptfocus.pipelines.saliency.settings import SaliencyConfig
from adaptfocus.pipelines.settings import Settings
from adaptfocus.pipelines.store.reads import ReadConfig
from adaptfocus.pipelines.store.urls import absolute, is_folder_name
from adaptfocus.trainers.backbones.specs import HEAD, PACKAGED, entry_of, place_of_weights
from adaptfocus.trainers.settings.mixture import MixtureConfig
from adaptfocus.trainers.settings.parts import (
    ELSEWHERE,
    AugmentConfig,
    CheckpointConfig,
    FocusConfig,
    InputConfig,
    OptimConfig,
    PlacementConfig,
    StepConfig,
)


class TrainConfig(Settings):
    """One training run."""

    also_called = ELSEWHERE

    name: str
    runs: str  # URL of the folder of runs
    index: str  # URL of the training index
    mixture: MixtureConfig = MixtureConfig()  # further indexes
    # Each epoch is planned from what the index holds then; otherwise all are planned from what it held at the start.
    follow_index: bool = False
    # The width of the head. Without it, as many as the index has classes when the run begins. A run that follows a
    # growing index may need more.
    num_classes: int | None = pydantic.Field(default=None, ge=1, le=1 << 20)
    features: str | None = None  # URL of features of its videos: a head on them is trained instead of a backbone
    seed: int = pydantic.Field(default=0, ge=0, lt=1 << 32)
    epochs: int = pydantic.Field(default=30, ge=1)
    task: Literal["labels", "order"] = "labels"  # order: learn the order of a clip's frames, which needs no label
    backbone: str = "small3d"
    weights: str | None = None  # URL of a pre-trained start; packaged: the weights in an installed package
    start_from: str | None = None  # URL of a finished run, whose last weights are the start
    from_scratch: bool = False  # allow a backbone with batch norms to start without weights
    freeze_backbone: bool = False  # train only the head, and layers that no public weights have
    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)  # of the features that the head sees
    drop_path: float = pydantic.Field(default=0.0, ge=0, lt=1)  # of the last block's branches (MViT); fewer before it
    max_bad_share: float = pydantic.Field(default=0.05, ge=0, le=1)  # the run ends when more videos than this are bad
    clip: ClipConfig = ClipConfig()
    decode: DecodeConfig = DecodeConfig()
    input: InputConfig = InputConfig()
    augment: AugmentConfig = AugmentConfig()
    plan: PlanConfig = PlanConfig()
    saliency: SaliencyConfig = SaliencyConfig()
    focus: FocusConfig = FocusConfig()
    optim: OptimConfig = OptimConfig()
    step: StepConfig = StepConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    read: ReadConfig = ReadConfig()
    placement: PlacementConfig = PlacementConfig()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _clips_of_the_backbone(cls, values: Any) -> Any:
        """Fill in what is not given about clips with what the backbone was made for, and resolve an input of `auto`.

        With `features`, a head on them is trained, whatever backbone a recipe names.
        """
        if not isinstance(values, Mapping):
            return values
        if values.get("features"):
            values = {**values, "backbone": HEAD}
        name = values.get("backbone", cls.model_fields["backbone"].default)
        clip = values.get("clip", {})
        if not isinstance(name, str) or not isinstance(clip, Mapping):  # pydantic says what is wrong with them
            return values
        entry = entry_of(name)
        spec = entry.spec
        own = {"frames": spec.frames, "frame_stride": spec.frame_stride, "size_pixels": spec.size_pixels}
        shown = values.get("input", {})
        if isinstance(shown, Mapping) and shown.get("motion") == "auto":
            # From scratch, small3d learns nothing of real people on RGB. Public weights were made for RGB.
            as_it_is = name == HEAD or entry.has_public_weights
            values = {**values, "input": {**shown, "motion": "rgb" if as_it_is else "zero_mean_kernels"}}
        return {**values, "clip": own | dict(clip)}

    @pydantic.field_validator("name")
    @classmethod
    def _is_a_folders_name(cls, name: str) -> str:
        if not is_folder_name(name):
            raise ValueError(
                "a name begins with a letter A-Z, a-z or a digit, and then has only those, '.', '_' and '-'; up to 100 "
                "in all. It names the run's folder, which lies in `runs`"
            )
        return name

    @pydantic.field_validator("runs", "index", "features", "weights", "start_from")
    @classmethod
    def _is_a_place(cls, url: str | None, info: pydantic.ValidationInfo) -> str | None:
        """Refuse credentials, and make paths absolute: processes of the run may work in different folders."""
        if url == PACKAGED and info.field_name == "weights":
            return url
        if url is not None and not url:
            raise ValueError("it is empty; give a path or a URL")
        return url if url is None else absolute(store.check_url(url))

    @pydantic.model_validator(mode="after")
    def _agrees(self) -> TrainConfig:
        g, w = self.plan.bags_per_batch, self.placement.workers
        if g % w:
            divisors = [n for n in range(1, g + 1) if g % n == 0]
            raise ValueError(
                f"a global batch of plan.bags_per_batch = {g} bags cannot be split over placement.workers = {w}; "
                f"use one of {divisors} workers"
            )
        if (least := self.placement.min_workers) and least > w:
            raise ValueError(f"placement.min_workers = {least} is more than placement.workers = {w}; lower it")
        if self.weights and self.start_from:
            raise ValueError("weights and start_from both say where the run starts; give only one of them")
        if self.freeze_backbone and not (self.weights or self.start_from or self.features or self.from_scratch):
            raise ValueError(
                "freeze_backbone=true without weights would train a head on random features; give weights=URL or "
                "start_from=RUN"
            )
        if self.task == "order" and self.focus.regime != "full":
            raise ValueError(
                f"task=order needs focus.regime=full, not {self.focus.regime}: the order of each clip is known, so no "
                "interval is read; the recipe pretrain_order sets it"
            )
        if self.task == "order" and self.clip.frames < 3:
            raise ValueError(f"task=order needs clip.frames of at least 3, not {self.clip.frames}: one for each part")
        self._check_features()
        if self.mixture.more:
            self._check_mixture()
        elif self.mixture.weight != (1.0,):
            raise ValueError("mixture.weight has no effect without mixture.more: a run on one index; leave it out")
        if self.decode_size_pixels < self.clip.size_pixels:
            raise ValueError(
                f"augment.decode_size_pixels = {self.decode_size_pixels} is less than clip.size_pixels = "
                f"{self.clip.size_pixels}; raise it, or leave it out"
            )
        if self.task == "order" and (self.num_classes or self.plan.max_labels):
            raise ValueError("task=order has labels of its own; leave num_classes and plan.max_labels out")
        return self

    def _check_mixture(self) -> None:
        self.mixture.check_weights()
        urls = [url.rstrip("/") for url in self.index_urls]
        if twice := {url for url in urls if urls.count(url) > 1}:
            raise ValueError(f"mixture.more: {min(twice)} is given twice; give each index once, with its whole weight")
        if not self.plan.bags_per_epoch:
            raise ValueError(
                "mixture.more needs plan.bags_per_epoch, of which each index gives its share; set it, for example to "
                "the number of videos of the largest index"
            )
        wrong = {"features": bool(self.features), "task=order": self.task != "labels"}
        if named := [name for name, is_set in wrong.items() if is_set]:
            raise ValueError(f"mixture.more: {', '.join(named)} is for a run on one index; leave one of the two out")
        for each in self.mixture.more:
            if self.focus.regime == "full" and len({*each.labels.values()}) < len(each.labels):
                raise ValueError(
                    f"mixture.more: the labels of {each.index} map two names to one; focus.regime=full cannot tell "
                    "whether such a video has intervals of both. Rename the labels and index again"
                )

    def _check_features(self) -> None:
        if not self.features:
            if self.backbone == HEAD:
                raise ValueError(f"backbone={HEAD} is trained on features; give features=URL (`adaptfocus extract`)")
            if self.clip.size_pixels < 2:
                raise ValueError(f"clip.size_pixels = {self.clip.size_pixels}: it must be at least 2")
            return
        if self.follow_index:
            raise ValueError(
                "follow_index=true with features: they are of the videos that the index had when they were extracted, "
                "so new ones have none; leave follow_index out, or train on the videos themselves"
            )
        pixels = {
            "input.motion": self.input.motion != "rgb", "input.fade_background": self.input.fade_background > 0,
            "augment": self.augment.on, "clip.size_pixels": self.clip.size_pixels != 1, "weights": bool(self.weights),
            "task": self.task != "labels", "freeze_backbone": self.freeze_backbone,
        }  # fmt: skip
        if wrong := [key for key, is_set in pixels.items() if is_set]:
            raise ValueError(
                f"{', '.join(wrong)}: this is about pixels, and with features no pixels are read; leave it at its "
                "default (input.motion=rgb, input.fade_background=0)"
            )

    @property
    def weights_url(self) -> str | None:
        """Where the weights of the pre-trained start are.

        Raises:
            ConfigError: they are those of a package that is not installed, or that has none of this backbone.
        """
        return place_of_weights(self.backbone, self.weights) if self.weights else None

    @property
    def decode_size_pixels(self) -> int:
        """Side of the squares that training clips are decoded to."""
        return self.augment.decode_size_pixels or self.clip.size_pixels

    @property
    def drawn_clip(self) -> ClipConfig:
        """A training clip as it is drawn and decoded. For `task=order` it is long enough to be shown twice as fast."""
        return self.clip.model_copy(update={"frames": 2 * self.clip.frames}) if self.task == "order" else self.clip

    def clip_of(self, source: int) -> ClipConfig:
        """A clip of the videos of one of the run's indexes, by its number."""
        fps = self.mixture.more[source - 1].fps if source else None
        return self.clip.model_copy(update={"fps": fps}) if fps else self.clip

    @property
    def index_urls(self) -> tuple[str, ...]:
        """All indexes of the run, its own first."""
        return (self.index, *(each.index for each in self.mixture.more))

    @property
    def crop_fractions(self) -> tuple[float, ...]:
        """How the videos of each index are cropped."""
        own = self.decode.crop_fraction
        return (own, *(each.crop_fraction or own for each in self.mixture.more))

    @property
    def draws_by_clip(self) -> bool:
        """Whether a training step draws random numbers from its clips' ids."""
        return bool(self.input.fade_background or self.dropout or self.drop_path or self.augment.on)

    @property
    def url(self) -> str:
        """The run's folder."""
        return store.join(self.runs, self.name)

    @property
    def draw_rules(self) -> DrawRules:
        """How clips are drawn: Full takes its positives from intervals, and only Ours draws around salient moments."""
        resample = self.plan.resample and self.focus.regime == "ours"
        return DrawRules(
            clips_per_bag=self.plan.clips_per_bag,
            bags_per_batch=self.plan.bags_per_batch,
            explore_probability=self.plan.explore_probability,
            delta=self.focus.delta,
            delta_seconds=self.focus.delta_seconds,
            focus_from_epoch=self.focus.warmup_epochs if resample else None,
            full_labels=self.focus.full_labels if self.focus.regime == "full" and self.task == "labels" else None,
            repeat_factor=self.plan.repeat_factor,
            focus_balance=self.plan.focus_balance,
            resample_by=self.plan.resample_by,
        )

    def what_is_trained(self) -> dict:
        """The settings that a resumed run must share with its beginning."""
        how = set(StepConfig.model_fields) - {"precision"}
        places = {"more": {"__all__": {"index"}}}  # identified by their fingerprints
        free: dict[str, Any] = dict.fromkeys(("from_scratch", "follow_index", "placement", "checkpoint", "read"), True)
        return self.model_dump(mode="json", exclude={**free, "step": how, "mixture": places})
