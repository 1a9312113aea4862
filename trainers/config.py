"""A run, completely: everything that decides what is trained, and where.

Input: a recipe's values and overrides. Does: checks that they agree. Output: one frozen TrainConfig, saved with the
run as `config.json` (no secrets: credentials live in the environment alone).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import pydantic

from adaptfocus.pipelines import storage
from adaptfocus.pipelines.clip_plan import ClipConfig, DrawRules, PlanConfig
from adaptfocus.pipelines.config import Settings
from adaptfocus.pipelines.frames import DecodeConfig
from adaptfocus.pipelines.isolated import Isolation
from adaptfocus.pipelines.places import absolute, is_folder_name
from adaptfocus.pipelines.saliency_table import SaliencyConfig
from adaptfocus.pipelines.store_reads import ReadConfig
from adaptfocus.trainers.augment import AugmentConfig
from adaptfocus.trainers.backbones import HEAD, entry_of
from adaptfocus.trainers.focus import FocusConfig
from adaptfocus.trainers.inputs import InputConfig

# What the settings of other projects are called, and what people type from habit.
ELSEWHERE = {
    **dict.fromkeys(("lr", "base_lr", "max_lr", "learning_rate", "learningrate"), "optim.learning_rate"),
    **dict.fromkeys(("wd", "decay"), "optim.weight_decay"),
    **dict.fromkeys(("scheduler", "lr_scheduler", "lr_schedule", "lr_policy"), "optim.schedule"),
    **dict.fromkeys(
        ("clip_grad", "grad_clip", "clip_grad_norm", "max_grad_norm", "gradient_clip_val"), "optim.clip_gradient_norm"
    ),
    **dict.fromkeys(("batch_size", "batch", "bs", "train_batch_size", "global_batch_size"), "plan.bags_per_batch"),
    **dict.fromkeys(("num_clips", "clips", "clips_per_video", "num_segments"), "plan.clips_per_bag"),
    **dict.fromkeys(("num_epochs", "max_epochs", "max_epoch", "n_epochs", "num_train_epochs", "epoch"), "epochs"),
    **dict.fromkeys(("model", "arch", "network", "net", "model_name"), "backbone"),
    **dict.fromkeys(("pretrained", "checkpoint_path", "checkpoint_file", "ckpt", "init"), "weights"),
    **dict.fromkeys(("workers", "num_workers", "world_size", "num_gpus", "devices"), "placement.workers"),
    **dict.fromkeys(("gpus", "gpu", "device", "cuda", "use_gpu"), "placement.gpus_per_worker"),
    **dict.fromkeys(("cpus", "num_cpus", "loader_workers", "dataloader_workers"), "placement.decode_workers"),
    **dict.fromkeys(("amp", "fp16", "bf16", "mixed_precision", "dtype"), "step.precision"),
    **dict.fromkeys(("accumulation_steps", "gradient_accumulation_steps", "accum_iter"), "step.accumulate"),
    **dict.fromkeys(("num_frames", "n_frames", "clip_len", "clip_length"), "clip.frames"),
    **dict.fromkeys(("stride", "sampling_rate", "frame_interval"), "clip.frame_stride"),
    **dict.fromkeys(("image_size", "img_size", "crop_size", "resolution", "input_size"), "clip.size_pixels"),
    **dict.fromkeys(("random_seed", "manual_seed"), "seed"),
    **dict.fromkeys(("output", "out", "output_dir", "out_dir", "save_dir", "work_dir", "log_dir"), "runs"),
    **dict.fromkeys(("data", "dataset", "data_path", "data_dir", "data_root"), "index"),
    **dict.fromkeys(("run_name", "exp_name", "experiment"), "name"),
    **dict.fromkeys(("warmup", "num_warmup_epochs"), "focus.warmup_epochs"),
}


class OptimConfig(Settings):
    """The optimiser and its schedule; progress is the fraction of all planned bags, so it does not know of workers.

    `sgd` has Nesterov's momentum, of `beta1`.
    """

    name: Literal["adamw", "sgd"] = "adamw"

    learning_rate: float = pydantic.Field(default=4e-3, gt=0)
    weight_decay: float = pydantic.Field(default=0.01, ge=0)
    beta1: float = pydantic.Field(default=0.9, ge=0, lt=1)
    beta2: float = pydantic.Field(default=0.999, ge=0, lt=1)
    schedule: Literal["one_cycle", "up7", "cosine", "steps", "constant"] = "one_cycle"
    clip_gradient_norm: float | None = pydantic.Field(default=None, gt=0)


class StepConfig(Settings):
    """How a step is computed. All but `precision` may be another when a run is resumed: what is trained stays the same.

    docs/training.md says what each switch does.
    """

    precision: Literal["float32", "bf16"] = "float32"  # of the backbone; logits, loss and weights are float32
    channels_last: bool = False  # pixels and 3D kernels with their channels innermost
    fused_optimiser: bool = True  # one kernel for all weights, where the device has one
    accumulate: int = pydantic.Field(default=1, ge=1)  # parts into which a rank's share of a global batch is split
    checkpoint_activations: bool = False  # compute each block's activations again in the backward pass
    compile: bool = False  # with torch.compile
    sharding: Literal["ddp", "fsdp2"] = "ddp"  # of several workers


class CheckpointConfig(Settings):
    """When to commit, whichever comes first, and at the end of each epoch; and which states stay.

    Nothing here changes what is trained: a run may be resumed with other values.
    """

    every_batches: int | None = pydantic.Field(default=100, ge=1)  # global batches
    every_clips: int | None = pydantic.Field(default=None, ge=1)  # over all workers
    every_seconds: float | None = pydantic.Field(default=None, gt=0)  # by the clock of rank 0
    keep: int = pydantic.Field(default=2, ge=1)  # newest states
    keep_epochs: int | None = pydantic.Field(default=None, ge=1)  # and that of the end of every such epoch

    def batches_apart(self, clips_per_batch: int) -> float:
        """Global batches from one commit to the next, as far as they are counted in batches or clips."""
        by_clips = math.ceil(self.every_clips / clips_per_batch) if self.every_clips else math.inf
        return min(self.every_batches or math.inf, by_clips)


class PlacementConfig(Settings):
    """Where the run runs. Nothing here changes what is trained: a run may be resumed with other values."""

    engine: Literal["auto", "ray", "local"] = "auto"  # auto: `engine_at` chooses
    workers: int = pydantic.Field(default=1, ge=1)
    min_workers: int | None = pydantic.Field(default=None, ge=1)  # the run goes on with so few; None: with all only
    gpus_per_worker: float = pydantic.Field(default=0, ge=0)
    worker_resources: dict[str, float] = pydantic.Field(default_factory=dict)  # further ones that each worker takes
    decode_workers: int = pydantic.Field(default=2, ge=1)  # cores
    decode_labels: dict[str, str] = pydantic.Field(
        default_factory=dict
    )  # of the nodes that decode (Ray's label selector); any node if empty
    max_restarts: int = pydantic.Field(default=3, ge=-1)  # of the worker group after failures; -1: no limit
    resize_seconds: float = pydantic.Field(default=60, gt=0)  # between two looks for nodes to grow on
    collective_timeout_seconds: int = pydantic.Field(default=900, ge=1)  # until a lost peer is no longer waited for
    isolate_decoding: bool = True  # in processes of their own (docs/decisions/0013)
    decode_deadline_seconds: float = pydantic.Field(default=60.0, gt=0)  # of each bag, and 0.25 s more a packet
    decode_memory_mib: int = pydantic.Field(default=2048, ge=64)  # of each decoding process

    def engine_at(self, address: str | None) -> Literal["ray", "local"]:
        """Where `auto` runs: in this process, which starts a minute sooner, unless something is asked for that only a
        cluster has. Where `address` is given there is one already."""
        if self.engine != "auto":
            return self.engine
        apart = self.gpus_per_worker or self.worker_resources or self.decode_labels
        wide = self.workers > 1 or self.decode_workers > type(self).model_fields["decode_workers"].default
        return "ray" if address or apart or wide else "local"

    def of_each_worker(self) -> dict[str, float]:
        """The resources that Ray counts for each rank."""
        gpus = {"GPU": self.gpus_per_worker} if self.gpus_per_worker else {}
        return {"CPU": 1.0, **gpus, **self.worker_resources}

    @property
    def isolation(self) -> Isolation | None:
        """What a bag may take; None if bags are decoded in the process itself."""
        return Isolation(self.decode_deadline_seconds, self.decode_memory_mib << 20) if self.isolate_decoding else None


class TrainConfig(Settings):
    """One training run."""

    also_called = ELSEWHERE

    name: str
    runs: str  # URL of the folder of runs
    index: str  # URL of the training index
    features: str | None = None  # URL of features of its videos: what is trained is a head on them, not a backbone
    seed: int = pydantic.Field(default=0, ge=0, lt=1 << 32)
    epochs: int = pydantic.Field(default=30, ge=1)
    task: Literal["labels", "order"] = "labels"  # order: of a clip's frames (`time_order`), which needs no label
    backbone: str = "small3d"
    weights: str | None = None  # URL of a pre-trained start
    start_from: str | None = None  # URL of a finished run, whose last weights are the start
    from_scratch: bool = False  # begin a backbone with batch norms without weights
    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)  # of the features that the head sees
    drop_path: float = pydantic.Field(default=0.0, ge=0, lt=1)  # of the last block's branches (MViT); fewer before it
    max_bad_share: float = pydantic.Field(default=0.05, ge=0, le=1)  # of the videos, before the run ends
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
        """What is not said of a clip is what the backbone was made for; so is the input, where it is to be `auto`.

        Where there are features, what is trained is a head on them, whatever backbone a recipe names.
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
            # From scratch nothing is learnt of real people on RGB by small3d; public weights were made for it.
            as_it_is = name == HEAD or entry.styles
            values = {**values, "input": {**shown, "motion": "rgb" if as_it_is else "zero_mean_kernels"}}
        return {**values, "clip": own | dict(clip)}

    @pydantic.field_validator("name")
    @classmethod
    def _is_a_folders_name(cls, name: str) -> str:
        if not is_folder_name(name):
            raise ValueError(
                "a name begins with a letter A-Z, a-z or a digit, and then has only those, '.', '_' and '-'; up to 100 "
                "in all. The run's folder is called so; where it lies is `runs`"
            )
        return name

    @pydantic.field_validator("runs", "index", "features", "weights", "start_from")
    @classmethod
    def _is_a_place(cls, url: str | None) -> str | None:
        """Without credentials, and the same for every process of the run, whatever folder it works in."""
        if url is not None and not url:
            raise ValueError("it is empty; give a path or a URL")
        return url if url is None else absolute(storage.check_url(url))

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
            raise ValueError("weights and start_from are two starts of one run; give one of them")
        if self.task == "order" and self.focus.regime != "full":
            raise ValueError(
                f"task=order needs focus.regime=full, not {self.focus.regime}: the order of each clip is known, and no "
                "interval is read for it; the recipe pretrain_order has it"
            )
        if self.task == "order" and self.clip.frames < 3:
            raise ValueError(f"task=order needs clip.frames of at least 3, not {self.clip.frames}: one for each part")
        self._check_features()
        if self.decode_size_pixels < self.clip.size_pixels:
            raise ValueError(
                f"augment.decode_size_pixels = {self.decode_size_pixels} is less than clip.size_pixels = "
                f"{self.clip.size_pixels}; raise it, or leave it out"
            )
        return self

    def _check_features(self) -> None:
        if not self.features:
            if self.backbone == HEAD:
                raise ValueError(f"backbone={HEAD} is trained on features; give features=URL (`adaptfocus extract`)")
            if self.clip.size_pixels < 2:
                raise ValueError(f"clip.size_pixels = {self.clip.size_pixels}: it must be at least 2")
            return
        pixels = {
            "input.motion": self.input.motion != "rgb", "input.fade_background": self.input.fade_background > 0,
            "augment": self.augment.on, "clip.size_pixels": self.clip.size_pixels != 1, "weights": bool(self.weights),
            "task": self.task != "labels",
        }  # fmt: skip
        if wrong := [key for key, is_set in pixels.items() if is_set]:
            raise ValueError(
                f"{', '.join(wrong)}: about pixels, and features are made already; leave it as it is without a recipe "
                "(input.motion=rgb, input.fade_background=0)"
            )

    @property
    def decode_size_pixels(self) -> int:
        """Side of the squares that training clips are decoded to."""
        return self.augment.decode_size_pixels or self.clip.size_pixels

    @property
    def drawn_clip(self) -> ClipConfig:
        """A clip of training as it is drawn and decoded: for `task=order`, long enough to be shown twice as fast."""
        return self.clip.model_copy(update={"frames": 2 * self.clip.frames}) if self.task == "order" else self.clip

    @property
    def draws_by_clip(self) -> bool:
        """Whether a training step draws anything by its clips' ids."""
        return bool(self.input.fade_background or self.dropout or self.drop_path or self.augment.on)

    @property
    def url(self) -> str:
        """The run's folder."""
        return storage.join(self.runs, self.name)

    @property
    def draw_rules(self) -> DrawRules:
        """How clips are drawn: Full takes its positives from intervals, only Ours draws around what is salient."""
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
        )

    def what_is_trained(self) -> dict:
        """The settings that a resumed run must share with its beginning."""
        how = set(StepConfig.model_fields) - {"precision"}
        return self.model_dump(
            mode="json",
            exclude={"from_scratch": True, "placement": True, "checkpoint": True, "read": True, "step": how},
        )
