"""Clips for any training loop against our own loop: clips a second, and whether a resume reads each clip once.

    python -m benchmarks.library [--quick] [--json]

Both sides read the same clips, of 32 frames, stride 3, 224 pixels, 4 of each 10-minute video at 360p, and decode with
one decoding process. Our own side is the stream that training reads, in this process. The others are the clips in a
torch DataLoader with one worker: `over_trainer` is `Clips.loader`, and `torch_over_trainer` torch's own DataLoader on
the clips, map-style. Repetitions of the sides take turns after a warm-up, and time counts from the first batch. Ratios
of wall times are of medians, with 90 % bootstrap intervals over the repetitions. `cpu_over_trainer` is of the CPU of
all processes, which other work on the machine changes less. `resume_lost` and `resume_twice` count clips after a loader
of two workers is left in mid-epoch and another of one worker resumes.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/library.py`

from adaptfocus.pipelines.library import Clips, open_index
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.published import PlanFacts, read_drawn
from adaptfocus.pipelines.schemas import STEP_SCHEMA
from adaptfocus.pipelines.stream.clips import stream
from benchmarks.faults.s3_latency import FarStore
from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure, say
from benchmarks.measuring.pace import clips_in
from benchmarks.reading.corpus import (
    BAGS_PER_BATCH,
    CLIP,
    CLIPS_PER_BAG,
    DECODE,
    default_work_folder,
    indexed,
    shape_of,
    stored_plan,
    write_shards,
)
from benchmarks.reading.process_cost import ProcessCost
from benchmarks.reading.videos import NAMES, video
from tests.s3_server import ExclusiveS3

BATCH = BAGS_PER_BATCH * CLIPS_PER_BAG
LATENCY_MS = 20
SIDES = ("trainer", "loader", "torch")
PARTS = ("local", "far", "resume")


def main(
    videos: Annotated[int, typer.Option(help="How many 10-minute videos.")] = 8,
    repeats: Annotated[int, typer.Option(help="Repetitions of each measurement.")] = 7,
    parts: Annotated[str, typer.Option(help="Which measurements, with commas between.")] = ",".join(PARTS),
    quick: Annotated[bool, typer.Option(help="Three repetitions, from this machine's disk only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each figure.")] = False,
    work: Annotated[Path | None, typer.Option(help="Where our videos are kept.")] = None,
) -> None:
    """Measure clips in a DataLoader."""
    os.environ["OMP_NUM_THREADS"] = "1"
    repeats = 3 if quick else repeats
    say("making the videos that are missing")
    made = {kind: video(kind, (work or default_work_folder()) / "videos") for kind in "ab"}
    files = {f"{NAMES['ab'[n % 2]]}-{n:03d}": made["ab"[n % 2]] for n in range(videos)}
    found: list[Figure] = []
    wanted = [part for part in parts.split(",") if not (quick and part == "far")]
    with tempfile.TemporaryDirectory(prefix="adaptfocus-bench-") as folder:
        write_shards(files, f"{folder}/shards", shard_size_bytes=100 << 20)
        planner = indexed(f"{folder}/shards", f"{folder}/index")
        if "local" in wanted:
            found += compare("library", planner, f"{folder}/index", Path(folder), repeats)
        if "resume" in wanted:
            found += resume(f"{folder}/index", planner, Path(folder))
    if "far" in wanted:
        found += far(files, repeats)
    figures.show(found, as_json, "Clips for any training loop")


def far(files: dict[str, Path], repeats: int) -> list[Figure]:
    """The same from a store that holds each request for 20 ms. The store runs on these cores too."""
    with (
        tempfile.TemporaryDirectory(prefix="adaptfocus-bench-") as folder,
        ExclusiveS3(Path(folder) / "s3") as s3,
        FarStore(s3) as store,
    ):
        os.environ.update(store.environment)
        write_shards(files, store.store.url("shards"), shard_size_bytes=100 << 20)
        planner = indexed(store.store.url("shards"), store.store.url("index"))
        store.reset(LATENCY_MS)
        return compare("library.far", planner, store.store.url("index"), Path(folder), repeats)


def compare(name: str, planner: Planner, index_url: str, folder: Path, repeats: int) -> list[Figure]:
    """The sides on the same clips, in turn."""
    passes = -(-128 // (CLIPS_PER_BAG * planner.table.num_rows))  # at least 128 clips
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    cpu_ms: dict[str, list[float]] = {side: [] for side in SIDES}
    for repeat in range(repeats + 1):
        epochs = range(passes * repeat, passes * (repeat + 1))
        plan = stored_plan(planner, folder / f"{name}-{repeat}", epochs)
        clips = Clips(open_index(index_url), moments_of(plan), CLIP, decode=DECODE)
        sides: dict[str, Callable[[], Iterable[int]]] = {
            "trainer": lambda plan=plan: map(clips_in, stream(plan.slices(0), shape_of(4), BAGS_PER_BATCH)),
            "loader": lambda clips=clips: decoded(clips.loader(BATCH, 1)),
            "torch": lambda clips=clips: decoded(torch_loader(clips)),
        }
        for side in SIDES[:: -1 if repeat % 2 else 1]:
            batches = iter(sides[side]())
            next(batches)  # the processes have started
            began = time.monotonic()
            with ProcessCost() as cost:
                count = sum(batches)
                seconds = time.monotonic() - began
            say(f"{name} {repeat} of {repeats}: {side} {count / seconds:.1f} clips/s")
            if repeat:  # the first is the warm-up
                rates[side].append(count / seconds)
                cpu_ms[side].append(1000 * cost.cpu_seconds / count)
    # The store works in processes of this machine too, so its CPU would count.
    of_cpu = (
        []
        if name.endswith(".far")
        else [
            figures.ratio(f"{name}.cpu_over_trainer", cpu_ms["loader"], cpu_ms["trainer"]),
            *(figures.mean(f"{name}.{side}_cpu_ms", cpu_ms[side], "ms CPU a clip") for side in SIDES),
        ]
    )
    return [
        figures.ratio_of_medians(f"{name}.over_trainer", rates["loader"], rates["trainer"]),
        figures.ratio_of_medians(f"{name}.torch_over_trainer", rates["torch"], rates["trainer"]),
        *(figures.mean(f"{name}.{side}_clips_per_second", rates[side], "clips/s") for side in SIDES),
        *of_cpu,
    ]


def resume(index_url: str, planner: Planner, folder: Path) -> list[Figure]:
    """Clips that a resume in mid-epoch loses, or reads twice."""
    plan = stored_plan(planner, folder / "resume", range(2))
    moments = moments_of(plan)

    def clips() -> Clips:
        return Clips(open_index(index_url), moments, CLIP, decode=DECODE)

    seen: list[int] = []
    first = clips().loader(BATCH, 2)
    for batch in first:
        seen += batch["place"].tolist()
        if len(seen) >= len(moments) // 2:
            break
    second = clips().loader(BATCH + 1, 1)
    second.load_state_dict(first.state_dict())
    seen += [place for batch in second for place in batch["place"].tolist()]
    counts = Counter(seen)
    return [
        figures.count("library.resume_lost", len(moments) - len(counts), "clips", len(moments)),
        figures.count("library.resume_twice", sum(n - 1 for n in counts.values()), "clips", len(moments)),
    ]


def moments_of(plan: PlanFacts) -> list[tuple[int, float]]:
    """The clips of a plan, in its order."""
    bags = [bag for url, *rows in plan.slices() for bag in read_drawn(url, STEP_SCHEMA, *rows).to_pylist()]
    return [(bag["video_row"], clip["center_seconds"]) for bag in bags for clip in bag["clips"]]


def torch_loader(clips: Clips) -> Any:
    """torch's own DataLoader on the clips."""
    from torch.utils.data import DataLoader

    return DataLoader(clips, BATCH, num_workers=1)  # type: ignore[arg-type]


def decoded(batches: Any) -> Iterator[int]:
    """The number of clips of each batch; one that was not decoded is an error."""
    for batch in batches:
        if any(batch["error"]):
            raise RuntimeError(f"a clip was not decoded: {max(batch['error'])}")
        yield len(batch["error"])


if __name__ == "__main__":
    typer.run(main)
