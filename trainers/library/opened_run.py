"""Read what a run has found out, while it is trained or afterwards. Nothing here writes.

Tables are Arrow's: `.to_pandas()` makes them data frames where pandas is installed. Epochs count from 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.partitions import ROW_BITS
from adaptfocus.pipelines.library.clips import Clips
from adaptfocus.pipelines.library.index import Index, VideoKey
from adaptfocus.pipelines.library.moments import Moments, Sampler
from adaptfocus.pipelines.plan.settings import ClipConfig
from adaptfocus.pipelines.schemas import LEDGER_SCHEMA, SALIENCY_SCHEMA
from adaptfocus.pipelines.store import strict_json
from adaptfocus.pipelines.store.tables import read_table
from adaptfocus.trainers.evaluation.saved import names_of, read_scores
from adaptfocus.trainers.inputs.run_index import describe_sources
from adaptfocus.trainers.library.rows import RunRows
from adaptfocus.trainers.runs import log
from adaptfocus.trainers.runs.growth import classes_of_run
from adaptfocus.trainers.runs.ledger import last_commits
from adaptfocus.trainers.runs.open import facts_of_run, load_config
from adaptfocus.trainers.runs.snapshots import read_manifest
from adaptfocus.trainers.settings.run import TrainConfig

if TYPE_CHECKING:
    from adaptfocus.trainers.evaluation.export import Recogniser

_SALIENCY = pa.schema(
    [
        ("video_id", pa.string()),
        ("video_row", pa.int64()),
        ("label", pa.string()),
        ("score", pa.list_(pa.float32())),
        ("seconds", pa.list_(pa.float64())),
        ("epoch", pa.list_(pa.int32())),
        ("spike", pa.float32()),
        ("spike_seconds", pa.float64()),
    ]
)


class Run:
    """A run's folder.

    Raises:
        ConfigError: there is no run at the URL. StorageError: it cannot be read.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.config: TrainConfig = load_config(url)
        self._run = log.Run(url)

    def __repr__(self) -> str:
        return f"<Run {self.url}: {self.config.backbone}, {self.epochs_trained} of {self.config.epochs} epochs>"

    @property
    def clip(self) -> ClipConfig:
        """The shape of the clips that the model takes."""
        return self.config.clip

    @cached_property
    def index(self) -> Index:
        """The videos of the run's newest plan: the snapshot of its index that the run stays with.

        Of a run on several indexes (`mixture`) these are the videos of all, with the names that the run gives labels.
        An id that two of them have means the video of the first; a `video_row` always means one video.
        """
        facts = facts_of_run(self._run, self.config)
        return Index(describe_sources(self.config), facts, RunRows(self.config, facts.fingerprint))

    @property
    def classes(self) -> list[str]:
        """The classes of the model's outputs. Raises StorageError: the run has not begun."""
        return classes_of_run(self._run)

    @property
    def epochs_trained(self) -> int:
        """The number of epochs that are trained to their ends."""
        _, newest = self._run.newest()
        return newest.next_position[0] if newest else 0

    def curves(self) -> pa.Table:
        """One row for each commit, oldest first: `number`, `epoch`, `cursor` and `num_bags` of that epoch, `time`
        (seconds since 1970), and what the bags since the commit before had: `loss`, `clips`, `seconds`, and more."""
        commits = [each for each in self._run.entries() if each.kind == "checkpoint"]
        names = list(dict.fromkeys(name for each in commits for name in each.metrics))
        whole = {name: [getattr(each, name) for each in commits] for name in ("number", "epoch", "cursor", "num_bags")}
        columns: dict[str, pa.Array] = {name: pa.array(values, pa.int64()) for name, values in whole.items()}
        columns["time"] = pa.array([each.seconds for each in commits], pa.float64())
        for name in names:
            columns[name] = pa.array([each.metrics.get(name) for each in commits], pa.float64())
        return pa.table(columns)

    def diagnostics(self) -> list[dict[str, Any]]:
        """The summary of each epoch that is merged, as `adaptfocus report` shows it."""
        urls = [self._run.epoch_url(epoch, log.SUMMARY) for epoch in range(self.config.epochs)]
        return [strict_json.read(url, log.RESTORE) for url in urls if store.exists(url)]

    def scores(self, evaluation: str | None = None) -> dict[str, Any]:
        """The saved scores of an evaluation; of all evaluations by name, if None is given."""
        if evaluation is None:
            return {name: read_scores(self.url, name) for name in names_of(self.url)}
        return read_scores(self.url, evaluation)

    def ledger(self, epoch: int) -> pa.Table:
        """What was trained in an epoch so far, a row a bag, by slot: LEDGER_SCHEMA and `video_id`.

        `probability` is [clips x labels], row by row: what the model said of each clip as it was trained.

        Raises:
            InputError: nothing of the epoch is committed.
        """
        commit = last_commits(self._run.entries()).get(epoch)
        if commit is None:
            raise InputError(f"{self.url} has committed nothing of epoch {epoch}; it has trained {self.epochs_trained}")
        rows = self._run.ledger(commit).select(LEDGER_SCHEMA.names)
        return rows.append_column("video_id", pa.array(self._ids_of(rows.column("video_row").to_numpy())))

    def saliency(self, epochs: int | None = None) -> pa.Table:
        """When the model found each label of each video: a row for each (video, label of the video).

        `score`, `seconds` and `epoch` have a value for each bin of the video's time: the probability, when it was seen
        in the video, and in which epoch (-1: never). `spike` is the highest score, after older ones have faded, and
        `spike_seconds` its time; -1 and 0 if no bin was seen. Partitions that no epoch has touched are left out, and
        videos that have left the index.

        Args:
            epochs: after how many epochs; the newest snapshot by default.
        """
        return pa.concat_tables([_SALIENCY.empty_table(), *self.saliency_parts(epochs)])

    def saliency_parts(self, epochs: int | None = None) -> Iterator[pa.Table]:
        """`saliency`, one partition of the index after the other."""
        number = self.newest_snapshot() if epochs is None else epochs
        if not store.exists(self._run.epoch_url(number, log.SALIENCY)):
            raise InputError(f"{self.url} has no saliency after {number} epochs; it has trained {self.epochs_trained}")
        for uid, files in sorted(read_manifest(self._run, number).items()):
            if files.saliency and uid in self.index.partitions:
                found = read_table(self._run.at(files.saliency), SALIENCY_SCHEMA)
                columns = ["video_id", "duration_seconds"]
                videos = self.index.read(uid, columns)
                yield self._readable(_of_videos(found, videos), videos, number)

    def newest_snapshot(self) -> int:
        """After how many epochs the newest snapshot of saliency is."""
        last = self.epochs_trained
        if last and not store.exists(self._run.epoch_url(last, log.SALIENCY)):
            last -= 1  # an epoch is trained, and its scores are being merged
        return last

    def plan(self, epoch: int) -> Moments:
        """The clips that an epoch of the run has, in the order of training. Raises InputError: it is not planned."""
        from adaptfocus.trainers.library.draws import planned

        return planned(self._run, epoch)

    def sampler(
        self,
        clips_per_video: int | None = None,
        explore_probability: float | None = None,
        seed: int | None = None,
        epochs: int | None = None,
    ) -> Sampler:
        """A sampler that draws clips around the salient times that the run has found, as the run itself draws them.

        Videos that the run leaves out, because they do not decode for example, are left out here as well.

        Args:
            clips_per_video: as the run has by default.
            explore_probability: the share of clips that are drawn anywhere; as the run has by default.
            seed: of the draws and of the order; as the run has by default.
            epochs: after how many epochs of the run; its newest saliency by default.
        """
        from adaptfocus.trainers.library.draws import sampler_of

        number = self.newest_snapshot() if epochs is None else epochs
        return sampler_of(self._run, self.config, self.index, number, clips_per_video, explore_probability, seed)

    def clips(self, sampler: Sampler | Iterable[tuple[VideoKey, float]] | None = None, **options: Any) -> Clips:
        """Clips of the run's videos as its model takes them, each decoded as the settings of its index say.

        Args:
            sampler: the moments, as in `Clips`; those of `sampler()` by default.
            options: others of `Clips`.

        Raises:
            ConfigError: the run trains a head on features.
        """
        from adaptfocus.trainers.runs.on_features import refuse  # imports torch

        refuse(self.config, "take the clips of")
        config = self.config
        of_source = {
            source: (config.clip_of(source), config.decode.model_copy(update={"crop_fraction": crop}))
            for source, crop in enumerate(config.crop_fractions)
        }
        chosen = self.sampler() if sampler is None else sampler
        more: dict[str, Any] = {"decode": config.decode, "of_source": of_source} | options
        return Clips(self.index, chosen, config.clip, **more)

    def model(self, epoch: int | None = None) -> Recogniser:
        """The model of the newest commit, or at the end of an epoch, in evaluation mode on the CPU.

        It takes uint8 [B, T, 3, S, S] as `Clips` gives them, and returns probabilities float [B, C], a column for each
        of `classes`. Its `model` is the backbone.

        Raises:
            InputError: there is no such commit. ConfigError: the run trains a head on features.
        """
        from adaptfocus.trainers.evaluation.export import load_recogniser

        return load_recogniser(self.url, epoch)[0]

    def _readable(self, found: pa.Table, videos: pa.Table, epochs: int) -> pa.Table:
        from adaptfocus.pipelines.saliency.bins import spikes
        from adaptfocus.pipelines.saliency.snapshot import SaliencyTable

        table = SaliencyTable.from_arrow(found)
        heights, times = (each.numpy() for each in spikes(table.bins, epochs, self.config.saliency.staleness))
        places = np.searchsorted(videos.column("video_row").to_numpy(), table.video_row)
        durations = videos.column("duration_seconds").to_numpy()[places]
        bins = table.bins.tau.shape[1]
        seconds = (table.bins.tau.numpy() * durations[:, None]).ravel()
        ends = pa.array(np.arange(len(places) + 1, dtype=np.int32) * bins)
        names = pa.array(self.classes, pa.string())
        columns = {
            "video_id": videos.column("video_id").take(pa.array(places)),
            "video_row": found.column("video_row"),
            "label": names.take(pa.array(table.label_id)),
            "score": found.column("score"),
            "seconds": pa.ListArray.from_arrays(ends, pa.array(seconds, pa.float64())),
            "epoch": found.column("epoch"),
            "spike": pa.array(heights, pa.float32()),
            "spike_seconds": pa.array(times * durations, pa.float64()),
        }
        return pa.table(columns).cast(_SALIENCY)

    def _ids_of(self, video_rows: np.ndarray) -> list[str | None]:
        """The ids of some videos; only their partitions are read. None if a video has left the index."""
        known: dict[int, str] = {}
        for uid in np.unique(video_rows >> ROW_BITS).tolist():
            if uid in self.index.partitions:
                table = self.index.read(uid, ["video_id"])
                known |= dict(zip(*(table.column(name).to_pylist() for name in table.column_names), strict=True))
        return [known.get(row) for row in video_rows.tolist()]


def _of_videos(found: pa.Table, videos: pa.Table) -> pa.Table:
    """The rows of saliency whose videos are there."""
    is_there = np.isin(found.column("video_row").to_numpy(), videos.column("video_row").to_numpy())
    return found.filter(pa.array(is_there))
