"""All checks before a run begins or resumes that need no cluster: of index, weights and folder.

They also refuse to mix two different runs in one folder. The settings are saved with the run.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from adaptfocus.pipelines import store
from adaptfocus.pipelines.decode.member import import_decord
from adaptfocus.pipelines.errors import ConfigError, StorageError
from adaptfocus.pipelines.index.load import IndexFacts
from adaptfocus.pipelines.index.partitions import source_of
from adaptfocus.pipelines.saliency.bin_scores import SALIENT, score_of_bins
from adaptfocus.trainers.backbones import Backbone, entry_of, load_pretrained
from adaptfocus.trainers.backbones.contract import batch_norms
from adaptfocus.trainers.inputs import left_out as what_is_left_out
from adaptfocus.trainers.inputs.model_input import adapt_backbone
from adaptfocus.trainers.inputs.run_index import describe_sources, run_partitions, training_facts
from adaptfocus.trainers.inputs.unused_videos import Unused, count_unused, describe_unused, read_unused
from adaptfocus.trainers.runs import on_features, starts
from adaptfocus.trainers.runs.events import check_installed
from adaptfocus.trainers.runs.growth import (
    begun_facts,
    check_growth,
    describe_cut,
    label_places,
    last_decided,
    num_outputs,
)
from adaptfocus.trainers.runs.log import SALIENCY, Commit, Run
from adaptfocus.trainers.runs.open import facts_of_run
from adaptfocus.trainers.runs.same_run import same_run
from adaptfocus.trainers.settings.run import TrainConfig


class Prepared(NamedTuple):
    """The state in which a run begins or resumes."""

    index: IndexFacts
    left_out: Unused  # how many videos of the index the settings leave out of every plan
    commit: Commit | None  # the run's last checkpoint; None: it begins
    said: list[str]  # lines for the user about moved places and changed settings


def prepare(config: TrainConfig) -> Prepared:
    """Check settings and places, and save the settings with the run.

    Raises:
        StorageError: a place cannot be read or written.
        InputError: the index cannot be used.
        ConfigError: settings contradict each other or need a package that is not installed; or the folder holds a run
            with other settings or on another index.
    """
    _check_exclusive(config)
    run = Run(config.url)
    _, commit = run.newest()
    begun = begun_facts(run, config) if commit else training_facts(config)
    index = facts_of_run(run, config) if commit else begun
    left_out = read_unused(config, index.fingerprint)
    _check_videos(config, index, left_out)
    if config.plan.resample_by != SALIENT:
        score_of_bins(config.plan.resample_by)  # better now than after the warm-up
    if commit is None:
        _check_sources(config, index)
    if not config.features:
        config.decode.frame_shape(config.decode_size_pixels)
    if config.decode.backend == "decord":
        import_decord()
    if config.checkpoint.tensorboard:
        check_installed()
    entry_of(config.backbone).spec.check(config.clip.frames, config.clip.size_pixels)
    lines = on_features.check(config, index)
    _check_room(config, begun)
    model = on_features.model_of(config, num_outputs(config, begun))
    if url := config.weights_url:
        load_pretrained(model, url)
    _check_start(config, model)
    model = adapt_backbone(model, config.input)
    what_is_left_out.check(model, config.dropout, config.drop_path)
    try:
        store.check_writable(run.url)
        if commit is None:
            starts.check(config, index.classes, model)
        said = [*lines, *same_run(run, config, begun, commit)]
        if index.max_labels > (places := label_places(config, begun)):
            said.append(describe_cut(index.max_labels, places))
        if commit and training_facts(config).fingerprint != index.fingerprint:
            said.append(_changed(run, config, index, commit.epoch + 1 < config.epochs))
    except PermissionError as error:
        raise StorageError(f"{run.url} cannot be written ({error})") from error
    return Prepared(index, left_out, commit, said)


def _changed(run: Run, config: TrainConfig, index: IndexFacts, plans_more: bool) -> str:
    """The line about an index that is not any more what the last planned epoch was of."""
    if not (config.follow_index and plans_more):
        stays = "it has" if last_decided(run) else "it was begun on"
        return f"the index {describe_sources(config)} has changed since: the run stays with the videos {stays}"
    now = check_growth(run, config, index.fingerprint)
    return (
        f"the index {describe_sources(config)} has grown from {index.videos} videos of {len(index.classes)} classes to "
        f"{now.videos} of {len(now.classes)}: the next epoch that is planned takes them"
    )


def _check_room(config: TrainConfig, begun: IndexFacts) -> None:
    """Check that the head has room for the classes that the index has when the run begins."""
    room, needed = num_outputs(config, begun), len(begun.classes)
    if room < needed:
        raise ConfigError(
            f"num_classes = {room} has no room for the {needed} classes in {describe_sources(config)}; raise it"
        )


def _check_exclusive(config: TrainConfig) -> None:
    """Check that the store refuses the second of two processes that create the same object. The log depends on it."""
    if not store.is_local(config.url) and not config.url.startswith(("s3://", "s3a://")):
        scheme = config.url.split("://", 1)[0]
        raise ConfigError(
            f"runs={config.runs}: a run's log of commits needs a store that creates an object only if none exists, "
            f"even if several processes try (S3's conditional put, a hard link on a disk). {scheme}:// is not known to "
            "do that. Put runs on s3:// or on a disk that all machines share; index, tars and weights may stay where "
            "they are"
        )


def _check_videos(config: TrainConfig, index: IndexFacts, left_out: Unused) -> None:
    """Check that there are classes to train, and enough videos for one global batch."""
    videos, where = index.videos, describe_sources(config)
    if not index.classes:
        raise ConfigError(
            f"{where} has {videos} videos and no classes, because none of them has a label: there is nothing to "
            "train. Index it with labels (`adaptfocus index --labels`, or a .json or .cls next to each video)"
        )
    usable = videos - left_out.videos
    if not usable and left_out.unlocated:
        raise ConfigError(
            f"focus.regime=full needs intervals of each label of a video, and no video of {where} has them; use "
            "noisy or ours, or index videos that were packed with intervals"
        )
    if usable < config.plan.bags_per_batch:
        less = f"; {describe_unused(left_out, videos)}" if left_out.videos else ""
        raise ConfigError(
            f"{where} has {usable} usable videos, fewer than one global batch of plan.bags_per_batch = "
            f"{config.plan.bags_per_batch}; lower it{less}"
        )


def _check_sources(config: TrainConfig, index: IndexFacts) -> None:
    """Check that each index that an epoch takes bags of has a usable video, before the epochs without it are trained.

    An index that is followed may get some later.
    """
    urls = config.index_urls if config.mixture.more else ()
    epochs = range(1 if config.follow_index else config.epochs)
    known = run_partitions(config, index.fingerprint) if urls else ()
    for number, url in enumerate(urls):
        own = [each for each in known if source_of(each.uid) == number]
        videos, left_out = sum(each.rows for each in own), count_unused(config, own)
        needed = next((epoch for epoch in epochs if config.mixture.weights(epoch)[number]), None)
        if needed is not None and videos == left_out.videos:
            why = f": {describe_unused(left_out, videos)}" if videos else ""
            raise ConfigError(
                f"epoch {needed + 1} takes bags of {url}, which has no usable video{why}. Index some, or set its "
                "weight in `mixture` to 0"
            )


def _check_start(config: TrainConfig, model: nn.Module) -> None:
    """Check that frozen batch norms have weights for their statistics. Without any, activations explode or vanish."""
    frozen = isinstance(model, Backbone) and model.freezes_batch_norm and batch_norms(model)
    if (
        frozen
        and not config.weights
        and not config.start_from
        and not config.from_scratch
        and Run(config.url).newest()[1] is None
    ):
        raise ConfigError(
            f"backbone={config.backbone} has {len(frozen)} batch norms, whose statistics come from its weights and "
            f"are never learned here; without weights there are none. Give weights=URL (public ones: "
            f"{entry_of(config.backbone).weights}; docs/backbones.md), choose a backbone without batch norms such as "
            "small3d, or set from_scratch=true: its batch norms then only scale and shift"
        )


def is_finished(config: TrainConfig) -> bool:
    """Whether every epoch is trained and merged."""
    return store.exists(Run(config.url).epoch_url(config.epochs, SALIENCY))
