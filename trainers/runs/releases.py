"""Videos that are let back into a run after they had been left out: records on the store, and when they count.

Input: a run, the rows of its index that are released.
Does: keeps each release as an immutable record; whoever plans an epoch first writes down how many records count by
then, and everybody else reads that.
Output: the videos that an epoch has back. So a plan stays a function of what has been committed, whenever a record
was written, and however often the plan is drawn.

    RUN/released/000000.json        a release: rows of the index, their ids
    RUN/epochs/0007/released.json   how many of them count from epoch 7 on
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import StorageError
from adaptfocus.trainers.runs.log import Run

FOLDER, DECISION = "released", "released.json"


def release(run: Run, videos: Mapping[int, str]) -> int:
    """Record a release of some videos (row of the index -> id); the record's number.

    Raises:
        StorageError: it cannot be written.
    """
    record = {"video_rows": sorted(videos), "video_ids": [videos[row] for row in sorted(videos)]}
    data = json.dumps(record | {"seconds": time.time()}).encode()
    for number in range(count(run), count(run) + 100):
        if store.create_exclusive(run.at(FOLDER, f"{number:06d}.json"), data):
            return number
    raise StorageError(f"{run.at(FOLDER)}: lost 100 races for a number; do it again")


def count(run: Run) -> int:
    """Records that are there; they have no gaps."""
    return len(store.list_files(run.at(FOLDER)))


def read_decision(run: Run, epoch: int) -> int | None:
    """Records that count in an epoch; None if that is not decided yet."""
    try:
        return int(json.loads(store.read_bytes(run.epoch_url(epoch, DECISION)))["records"])
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def decide(run: Run, epoch: int, records: int) -> int:
    """Let `records` of them count from an epoch on, unless somebody has decided already; what was decided."""
    store.create_exclusive(run.epoch_url(epoch, DECISION), json.dumps({"records": records}).encode())
    found = read_decision(run, epoch)
    if found is None:
        raise StorageError(f"{run.epoch_url(epoch, DECISION)} is gone, although it was just written")
    return found


def read_released(run: Run, first: int, end: int) -> set[int]:
    """Rows of the videos of records [first, end)."""
    urls = [run.at(FOLDER, f"{number:06d}.json") for number in range(first, end)]
    return {row for url in urls for row in json.loads(store.read_bytes(url))["video_rows"]}
