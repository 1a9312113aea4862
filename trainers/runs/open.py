"""A run's settings, read from its folder, and the shape of its clips."""

from __future__ import annotations

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.index.load import IndexFacts, NoSnapshotError
from adaptfocus.pipelines.settings import make
from adaptfocus.pipelines.store import strict_json
from adaptfocus.pipelines.store.urls import absolute
from adaptfocus.pipelines.stream.clips import ClipShape
from adaptfocus.trainers.inputs.run_index import training_facts
from adaptfocus.trainers.runs.growth import begun_facts, classes_of_run, last_decided
from adaptfocus.trainers.runs.log import RESTORE, Run
from adaptfocus.trainers.settings.run import TrainConfig


def clip_shape(config: TrainConfig) -> ClipShape:
    """How a run's bags are read and decoded."""
    from adaptfocus.trainers.runs.on_features import source_of  # imports torch, which reading settings does not need

    return ClipShape(
        config.plan.clips_per_bag,
        config.drawn_clip.frames,
        config.decode_size_pixels,
        config.decode,
        config.read,
        config.placement.isolation,
        source_of(config),
        config.index_urls,
        config.crop_fractions if len({*config.crop_fractions}) > 1 else (),
    )


def facts_of_run(run: Run, config: TrainConfig) -> IndexFacts:
    """The facts about the snapshot that a run's last planned epoch is of; about the newest one if it has not begun.

    An index may grow while a run is trained. The run stays with the videos that it was begun on, unless it follows.

    Raises:
        InputError, StorageError: as `open_index` does.
    """
    last = last_decided(run)
    if last is None:
        return begun_facts(run, config)
    try:
        return training_facts(config, last.fingerprint)
    except NoSnapshotError:  # another index, as in `begun_facts`
        return training_facts(config)


def classes_of(config: TrainConfig) -> list[str]:
    """The classes of a run's head, as of its last planned epoch. Its other outputs are room, and mean nothing."""
    return classes_of_run(Run(config.url))


def load_config(run_url: str) -> TrainConfig:
    """The settings a run was trained with; the run may have been moved to `run_url` since."""
    url = store.join(run_url, "config.json")
    if not store.exists(url):
        store.list_files(run_url)  # raises if the bucket itself does not exist
        raise ConfigError(f"{run_url} is not a run: it has no config.json; give the URL of a run's folder")
    values = strict_json.read(url, RESTORE)
    runs, _, name = absolute(run_url).rstrip("/").rpartition("/")
    return make(TrainConfig, values | {"runs": runs or "/", "name": name})
