"""CPU time of decoding a clip, by our code and others, divided by that of bare decoding; and who gives right frames.

    python -m benchmarks.decode [--quick] [--json] [--video PATH ...]     CPU
    python -m benchmarks.decode --check [...]                             wrong frames

A clip is 32 frames, stride 3, uint8 RGB (channels first), 224 pixels from a short side of 256. Each candidate has one
thread on one core, in a separate process. All decode the same clip before any decodes the next. CPU time is that of the
whole process. A ratio is one of totals, with a 90 % bootstrap interval over the clips.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/decode.py`

from benchmarks.measuring import figures
from benchmarks.measuring.figures import Figure, say
from benchmarks.reading.check import wrong_frames
from benchmarks.reading.clips import Clips, clips_of
from benchmarks.reading.corpus import default_work_folder, name_of
from benchmarks.reading.isolated import CandidateError, Isolated, isolated
from benchmarks.reading.videos import NAMES, video

TIMED = ("floor", "ours", "ours_yuv420p", "pyav_kept", "pyav_reopened", "decord_kept", "decord_reopened",
         "torchcodec_kept", "torchcodec_reopened")  # fmt: skip
CHECKED = ("ours", "ours_yuv420p", "pyav_kept", "decord_kept", "torchcodec_kept", "torchcodec_approximate")
_said: set[tuple[str, str]] = set()
Costs = dict[str, dict[str, list[float]]]  # video -> candidate -> CPU seconds of each clip


def main(
    video_paths: Annotated[list[Path], typer.Option("--video", help="One of your files; repeatable.")] = [],  # noqa: B006
    kinds: Annotated[str, typer.Option(help="Which of our own videos: letters of abcdef, or '' for none.")] = "abcdef",
    clips: Annotated[int, typer.Option(help="Clips of each video.")] = 40,
    quick: Annotated[bool, typer.Option(help="10 clips of each video.")] = False,
    check: Annotated[bool, typer.Option(help="Count wrong frames instead of measuring time.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each figure.")] = False,
    work: Annotated[Path | None, typer.Option(help="Where our videos are kept.")] = None,
    core: Annotated[int | None, typer.Option(help="The core to run on; the last one if not given.")] = None,
) -> None:
    """Measure decoding, or check it."""
    clips = min(clips, 10) if quick else clips
    core = max(os.sched_getaffinity(0)) if core is None else core
    say(f"videos {kinds or '(none of ours)'}: making those that are missing, packing, indexing")
    files = {NAMES[kind]: video(kind, (work or default_work_folder()) / "videos") for kind in kinds}
    files |= {name_of(path): path for path in video_paths}
    with tempfile.TemporaryDirectory(prefix="adaptfocus-bench-") as folder:
        sets = {name: made for name, path in files.items() if (made := clips_of(name, path, Path(folder), clips))}
    if check:
        found, title = checked(sets, core), "Share of wrong frames"
    else:
        costs = timed(sets, core)
        found, title = cost_figures(costs), "CPU of decoding a clip"
    figures.show(found, as_json, title)


def timed(sets: dict[str, Clips], core: int) -> Costs:
    """Time every candidate on every clip, clip by clip, after one unmeasured decode of each video's first clip."""
    costs: Costs = {}
    with isolated(TIMED, core) as workers:
        for name, clips in sets.items():
            say(f"{name}: {len(clips.requests)} clips")
            running = {c: w for c, w in workers.items() if _opens(c, w, name, clips)}
            spent = costs[name] = {candidate: [] for candidate in running}
            for number, request in enumerate(clips.requests):
                order = list(running)
                for candidate in order[number % len(order) :] + order[: number % len(order)]:
                    spent[candidate].append(workers[candidate].clip(request).cpu_seconds)
    return costs


def _opens(candidate: str, worker: Isolated, video_name: str, clips: Clips) -> bool:
    """Whether a candidate decodes this video at all; if not, print why."""
    try:
        worker.open(clips.video)
        worker.clip(clips.requests[0])
    except CandidateError as error:
        _say_once(candidate, str(error), video_name)
        return False
    return True


def _say_once(candidate: str, why: str, video_name: str) -> None:
    """Print one line for a candidate that is not installed, and so fails on every video."""
    if not why.startswith("not installed"):
        say(f"{candidate} does not run here on {video_name}: {why}")
    elif (candidate, why) not in _said:
        _said.add((candidate, why))
        say(f"{candidate}: {why}")


def cost_figures(costs: Costs) -> list[Figure]:
    """`decode.cpu_over_floor.VIDEO` is ours; `decode.CANDIDATE_over_floor.VIDEO` are the others."""
    found = []
    for name, spent in costs.items():
        if "floor" not in spent:
            continue
        found.append(figures.mean(f"decode.floor_ms.{name}", [1000 * s for s in spent["floor"]], "ms CPU a clip"))
        for candidate, seconds in spent.items():
            if candidate != "floor":
                word = "cpu" if candidate == "ours" else candidate
                found.append(figures.ratio(f"decode.{word}_over_floor.{name}", seconds, spent["floor"]))
    return found + _over_decord(costs)


def _over_decord(costs: Costs) -> list[Figure]:
    """decord, kept open, divided by ours: on each video, and on both videos of 360p together."""
    found = []
    both = {name: spent for name, spent in costs.items() if {"ours", "decord_kept"} <= set(spent)}
    for name, spent in both.items():
        found.append(figures.ratio(f"decode.decord_over_ours.{name}", spent["decord_kept"], spent["ours"]))
    pooled = [both[name] for name in (NAMES["a"], NAMES["b"]) if name in both]
    if len(pooled) == 2:
        decord, ours = ([*pooled[0][c], *pooled[1][c]] for c in ("decord_kept", "ours"))
        found.append(figures.ratio("decode.decord_over_ours.360p", decord, ours))
    return found


def checked(sets: dict[str, Clips], core: int) -> list[Figure]:
    """`decode.wrong_frames.CANDIDATE.VIDEO`: the share of frames that are not the requested ones."""
    found = []
    with isolated(CHECKED, core) as workers:
        for name, clips in sets.items():
            say(f"{name}: decoding all of it")
            for candidate, wrong in wrong_frames(clips, workers).items():
                if isinstance(wrong, str):
                    _say_once(candidate, wrong, name)
                else:
                    total = sum(len(request.frame_pts) for request in clips.requests)
                    found.append(
                        figures.count(f"decode.wrong_frames.{candidate}.{name}", wrong / total, "share", total)
                    )
    return found


if __name__ == "__main__":
    typer.run(main)
