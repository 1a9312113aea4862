"""Releases: records on the store of videos that a run takes back after it had left them out.

A release never changes. The first process that plans an epoch records how many releases count by then, and all others
read that number. So a plan stays a function of what has been committed, whenever a release was written and however
often the plan is drawn.

    RUN/released/000000.json        a release: rows of the index, their ids
    RUN/epochs/0007/released.json   the number of releases that count from epoch 7
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
    """Record a release of some videos (row of the index -> id), and return the record's number.

    Raises:
        StorageError: it cannot be written.
    """
    record = {"video_rows": sorted(videos), "video_ids": [videos[row] for row in sorted(videos)]}
    data = json.dumps(record | {"seconds": time.time()}).encode()
    for number in range(count(run), count(run) + 100):
        if store.create_exclusive(run.at(FOLDER, f"{number:06d}.json"), data):
            return number
    raise StorageError(f"{run.at(FOLDER)}: lost 100 races for a number; try again")


def count(run: Run) -> int:
    """The number of records. Their numbers have no gaps."""
    return len(store.list_files(run.at(FOLDER)))


def read_decision(run: Run, epoch: int) -> int | None:
    """The number of records that count in an epoch; None if that is not decided yet."""
    try:
        return int(json.loads(store.read_bytes(run.epoch_url(epoch, DECISION)))["records"])
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def decide(run: Run, epoch: int, records: int) -> int:
    """Let the first `records` count from an epoch, unless another process has decided already -> the number decided."""
    store.create_exclusive(run.epoch_url(epoch, DECISION), json.dumps({"records": records}).encode())
    found = read_decision(run, epoch)
    if found is None:
        raise StorageError(f"{run.epoch_url(epoch, DECISION)} is gone, although it was just written")
    return found


def read_released(run: Run, first: int, end: int) -> set[int]:
    """The rows of the videos in records [first, end)."""
    urls = [run.at(FOLDER, f"{number:06d}.json") for number in range(first, end)]
    return {row for url in urls for row in json.loads(store.read_bytes(url))["video_rows"]}
