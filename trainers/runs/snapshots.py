"""A run's snapshots on the store: a manifest of partitions, and for each visited partition its own files.

A partition without a row in the manifest has never been visited, and nothing of it is left out. A partition that an
epoch does not touch keeps its row, and the files of an earlier epoch.

    RUN/epochs/0007/saliency.parquet               the manifest from which epoch 7 is planned
    RUN/epochs/0007/saliency/UID-HASH.parquet      bins of a partition's pairs (SALIENCY_SCHEMA)
    RUN/epochs/0007/priority/UID-HASH.parquet      weights of its videos, with plan.priority_share (PRIORITY_SCHEMA)
    RUN/epochs/0007/excluded/UID-HASH.parquet      its videos that are left out, with their reasons (EXCLUDED_SCHEMA)

HASH covers the ledger files that a file was made of, and the files before it. So what was made of a lineage that was
rolled back has another name than what counts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.partitions import ROW_BITS
from adaptfocus.pipelines.plan.published import epoch_url
from adaptfocus.pipelines.schemas import EXCLUDED_SCHEMA, PRIORITY_SCHEMA, SALIENCY_SCHEMA
from adaptfocus.pipelines.store.tables import read_table, write_table
from adaptfocus.trainers.runs.log import RESTORE, SALIENCY, Run

if TYPE_CHECKING:  # torch: lists of runs count what is left out, and do without its 1.3 s
    from adaptfocus.pipelines.plan.planner import Planner
    from adaptfocus.pipelines.saliency.settings import SaliencyConfig
    from adaptfocus.pipelines.saliency.snapshot import SaliencyTable

# A file of a partition inside a run: a manifest of a run that was copied leads nowhere else.
_PATH = re.compile(r"epochs/[0-9]{4,}/(saliency|excluded|priority)/[0-9]{6,}-[0-9a-f]{16}\.parquet")
NAMES = ["video_id", "shard_url", "member_name"]  # of a video that is left out
_ROW_SCHEMA = pa.schema([EXCLUDED_SCHEMA.field("video_row")])

MANIFEST_SCHEMA = pa.schema(
    [
        ("uid", pa.int64()),
        ("saliency", pa.string()),  # path inside the run; "" if no bag of the partition has been trained
        ("excluded", pa.string()),  # path inside the run; "" if none of its videos is left out
        ("excluded_rows", pa.int64()),
        ("pairs", pa.int64()),  # rows of the saliency file
        # Only with plan.priority_share: path inside the run of the weights of the partition's videos (PRIORITY_SCHEMA),
        # and their sum as it will be in epoch e: weight + slope * e.
        ("priority", pa.string()),
        ("weight", pa.int64()),
        ("slope", pa.int64()),
    ]
)
_LATER = ("priority", "weight", "slope")  # columns that manifests of earlier versions lack


class PartitionFiles(NamedTuple):
    """What a snapshot keeps of one partition: a row of MANIFEST_SCHEMA."""

    uid: int
    saliency: str = ""
    excluded: str = ""
    excluded_rows: int = 0
    pairs: int = 0
    priority: str = ""
    weight: int = 0
    slope: int = 0


Manifest = Mapping[int, PartitionFiles]  # by uid


class OldSnapshotError(InputError):
    """An earlier version wrote a snapshot, without partitions."""


def read_manifest(run: Run, epoch: int) -> dict[int, PartitionFiles]:
    """The snapshot from which `epoch` is planned; for the number after the last epoch, the final one.

    Raises:
        OldSnapshotError: an earlier version wrote it.
    """
    url = run.epoch_url(epoch, SALIENCY)
    try:
        rows = read_table(url, MANIFEST_SCHEMA, later=_LATER).to_pylist()
    except InputError as error:
        raise OldSnapshotError(
            f"{error}. A snapshot of this version is a manifest of partitions: an earlier version of adaptfocus began "
            f"{run.url}. Begin the run again under another name, on an index that this version has made"
        ) from None
    given = ({name: value for name, value in row.items() if value is not None} for row in rows)
    found = {row["uid"]: PartitionFiles(**row) for row in given}
    for each in found.values():
        if not all(_PATH.fullmatch(path) for path in (each.saliency, each.excluded, each.priority) if path):
            raise InputError(f"{url} is damaged: it names {each.saliency!r:.100}, {each.excluded!r:.100}; {RESTORE}")
    return found


def write_manifest(run: Run, epoch: int, manifest: Manifest) -> None:
    """Publish a snapshot whose files have been written."""
    rows = [manifest[uid]._asdict() for uid in sorted(manifest)]
    write_table(pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA), run.epoch_url(epoch, SALIENCY))


def count_excluded(manifest: Manifest) -> int:
    """The number of videos that are left out."""
    return sum(each.excluded_rows for each in manifest.values())


def read_excluded_count(run: Run, epoch: int) -> int:
    """The number of videos left out of `epoch` and later ones. Runs of earlier versions are read as well."""
    try:
        return count_excluded(read_manifest(run, epoch))
    except OldSnapshotError:
        return _read_old_excluded(run, epoch).num_rows


def read_saliency_of(run: Run, files: Manifest, planner: Planner, config: SaliencyConfig) -> SaliencyTable:
    """The saliency of some partitions; those without a file are as never visited.

    Args:
        planner: all videos of these partitions.
    """
    from adaptfocus.pipelines.saliency.snapshot import SaliencyTable

    table = planner.empty_saliency(config)  # which is filled in, so that no second one is in memory
    for uid in np.unique(planner.video_rows >> ROW_BITS).tolist():
        if uid in files and files[uid].saliency:
            part = SaliencyTable.from_arrow(read_table(run.at(files[uid].saliency), SALIENCY_SCHEMA))
            own = slice(*np.searchsorted(table.video_row, [uid << ROW_BITS, (uid + 1) << ROW_BITS]).tolist())
            if not np.array_equal(part.video_row, table.video_row[own]):
                raise InputError(f"{run.at(files[uid].saliency)} is not of the videos of the index; {RESTORE}")
            for name in ("score", "tau", "epoch"):
                getattr(table.bins, name)[own] = getattr(part.bins, name)
    return table


def read_excluded_of(run: Run, files: Manifest) -> pa.Table:
    """The videos of some partitions that are left out, with their reasons (EXCLUDED_SCHEMA)."""
    return _excluded(run, files, EXCLUDED_SCHEMA)


def read_left_out(run: Run, files: Manifest) -> set[int]:
    """The rows of the videos of some partitions that are left out."""
    return set(_excluded(run, files, _ROW_SCHEMA).column("video_row").to_pylist())


def _excluded(run: Run, files: Manifest, schema: pa.Schema) -> pa.Table:
    paths = [files[uid].excluded for uid in sorted(files) if files[uid].excluded]
    return pa.concat_tables([schema.empty_table(), *(read_table(run.at(path), schema) for path in paths)])


def read_saliency(run: Run, epoch: int) -> SaliencyTable:
    """The whole snapshot from which `epoch` is planned, of an index that fits into memory."""
    from adaptfocus.pipelines.plan.planner import Planner
    from adaptfocus.trainers.inputs.run_index import read_videos, run_partitions
    from adaptfocus.trainers.runs.open import facts_of_run, load_config

    config = load_config(run.url)
    facts = facts_of_run(run, config)
    videos = read_videos(config, run_partitions(config, facts.fingerprint), ["labels"])
    planner = Planner.of(videos, facts.classes)
    return read_saliency_of(run, read_manifest(run, epoch), planner, config.saliency)


def read_excluded(run: Run, epoch: int) -> pa.Table:
    """The videos left out of `epoch` and later ones, with their reasons. Runs of earlier versions are read as well."""
    return pa.concat_tables([EXCLUDED_SCHEMA.empty_table(), *read_excluded_parts(run, epoch)])


def read_excluded_parts(run: Run, epoch: int) -> Iterator[pa.Table]:
    """`read_excluded`, a partition at a time; only those are read that have some."""
    try:
        manifest = read_manifest(run, epoch)
    except OldSnapshotError:
        yield _read_old_excluded(run, epoch)
        return
    for uid in sorted(uid for uid, files in manifest.items() if files.excluded):
        yield read_excluded_of(run, {uid: manifest[uid]})


def _read_old_excluded(run: Run, epoch: int) -> pa.Table:
    """What an earlier version left out, in one file."""
    return read_table(run.epoch_url(epoch, "excluded.parquet"), EXCLUDED_SCHEMA)


def write_saliency(
    run: Run, epoch: int, files: PartitionFiles, table: SaliencyTable, sources: Sequence[str]
) -> PartitionFiles:
    """Write the saliency of a partition for the snapshot of `epoch`.

    Args:
        files: those before it.
        sources: with `files`, all that it was made of.
    """
    path = _path(epoch, "saliency", files.uid, [*sources, files.saliency])
    write_table(table.to_arrow(), run.at(path))
    return files._replace(saliency=path, pairs=len(table.video_row))


def write_excluded(
    run: Run, epoch: int, files: PartitionFiles, table: pa.Table, sources: Sequence[str]
) -> PartitionFiles:
    """Write which videos of a partition the snapshot of `epoch` leaves out; the arguments are those of saliency."""
    if not table.num_rows:
        return files._replace(excluded="", excluded_rows=0)
    path = _path(epoch, "excluded", files.uid, [*sources, files.excluded])
    write_table(table, run.at(path))
    return files._replace(excluded=path, excluded_rows=table.num_rows)


def read_priority(run: Run, files: PartitionFiles, video_rows: np.ndarray) -> pa.Table | None:
    """The weights of a partition's videos, these among them; None if none was ever trained."""
    if not files.priority:
        return None
    table = read_table(run.at(files.priority), PRIORITY_SCHEMA)
    if not np.isin(video_rows, table["video_row"].to_numpy()).all():
        raise InputError(f"{run.at(files.priority)} is not of the videos of the index; {RESTORE}")
    return table


def write_priority(
    run: Run, epoch: int, files: PartitionFiles, table: pa.Table, sources: Sequence[str]
) -> PartitionFiles:
    """Write the weights of a partition for the snapshot of `epoch`; the arguments are those of saliency.

    The sums of the weights are not in the result.
    """
    path = _path(epoch, "priority", files.uid, [*sources, files.priority])
    write_table(table, run.at(path))
    return files._replace(priority=path)


def add_failed(videos: pa.Table, earlier: pa.Table, ledger: pa.Table, epoch: int) -> pa.Table:
    """EXCLUDED_SCHEMA: `earlier`, and one row for each further video that could not be decoded in this epoch.

    Args:
        videos: rows of the index, ascending by `video_row`, with at least the columns NAMES.
    """
    # A head is drawn an epoch early, so a video may fail once more after it was left out.
    known = set(earlier.column("video_row").to_pylist())
    bad = ledger.filter(~pc.field("ok")).sort_by("slot")
    last = {bag["video_row"]: bag for bag in bad.select(["video_row", "kind", "error"]).to_pylist()}
    new = [row for row in last if row not in known]
    places = np.searchsorted(videos["video_row"].to_numpy(), np.array(new, np.int64))
    facts = videos.select(NAMES).take(pa.array(places)).to_pylist()
    rows = [
        names | {"video_row": row, "epoch": epoch, "kind": last[row]["kind"], "message": last[row]["error"]}
        for row, names in zip(new, facts, strict=True)
    ]
    return pa.concat_tables([earlier, pa.Table.from_pylist(rows, schema=EXCLUDED_SCHEMA)])


def take_back(run: Run, epoch: int, manifest: Manifest, rows: Collection[int]) -> dict[int, PartitionFiles]:
    """The manifest without these left-out videos. Only the partitions that they are in get new files."""
    found = dict(manifest)
    for uid in sorted({row >> ROW_BITS for row in rows} & found.keys()):
        own = sorted(row for row in rows if row >> ROW_BITS == uid)
        before = read_excluded_of(run, {uid: found[uid]})
        after = before.filter(~pc.field("video_row").isin(own))
        if after.num_rows < before.num_rows:
            found[uid] = write_excluded(run, epoch, found[uid], after, [str(row) for row in own])
    return found


def _path(epoch: int, kind: str, uid: int, sources: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16]
    return epoch_url("", epoch, kind, f"{uid:06d}-{digest}.parquet")
