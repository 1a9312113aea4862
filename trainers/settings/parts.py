"""Groups of a run's settings: optimiser, steps, commits, placement, augmentation, input and focus."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import pydantic

from adaptfocus.pipelines.decode.settings import Isolation
from adaptfocus.pipelines.plan.labels import FullLabels
from adaptfocus.pipelines.settings import Settings

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
    **dict.fromkeys(("freeze", "frozen", "freeze_encoder", "frozen_backbone", "linear_probe"), "freeze_backbone"),
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
    """The optimiser and its schedule.

    The schedule counts the fraction of all planned bags that are trained, so it does not depend on how many workers
    there are. `sgd` uses Nesterov momentum of `beta1`.
    """

    name: Literal["adamw", "sgd"] = "adamw"

    learning_rate: float = pydantic.Field(default=4e-3, gt=0)
    weight_decay: float = pydantic.Field(default=0.01, ge=0)
    beta1: float = pydantic.Field(default=0.9, ge=0, lt=1)
    beta2: float = pydantic.Field(default=0.999, ge=0, lt=1)
    schedule: Literal["one_cycle", "up7", "cosine", "steps", "constant"] = "one_cycle"
    clip_gradient_norm: float | None = pydantic.Field(default=None, gt=0)


class StepConfig(Settings):
    """How a step is computed; docs/training.md says what each switch does.

    All of these except `precision` may change when a run is resumed: what is trained stays the same.
    """

    precision: Literal["float32", "bf16"] = "float32"  # of the backbone; logits, loss and weights are float32
    channels_last: bool = False  # pixels and 3D kernels with their channels innermost
    fused_optimiser: bool = True  # one kernel for all weights, where the device has one
    accumulate: int = pydantic.Field(default=1, ge=1)  # parts into which a rank's share of a global batch is split
    checkpoint_activations: bool = False  # compute each block's activations again in the backward pass
    compile: bool = False  # with torch.compile
    sharding: Literal["ddp", "fsdp2"] = "ddp"  # of several workers


class CheckpointConfig(Settings):
    """When to commit a checkpoint, and which of its states to keep.

    A commit happens when the first of the three limits is reached, and at the end of each epoch. Nothing here changes
    what is trained: a run may be resumed with other values.
    """

    every_batches: int | None = pydantic.Field(default=100, ge=1)  # global batches
    every_clips: int | None = pydantic.Field(default=None, ge=1)  # over all workers
    every_seconds: float | None = pydantic.Field(default=None, gt=0)  # by the clock of rank 0
    keep: int = pydantic.Field(default=2, ge=1)  # so many of the newest states
    keep_epochs: int | None = pydantic.Field(default=None, ge=1)  # and the state at the end of every n-th epoch
    tensorboard: bool = False  # write TensorBoard events beside the run, with each commit and each merged epoch

    def batches_apart(self, clips_per_batch: int) -> float:
        """Global batches from one commit to the next by the limits in batches and clips; infinity without either."""
        by_clips = math.ceil(self.every_clips / clips_per_batch) if self.every_clips else math.inf
        return min(self.every_batches or math.inf, by_clips)


class PlacementConfig(Settings):
    """Where the run runs. Nothing here changes what is trained: a run may be resumed with other values."""

    engine: Literal["auto", "ray", "local"] = "auto"  # auto: `engine_at` chooses
    workers: int = pydantic.Field(default=1, ge=1)
    min_workers: int | None = pydantic.Field(default=None, ge=1)  # the run continues with so few; None: only with all
    gpus_per_worker: float = pydantic.Field(default=0, ge=0)
    worker_resources: dict[str, float] = pydantic.Field(default_factory=dict)  # what else each worker takes
    decode_workers: int = pydantic.Field(default=2, ge=1)  # cores
    decode_labels: dict[str, str] = pydantic.Field(
        default_factory=dict
    )  # of the nodes that decode (Ray's label selector); any node if empty
    max_restarts: int = pydantic.Field(default=3, ge=-1)  # of the worker group after failures; -1: no limit
    resize_seconds: float = pydantic.Field(default=60, gt=0)  # between two checks for nodes to grow on
    collective_timeout_seconds: int = pydantic.Field(default=900, ge=1)  # how long to wait for a lost peer
    isolate_decoding: bool = True  # decode in separate processes (docs/decisions/0013)
    decode_deadline_seconds: float = pydantic.Field(default=60.0, gt=0)  # for each bag, plus 0.25 s a packet
    decode_memory_mib: int = pydantic.Field(default=2048, ge=64)  # of each decoding process

    def engine_at(self, address: str | None) -> Literal["ray", "local"]:
        """The engine that `auto` chooses.

        It is this process, which starts a minute sooner, unless `address` names a cluster or the settings ask for
        something that only a cluster has.
        """
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
        """The time and memory that decoding a bag may take; None if bags are decoded in this process."""
        return Isolation(self.decode_deadline_seconds, self.decode_memory_mib << 20) if self.isolate_decoding else None


Share = Annotated[float, pydantic.Field(gt=0, le=1)]


class AugmentConfig(Settings):
    """Random changes to training clips; all are off by default.

    `crop_area`: the smallest and the largest share of the decoded square's area that a clip shows; a rectangle of that
    area is scaled to `clip.size_pixels`. `crop_aspect`: how much wider than high, or higher than wide, the rectangle
    may be. `decode_size_pixels`: the size that clips are decoded to before the crop, instead of `clip.size_pixels`, so
    that a crop keeps its detail. `flip_probability`: how often a clip is mirrored; leave it off where labels
    distinguish left from right. `brightness`, `contrast`, `saturation`: a factor in [1 - x, 1 + x]. `hue`: a turn of at
    most this share of the colour circle.
    """

    crop_area: tuple[Share, Share] | None = None
    crop_aspect: float = pydantic.Field(default=4 / 3, ge=1, le=10)
    decode_size_pixels: int | None = pydantic.Field(default=None, ge=2, le=4096, multiple_of=2)
    flip_probability: float = pydantic.Field(default=0.0, ge=0, le=1)
    brightness: float = pydantic.Field(default=0.0, ge=0, le=1)
    contrast: float = pydantic.Field(default=0.0, ge=0, le=1)
    saturation: float = pydantic.Field(default=0.0, ge=0, le=1)
    hue: float = pydantic.Field(default=0.0, ge=0, le=0.5)

    @pydantic.model_validator(mode="after")
    def _agrees(self) -> AugmentConfig:
        if self.crop_area and self.crop_area[0] > self.crop_area[1]:
            raise ValueError(f"augment.crop_area is {list(self.crop_area)}; put the smaller share first")
        if self.decode_size_pixels and not self.crop_area:
            raise ValueError(
                f"augment.decode_size_pixels is {self.decode_size_pixels}, but nothing is cropped from it; set "
                "augment.crop_area, such as [0.5, 1]"
            )
        return self

    @property
    def colours(self) -> bool:
        return bool(self.brightness or self.contrast or self.saturation or self.hue)

    @property
    def on(self) -> bool:
        return bool(self.crop_area or self.flip_probability or self.colours)


class InputConfig(Settings):
    """What the backbone sees of a clip: `motion` is one of four forms.

    rgb: the clip. difference: 2 (x - mean_t x), the clip minus its static picture. rgb_and_difference: both, as twice
    the channels; the safe form where looks tell some actions apart. zero_mean_kernels: the clip, but the first
    convolution cannot see what stands still, because its weights are set to a mean of zero over time at the start and
    after every step.
    """

    motion: Literal["rgb", "difference", "rgb_and_difference", "zero_mean_kernels"] = "rgb"
    # Share of the training clips whose static picture is faded to its mean colour. Drawn once for each whole clip.
    fade_background: float = pydantic.Field(default=0.0, ge=0, le=1)


class FocusConfig(Settings):
    """The regime and its switches.

    `full` and `noisy` give every label the weight 1; they differ in the labels of the plan.
    """

    regime: Literal["full", "noisy", "ours"] = "ours"
    action_focusing: bool = True
    clip_focusing: bool = True
    normalise_mass: bool = True
    warmup_epochs: int = pydantic.Field(default=2, ge=0)
    weight_form: Literal["sigmoid", "ratio", "exponential", "superloss"] = "sigmoid"
    full_labels: FullLabels = "centre"  # in `full`: when an interval makes a clip a positive
    threshold: float = pydantic.Field(default=0.7, gt=0, le=1)  # of the spike-actionness
    temperature: float = pydantic.Field(default=0.1, gt=0)
    delta: float = pydantic.Field(default=0.15, gt=0, le=1)  # fraction of the video
    delta_seconds: float | None = pydantic.Field(default=None, gt=0)  # for long videos, instead of `delta`
    noisy_or: float = pydantic.Field(default=0.0, ge=0)  # weight of the noisy-OR loss over a bag's clips, only in ours
    # Exponent of rivalry: w is multiplied by (p / the highest p among the video's labels at the clip)^this. 0: none.
    rivalry: float = pydantic.Field(default=0.0, ge=0)
    negative_focus: float = pydantic.Field(default=0.0, ge=0, le=1)  # share of the negatives' mass moved to high p
    negative_power: float = pydantic.Field(default=2.0, gt=0)  # that share is spread in proportion to p^this
    background_weight: float = pydantic.Field(default=0.0, ge=0)  # of a masked positive used as a negative; 0: ignored
    background_from: float = pydantic.Field(default=0.3, ge=0, le=1)  # share of the training after which this begins

    def active(self, epoch: int) -> bool:
        """Whether positives are weighted in this epoch."""
        return self.regime == "ours" and epoch >= self.warmup_epochs

    def negatives_at(self, epoch: int) -> float:
        """The share of the negatives' mass that is moved to high p in this epoch."""
        return self.negative_focus if self.active(epoch) else 0.0

    @property
    def noisy_or_weight(self) -> float:
        """The weight of noisy-OR. It is 0 in `full` and `noisy`, which stay plain whatever else a recipe sets."""
        return self.noisy_or if self.regime == "ours" else 0.0

    def background_at(self, epoch: int, progress: float) -> float:
        """The weight of weak negatives in this epoch, when the share `progress` of the training is done."""
        return self.background_weight if self.active(epoch) and progress >= self.background_from else 0.0
