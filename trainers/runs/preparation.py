"""Before a run begins or goes on: everything that can be checked without a cluster.

Input: a TrainConfig. Does: looks at index, weights, folder; refuses to mix two different runs in one folder.
Output: the saved config, and what the run already has.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from adaptfocus.pipelines import store
from adaptfocus.pipelines.decode.member import import_decord
from adaptfocus.pipelines.errors import ConfigError, StorageError
from adaptfocus.pipelines.index.load import VideoIndex
from adaptfocus.trainers.backbones import Backbone, entry_of, load_pretrained
from adaptfocus.trainers.backbones import left_out as what_is_left_out
from adaptfocus.trainers.backbones.contract import batch_norms
from adaptfocus.trainers.inputs.model_input import adapt_backbone
from adaptfocus.trainers.inputs.time_order import training_index
from adaptfocus.trainers.runs import on_features, starts
from adaptfocus.trainers.runs.epochs import SALIENCY
from adaptfocus.trainers.runs.log import Commit, Run
from adaptfocus.trainers.runs.same_run import same_run
from adaptfocus.trainers.runs.unused_videos import describe_unused, find_unused
from adaptfocus.trainers.settings.run import TrainConfig


class Prepared(NamedTuple):
    """What a run begins or resumes with."""

    index: VideoIndex  # without packets
    commit: Commit | None  # the run's last checkpoint; None: it begins
    said: list[str]  # lines for the user, of places that have moved and settings that are others


def prepare(config: TrainConfig) -> Prepared:
    """Check settings and places, and save the settings with the run.

    Raises:
        StorageError: a place cannot be read or written.
        InputError: the index cannot be used.
        ConfigError: settings that do not go together, or name what is not installed; the folder holds a run with
            other settings, or the index has changed under it.
    """
    _check_exclusive(config)
    index = training_index(config, columns=["labels", "intervals"])  # packets are most of an index
    _check_videos(config, index)
    if not config.features:
        config.decode.frame_shape(config.decode_size_pixels)
    if config.decode.backend == "decord":
        import_decord()
    entry_of(config.backbone).spec.check(config.clip.frames, config.clip.size_pixels)
    lines = on_features.check(config, index)
    model = on_features.model_of(config, len(index.classes))
    if config.weights:
        load_pretrained(model, config.weights)
    _check_start(config, model)
    model = adapt_backbone(model, config.input)
    what_is_left_out.check(model, config.dropout, config.drop_path)
    run = Run(config.url)
    try:
        store.check_writable(run.url)
        _, commit = run.newest()
        if commit is None:
            starts.check(config, index.classes, model)
        said = [*lines, *same_run(run, config, index, commit)]
    except PermissionError as error:
        raise StorageError(f"{run.url} cannot be written ({error})") from error
    return Prepared(index, commit, said)


def _check_exclusive(config: TrainConfig) -> None:
    """Whether of two processes that create the same object one is refused: the log of a run is built on it."""
    if not store.is_local(config.url) and not config.url.startswith(("s3://", "s3a://")):
        scheme = config.url.split("://", 1)[0]
        raise ConfigError(
            f"runs={config.runs}: a run's log of commits needs a store that creates an object only where none is, "
            f"whoever else tries (S3's conditional put, a hard link on a disk), and {scheme}:// is not known to. Put "
            "runs on s3:// or on a disk that all machines share; index, tars and weights may stay where they are"
        )


def _check_videos(config: TrainConfig, index: VideoIndex) -> None:
    """Whether there is something to train on, and enough of it for one global batch."""
    videos, left_out = index.table.num_rows, find_unused(config, index.table)
    if not index.classes:
        raise ConfigError(
            f"{config.index} has {videos} videos and no classes, because none of them has a label: there is nothing to "
            "train. Index it with labels (`adaptfocus index --labels`, or a .json or .cls beside each video)"
        )
    usable = videos - len(left_out.rows)
    if not usable and (left_out.not_annotated or left_out.label_left_out):
        raise ConfigError(
            f"focus.regime=full needs intervals of each label of a video, and no video of {config.index} has them; use "
            "noisy or ours, or index videos that were packed with intervals"
        )
    if usable < config.plan.bags_per_batch:
        less = f"; {describe_unused(left_out, videos)}" if left_out.rows else ""
        raise ConfigError(
            f"{config.index} has {usable} usable videos, fewer than one global batch of plan.bags_per_batch = "
            f"{config.plan.bags_per_batch}; lower it{less}"
        )


def _check_start(config: TrainConfig, model: nn.Module) -> None:
    """Frozen batch norms take their statistics from weights: without any, a backbone's values grow or die unscaled."""
    frozen = isinstance(model, Backbone) and model.freezes_batch_norm and batch_norms(model)
    if (
        frozen
        and not config.weights
        and not config.start_from
        and not config.from_scratch
        and Run(config.url).newest()[1] is None
    ):
        raise ConfigError(
            f"backbone={config.backbone} has {len(frozen)} batch norms, whose statistics are those of its weights and "
            f"are never learned here; without weights it would train on none. Give weights=URL (public ones: "
            f"{entry_of(config.backbone).weights}; docs/backbones.md), take a backbone without batch norms such as "
            "small3d, or say from_scratch=true: its batch norms then only scale and shift"
        )


def is_finished(config: TrainConfig) -> bool:
    """Whether every epoch is trained and merged."""
    return store.exists(Run(config.url).epoch_url(config.epochs, SALIENCY))
