"""The saved evaluations of a run, with the conditions that each was made under.

    RUN/evaluations/NAME/scores.json          scores, and their conditions
    RUN/evaluations/NAME/predictions/         the probabilities of every view (trainers/evaluation/predictions.py)
    RUN/evaluations/NAME/resamples.parquet    the scores on resamples of the test videos (trainers/metrics/bootstrap.py)

No evaluation silently replaces one under other conditions: a name that is taken is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.index.load import open_index
from adaptfocus.pipelines.store import strict_json
from adaptfocus.pipelines.store.tables import read_table, write_table
from adaptfocus.pipelines.store.urls import is_folder_name
from adaptfocus.trainers.backbones import entry_of
from adaptfocus.trainers.runs.log import Commit, Run
from adaptfocus.trainers.settings.run import TrainConfig

RESAMPLES_SCHEMA = pa.schema(
    [("map_max", pa.float64()), ("map_mean", pa.float64()), ("per_time_map", pa.float64())]  # one row for each resample
)
CROPS = {1: "centre", 3: "in_turn"}  # number -> decode.crop_place
MAX_CLIPS = 255  # of a video: a clip's id has no room for more


@dataclass(frozen=True)
class Conditions:
    """What scores depend on. Scores under other conditions are another evaluation."""

    index_fingerprint: str
    views: int
    crops: int
    size_pixels: int
    checkpoint: int  # number of the commit
    epoch: int  # of the commit, counted from 0


@dataclass(frozen=True)
class Looked:
    """Which views of the videos of an index are scored."""

    index: str
    index_fingerprint: str
    views: int
    crops: int
    size_pixels: int

    def at(self, commit: Commit) -> Conditions:
        return Conditions(
            self.index_fingerprint, self.views, self.crops, self.size_pixels, commit.number, commit.epoch
        )  # fmt: skip


def check_views(config: TrainConfig, index_url: str, views: int, crops: int, size_pixels: int | None) -> Looked:
    """Check the views of an evaluation.

    Raises:
        ConfigError: there cannot be so many crops or views, or the backbone does not take that size.
    """
    if crops not in CROPS or views * crops > MAX_CLIPS:
        raise ConfigError(
            f"{views} views of {crops} crops: there can be 1 crop or 3, and up to {MAX_CLIPS} views x crops; use at "
            f"most {MAX_CLIPS // 3} views of 3 crops"
        )
    if config.features and crops > 1:
        raise ConfigError(f"{crops} crops of a view: features cover the whole picture; leave --crops out")
    size_pixels = size_pixels or config.clip.size_pixels
    entry_of(config.backbone).spec.check(config.clip.frames, size_pixels)
    return Looked(index_url, open_index(index_url).fingerprint, views, crops, size_pixels)


def scores_url(run_url: str, name: str) -> str:
    """The URL of the scores of an evaluation of that name.

    Raises:
        InputError: the name is not a plain folder name, and so could lead out of the run.
    """
    if not is_folder_name(name):
        raise InputError(
            f"an evaluation cannot be named {name!r}: names have up to 100 letters, digits, '.', '_' and '-', and "
            "begin with a letter or a digit"
        )
    return store.join(run_url, "evaluations", name, "scores.json")


def read_scores(run_url: str, name: str) -> dict:
    """The saved scores of an evaluation; empty if there is none."""
    url = scores_url(run_url, name)
    return strict_json.read(url, "evaluate again with --overwrite") if store.exists(url) else {}


def forget_scores(run_url: str, name: str) -> None:
    """Remove an evaluation's scores before all else of it is replaced: an interrupted command then leaves none, and not
    those of other predictions."""
    if store.exists(url := scores_url(run_url, name)):
        store.delete(url)


def names_of(run_url: str) -> list[str]:
    """The names of the evaluations of a run."""
    folders = store.list_folders(store.join(run_url, "evaluations"))
    names = sorted(url.rstrip("/").rsplit("/", 1)[-1] for url in folders)
    return [name for name in names if store.exists(scores_url(run_url, name))]


def refuse_other(run: Run, name: str, asked: Conditions) -> None:
    """Refuse to replace an evaluation of something else.

    Raises:
        InputError: an evaluation of that name exists, made with other settings or of another checkpoint.
    """
    saved = read_scores(run.url, name)
    if not saved:
        return
    changed = {key: (saved.get(key), new) for key, new in asdict(asked).items() if saved.get(key) != new}
    if not changed:
        return
    said = ", ".join(f"{key}: {'not recorded' if old is None else old} -> {new}" for key, (old, new) in changed.items())
    raise InputError(
        f"{run.url} has an evaluation {name!r} of something else ({said}); keep both with --name "
        f"{_own_name(name, changed)}, or replace the old one with --overwrite"
    )


def save_resamples(run: Run, name: str, columns: Mapping[str, np.ndarray]) -> None:
    """Save scores on resamples: [R] each, nan where a resample has none; some or all columns of RESAMPLES_SCHEMA.

    A score with fewer resamples than another has nan in the rest.
    """
    length = max(map(len, columns.values()))
    whole = {field: np.full(length, np.nan) for field in RESAMPLES_SCHEMA.names}
    for field, values in columns.items():
        whole[field][: len(values)] = values
    arrays = [pa.array(whole[field], from_pandas=True) for field in RESAMPLES_SCHEMA.names]
    write_table(pa.Table.from_arrays(arrays, schema=RESAMPLES_SCHEMA), run.at("evaluations", name, "resamples.parquet"))


def read_resamples(run: Run, name: str) -> dict[str, np.ndarray]:
    """What `save_resamples` saved; empty for an evaluation from before it existed."""
    url = run.at("evaluations", name, "resamples.parquet")
    if not store.exists(url):
        return {}
    table = read_table(url, RESAMPLES_SCHEMA)
    return {field: table.column(field).to_numpy().astype(float) for field in RESAMPLES_SCHEMA.names}


def _own_name(name: str, changed: Mapping[str, tuple[object, object]]) -> str:
    """A name that says what differs: `test-views-10-crops-3`."""
    said = [f"{key}-{new}" for key, (_, new) in changed.items() if key in ("views", "crops", "size_pixels", "epoch")]
    return "-".join([name, *said]).replace("_", "-") if said else f"{name}-2"
