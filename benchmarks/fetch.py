"""Bytes and requests that clips and the index take, and how much throughput the latency of a store costs.

    python -m benchmarks.fetch [--quick] [--json] [--video PATH ...]

Tars of 10-minute videos (of `benchmarks.reading.videos`, and yours) lie in the local S3 server, behind a proxy that
counts requests and delays them. An epoch draws 4 clips of 32 frames, stride 3, of each video. Bytes are bodies of GETs.
Ratios are of totals, with a 90 % bootstrap interval over the videos (bytes) or over the repetitions (throughput).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/fetch.py`

from adaptfocus.pipelines import store
from adaptfocus.pipelines.index.load import load_index
from adaptfocus.pipelines.index.packets import with_packets
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.published import PlanFacts
from adaptfocus.pipelines.store.ahead import read_ahead
from adaptfocus.pipelines.stream.batches import DecodedBatch
from adaptfocus.pipelines.stream.clips import stream
from adaptfocus.pipelines.video.spans import packets_of
from benchmarks.faults.s3_latency import FarStore
from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure, say
from benchmarks.measuring.pace import clips_in
from benchmarks.reading.corpus import (
    BAGS_PER_BATCH,
    CLIPS_PER_BAG,
    default_work_folder,
    indexed,
    name_of,
    planned_bags,
    shape_of,
    stored_plan,
    write_shards,
)
from benchmarks.reading.minimal import minimal_bytes
from benchmarks.reading.process_cost import on_one_core
from benchmarks.reading.range_readers import READERS
from benchmarks.reading.videos import NAMES, video
from tests.s3_server import ExclusiveS3

SHARD_SIZE_BYTES = 200 << 20
LATENCY_MS = 50


@dataclass(frozen=True)
class Corpus:
    """Tars on the delayed store, and their index."""

    far: FarStore
    shards_url: str
    index_url: str
    planner: Planner

    @property
    def rows(self) -> list[dict]:
        return self.planner.table.to_pylist()

    def on_tars(self) -> tuple[int, int]:
        """(GETs, bytes) of the tars since the last reset."""
        gets = [t for t in self.far.traffic() if t.method == "GET" and t.path.endswith(".tar")]
        return sum(t.requests for t in gets), sum(t.size_bytes for t in gets)


def main(
    video_paths: Annotated[list[Path], typer.Option("--video", help="One of your files; repeatable.")] = [],  # noqa: B006
    videos: Annotated[int, typer.Option(help="How many of our own 10-minute videos.")] = 16,
    repeats: Annotated[int, typer.Option(help="Repetitions of each measurement of throughput.")] = 7,
    quick: Annotated[bool, typer.Option(help="8 videos, 3 repetitions, no Ray.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each figure.")] = False,
    work: Annotated[Path | None, typer.Option(help="Where our videos are kept.")] = None,
) -> None:
    """Measure fetching."""
    videos, repeats = (min(videos, 8), min(repeats, 3)) if quick else (videos, repeats)
    say("making the videos that are missing")
    made = {kind: video(kind, (work or default_work_folder()) / "videos") for kind in "ab"}
    files = {f"{NAMES['ab'[n % 2]]}-{n:03d}": made["ab"[n % 2]] for n in range(videos)}
    files |= {f"{name_of(path)}-{n:03d}": path for n, path in enumerate(video_paths)}
    with (
        tempfile.TemporaryDirectory(prefix="adaptfocus-bench-") as folder,
        ExclusiveS3(folder) as s3,
        FarStore(s3) as far,
    ):
        os.environ.update(far.environment)
        corpus, found = index_figures(far, files)
        found += clip_figures(corpus)
        found += peer_figures(corpus)
        with on_one_core():
            found += throughput_kept("throughput_kept_at_50ms", corpus, Path(folder), repeats, _in_process)
        if not quick:
            found += ray_figures(corpus, Path(folder), repeats)
    figures.show(found, as_json, "Fetching")


def index_figures(far: FarStore, files: dict[str, Path]) -> tuple[Corpus, list[Figure]]:
    """Upload, index through the proxy, and measure what that took."""
    shards_url, index_url = far.store.url("shards"), far.store.url("index")
    say(f"uploading {len(files)} videos")
    write_shards(files, shards_url, SHARD_SIZE_BYTES)
    say("indexing")
    far.reset(latency_ms=0)
    corpus = Corpus(far, shards_url, index_url, indexed(shards_url, index_url))
    gets, size_bytes = corpus.on_tars()
    rows = corpus.rows
    fs, path = store.filesystem(index_url)
    hours = sum(row["packet_count"] for row in rows) / 30 / 3600
    n = len(rows)
    return corpus, [
        figures.count("fetch.index_gets_per_video", gets / n, "GETs", n),
        figures.count("fetch.index_bytes_per_video", size_bytes / n, "bytes", n),
        figures.count("index.kb_per_hour", fs.du(path) / 1000 / hours, "kB an hour at 30 Hz", n),
        *_packet_sizes(rows),
    ]


def _packet_sizes(rows: list[dict]) -> list[Figure]:
    """The size of only the packets, of one video of each kind."""
    kinds = {row["video_id"].rsplit("-", 1)[0]: row for row in rows}
    hours = {kind: row["packet_count"] / 30 / 3600 for kind, row in kinds.items()}
    return [
        figures.count(
            f"index.packets_kb_per_hour.{kind}", row["packets_size_bytes"] / 1000 / hours[kind], "kB an hour", 1
        )
        for kind, row in sorted(kinds.items())
    ]


def clip_figures(corpus: Corpus) -> list[Figure]:
    """Read the clips of an epoch as training reads them; count with and without the one read of the index."""
    say("reading an epoch's clips")
    corpus.far.reset(latency_ms=0)
    with_packets(load_index(corpus.index_url).table)
    index_bytes = sum(t.size_bytes for t in corpus.far.traffic() if t.method == "GET")
    bags = [bag for bag in planned_bags(corpus.planner, CLIPS_PER_BAG, [0]) if bag["spans"]]
    minimal = minimal_of(corpus, bags)
    corpus.far.reset(latency_ms=0)
    fetched = [each.reading.size_bytes for each in read_ahead(bags)]
    gets, size_bytes = corpus.on_tars()
    if size_bytes != sum(fetched):
        say(f"the store sent {size_bytes} bytes of tars, the reader counted {sum(fetched)}")
    share = size_bytes / sum(fetched)  # 1 unless the reader's own count misses something
    with_index = [size * share + index_bytes / len(bags) for size in fetched]
    clips = len(bags) * CLIPS_PER_BAG
    return [
        figures.ratio("fetch.bytes_over_minimal", with_index, minimal),
        figures.ratio("fetch.bytes_over_minimal_without_index", [size * share for size in fetched], minimal),
        figures.count("fetch.gets_per_clip", gets / clips, "GETs", clips),
    ]


def minimal_of(corpus: Corpus, bags: list[dict]) -> list[int]:
    """The fewest bytes for each bag: contiguous from keyframe to last packet; bytes that clips share count once."""
    rows = corpus.rows
    return [
        minimal_bytes(packets_of(rows[bag["video_row"]]), [clip["frame_pts"] for clip in bag["clips"]]) for bag in bags
    ]


def peer_figures(corpus: Corpus) -> list[Figure]:
    """Read the same clips through other readers; each video is opened once for all its clips."""
    bags = [bag for bag in planned_bags(corpus.planner, CLIPS_PER_BAG, [0]) if bag["spans"]]
    minimal, clips = sum(minimal_of(corpus, bags)), len(bags) * CLIPS_PER_BAG
    fs, path = store.filesystem(corpus.shards_url)
    tars = fs.glob(f"{path}/*.tar")
    tar_bytes = sum(fs.info(tar)["size"] for tar in tars)
    found = [
        figures.count("fetch.webdataset_stream_bytes_over_minimal", tar_bytes / minimal, "ratio", len(bags)),
        figures.count("fetch.webdataset_stream_gets_per_clip", len(tars) / clips, "GETs", clips),
    ]
    for name, read in READERS.items():
        say(f"reading with {name}")
        corpus.far.reset(latency_ms=0)
        try:
            for bag in bags:
                read(bag)
        except Exception as error:  # a peer that fails is reported, and the others are still measured
            say(f"{name} does not run here: {type(error).__name__}: {error}")
            continue
        gets, size_bytes = corpus.on_tars()
        found.append(figures.count(f"fetch.{name}_bytes_over_minimal", size_bytes / minimal, "ratio", len(bags)))
        found.append(figures.count(f"fetch.{name}_gets_per_clip", gets / clips, "GETs", clips))
    return found


def throughput_kept(
    name: str, corpus: Corpus, folder: Path, repeats: int, run: Callable[[PlanFacts], Iterator[DecodedBatch]]
) -> list[Figure]:
    """Clips per second at LATENCY_MS divided by those without latency; one core, the same plan for both, in turns.

    It also gives the share of the time in which the decoder waited for the store; other work on the machine changes
    this share less.
    """
    say(f"{name}: {repeats} repetitions")
    seconds: dict[int, list[float]] = {0: [], LATENCY_MS: []}
    waited: dict[int, list[float]] = {0: [], LATENCY_MS: []}
    for repeat in range(repeats + 1):
        plan = stored_plan(corpus.planner, folder / f"{name}-{repeat}", range(repeat, repeat + 1))
        for latency_ms in (0, LATENCY_MS) if repeat % 2 else (LATENCY_MS, 0):
            corpus.far.reset(latency_ms)
            began, wait = time.monotonic(), 0.0
            for batch in run(plan):
                clips_in(batch)
                wait += float(batch.wait_seconds.sum())
            seconds[latency_ms].append(time.monotonic() - began)
            waited[latency_ms].append(wait)
    corpus.far.reset(latency_ms=0)
    far = slice(1, None)  # the first repetition is a warm-up
    return [
        figures.as_percent(figures.ratio_of_medians(f"fetch.{name}", seconds[0][far], seconds[LATENCY_MS][far])),
        figures.ratio(f"fetch.{name}_waiting", waited[LATENCY_MS][far], seconds[LATENCY_MS][far]),
    ]


def _in_process(plan: PlanFacts) -> Iterator[DecodedBatch]:
    return stream(plan.slices(0), shape_of(CLIPS_PER_BAG, None), BAGS_PER_BATCH)


def ray_figures(corpus: Corpus, folder: Path, repeats: int) -> list[Figure]:
    """The same through Ray Data, all on one core, which the decoding processes share as they do in training."""
    try:
        from adaptfocus.infra.running.cluster import connect
        from adaptfocus.pipelines.stream.on_ray import Decoding
        from benchmarks.reading.through_ray import batches
    except ImportError as error:
        say(f"Ray Data: not installed ({error})")
        return []
    with on_one_core(), connect(None, cpus=2):
        run = partial(batches, decoding=Decoding(cores=1))
        return throughput_kept("ray_throughput_kept_at_50ms", corpus, folder, repeats, run)[
            :1
        ]  # its tasks wait in turn


if __name__ == "__main__":
    typer.run(main)
