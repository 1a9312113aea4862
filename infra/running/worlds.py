"""Make a benchmark world on a store, ready to train on.

The videos are encoded into a folder of this machine; both splits are packed into tars and indexed. The result is
OUT/shards/{train,test}, OUT/index/{train,test} and OUT/classes.txt. A world of activities also has OUT/annotations/
for downstream tasks. OUT/world.json, the configuration, is written last.

Intervals are in the tars and indexes, because Full, diagnosis and per-time scores need them. Weak training does not
read them.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from adaptfocus.infra.running.progress import progress_bar
from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.manifest import read_classes, read_manifest
from adaptfocus.pipelines.annotations.tasks import ANNOTATIONS, TASK_FILES
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.build import IndexSummary, build_index
from adaptfocus.pipelines.shards.packing import pack
from adaptfocus.pipelines.worlds.config import SPLITS, WorldConfig
from adaptfocus.pipelines.worlds.encode import write_world

# The training videos of world A are 9 MB: several tars, so that there is something to distribute.
SHARD_BYTES = 2 << 20


def make_world(config: WorldConfig, out_url: str, processes: int, overwrite: bool = False) -> dict[str, IndexSummary]:
    """Encode, pack and index a world.

    Args:
        config: the world.
        out_url: where the world goes; other files there stay.
        processes: number of processes that encode, and then index.
        overwrite: replace an existing world.

    Returns:
        Split -> what was indexed.

    Raises:
        InputError: `out_url` is not empty.
        StorageError: it cannot be written.
    """
    _make_room(out_url, overwrite)
    with tempfile.TemporaryDirectory(prefix="adaptfocus-world-") as folder:
        with progress_bar("encoding videos") as progress:
            manifest = write_world(config, folder, processes, progress)
        done = pack_and_index(manifest, out_url, SHARD_BYTES, processes, overwrite)
        files = ["classes.txt", *(f"{ANNOTATIONS}/{name}" for name in TASK_FILES)]
        for path in (Path(folder) / name for name in files):
            if path.exists():
                store.write_bytes(store.join(out_url, *path.relative_to(folder).parts), path.read_bytes())
    store.write_bytes(_mark(out_url), json.dumps(asdict(config), indent=1).encode())
    return done


def pack_and_index(
    manifest: Path, out_url: str, shard_size_bytes: int, workers: int, overwrite: bool
) -> dict[str, IndexSummary]:
    """Make shards and an index of each split, below `out_url`, from the videos that `write_world` wrote."""
    videos, problems = read_manifest(str(manifest))
    classes = read_classes(str(manifest.parent / "classes.txt"))
    done = {}
    for split in SPLITS:
        shards, index = (store.join(out_url, folder, split) for folder in ("shards", "index"))
        with progress_bar(f"packing {split}") as progress:
            pack(
                [video for video in videos if video.split == split], shards, classes=classes,
                shard_size_bytes=shard_size_bytes, problems=problems, overwrite=overwrite, progress=progress,
                workers=workers,
            )  # fmt: skip
        with progress_bar(f"indexing {split}") as progress:
            done[split] = build_index([shards], index, classes=classes, workers=workers, progress=progress)
    return done


def _make_room(out_url: str, overwrite: bool) -> None:
    """Refuse a place with files in it. With `overwrite`, remove the old world's mark until the new one is complete."""
    folders = [out_url, *(store.join(out_url, kind, split) for kind in ("shards", "index") for split in SPLITS)]
    there = [url for folder in folders for url in store.list_files(folder)]
    if there and not overwrite:
        raise InputError(f"{out_url} is not empty ({there[0]}); give another place, or --overwrite")
    store.check_writable(out_url)
    for url in (_mark(out_url), *(store.join(out_url, ANNOTATIONS, name) for name in TASK_FILES)):
        store.delete(url)


def _mark(out_url: str) -> str:
    return store.join(out_url, "world.json")
