"""`adaptfocus pack`: pack videos and labels into WebDataset shards, from a list or from a data set as it was released.

The work is done by `pipelines.datasets` and `pipelines.shards`. With `--validate`, the command only summarises what
would go into the shards.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from adaptfocus.infra.cli.options import Address, Classes, Processes
from adaptfocus.infra.cli.tasks import check_address, over_cluster
from adaptfocus.infra.running.wording import counts_line, many
from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.groups import check_groups, split_by_groups
from adaptfocus.pipelines.annotations.label_checks import label_warnings, video_warnings
from adaptfocus.pipelines.annotations.manifest import read_classes, read_listed, tidy_list
from adaptfocus.pipelines.annotations.rows import AnnotatedVideo, Problem, labels_and
from adaptfocus.pipelines.datasets.formats import FORMATS, read_release
from adaptfocus.pipelines.datasets.release import Release
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.store.strict_json import json_text

out = Console(soft_wrap=True)  # a line is never broken inside a name or a URL
IDS_SHOWN = 10


@dataclass(frozen=True)
class Chosen:
    """What is to be packed, and the problems found so far."""

    videos: list[AnnotatedVideo]
    classes: Sequence[str] | None
    problems: list[Problem]
    release: Release | None = None
    warnings: Sequence[str] = ()  # likely mistakes, in all splits


@dataclass(frozen=True)
class Output:
    """Where shards go, and what becomes of those that are there."""

    url: str
    shard_size_bytes: int
    overwrite: bool
    resume: bool


@dataclass(frozen=True)
class Workers:
    """Where the work is done."""

    number: int | None
    ray: bool
    address: str | None


INPUT, RELEASE, OUTPUT = "Input: one of these", "Of a data set (--format)", "Output"


def _option(*names: str, panel: str, **more: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **more)


def pack(
    manifest: Annotated[
        str | None, _option(panel=INPUT, help="A list: URL of a CSV or JSONL with path and labels.")
    ] = None,
    format_name: Annotated[
        str | None, _option("--format", panel=INPUT, help=f"A data set as released: {', '.join(FORMATS)}.")
    ] = None,
    gmdcsa24: Annotated[str | None, _option(panel=INPUT, help="Top folder of GMDCSA24.")] = None,
    split: Annotated[list[str] | None, _option(panel=INPUT, help="Pack only this split.")] = None,
    hold_out: Annotated[
        list[str] | None, _option(panel=INPUT, help="A group whose videos are the test split, the others train.")
    ] = None,
    classes: Classes = None,
    annotations: Annotated[
        str | None, _option(panel=RELEASE, help="URL of the released folder, or of the list (required).")
    ] = None,
    videos: Annotated[list[str] | None, _option(panel=RELEASE, help="Folder to look for videos in, by id.")] = None,
    sentences: Annotated[list[str] | None, _option(panel=RELEASE, help="charades: URL of a Charades-STA file.")] = None,
    labels: Annotated[
        Literal["actions", "activities"], _option(panel=RELEASE, help="breakfast: what videos are tagged with.")
    ] = "actions",
    leave_out: Annotated[
        list[str] | None, _option(panel=RELEASE, help="A class to leave out; may be given again.")
    ] = None,
    intervals: Annotated[bool, _option(panel=RELEASE, help="Keep the annotated intervals.")] = True,
    validate: Annotated[bool, _option("--validate", panel=RELEASE, help="Only check and summarise.")] = False,
    list_url: Annotated[
        str | None, _option("--list", panel=RELEASE, help="Only write the labels to this .jsonl, for index --labels.")
    ] = None,
    out_url: Annotated[
        str | None, _option("--out", panel=OUTPUT, help="URL of the folder for the shards (required).")
    ] = None,
    shard_size: Annotated[int, _option(panel=OUTPUT, help="Bytes after which a new shard begins.")] = 1 << 30,
    overwrite: Annotated[bool, _option("--overwrite", panel=OUTPUT, help="Replace existing shards.")] = False,
    resume: Annotated[
        bool, _option("--resume", panel=OUTPUT, help="Complete a pack that was stopped: keep its whole shards.")
    ] = False,
    problems_url: Annotated[
        str | None, _option("--problems", panel=OUTPUT, help="URL of a file to list all problems in.")
    ] = None,
    as_json: Annotated[bool, _option("--json", panel=OUTPUT, help="Print the result as JSON.")] = False,
    workers: Processes = None,
    ray: Annotated[bool, typer.Option("--ray", help="Check the videos and write the shards on a Ray cluster.")] = False,
    address: Address = None,
) -> None:
    """Pack videos and labels into WebDataset tars.

    Give one input: --manifest, --format with --annotations, or --gmdcsa24.
    """
    check_address(ray, address)
    if sum(each is not None for each in (format_name, manifest, gmdcsa24)) != 1:
        raise ConfigError("give one input: --format NAME --annotations URL, --manifest URL or --gmdcsa24 FOLDER")
    of_formats = {
        "--annotations": annotations, "--videos": videos, "--sentences": sentences, "--validate": validate,
        "--leave-out": leave_out, "--no-intervals": not intervals, "--labels": labels != "actions",
        "--list": list_url,
    }  # fmt: skip
    strange = [option for option, given in of_formats.items() if given and not format_name]
    if strange:
        raise ConfigError(f"{strange[0]} belongs to --format; for a manifest, give --format csv --annotations URL")
    names = read_classes(classes) if classes else None
    if format_name:
        if annotations is None:
            raise ConfigError(f"--format {format_name} needs --annotations URL: where its lists are")
        release = read_release(
            format_name, annotations, classes=names, activities_as_labels=labels == "activities",
            sentences_urls=sentences or (),
        )  # fmt: skip
        if hold_out:
            release = replace(release, videos=tuple(split_by_groups(release.videos, hold_out)))
        warnings = _checked(release.classes, release.listed())
        release = release.of_splits(split or ()).without_labels(leave_out or ())
        if validate:
            _validate(release, videos or [], as_json, problems_url)
            _warn([] if as_json else warnings)
            return
        if list_url:
            _list(release, list_url, intervals, problems_url)
            return
        chosen = _of_release(release, videos or [], intervals, warnings)
    else:
        chosen = _of_list(manifest, gmdcsa24, hold_out or [], names, split or [])
    if out_url is None:
        raise ConfigError("--out is missing: the folder of the shards")
    there = Output(out_url, shard_size, overwrite, resume)
    _pack(chosen, there, Workers(workers, ray, address), as_json, problems_url)


def _of_release(release: Release, folders: list[str], with_intervals: bool, warnings: list[str]) -> Chosen:
    found, problems = release.located(folders)
    if not found:
        said = "; ".join(problem.message for problem in problems[:3])
        raise InputError(f"none of {len(release.videos)} videos was found: {said}")
    if not with_intervals:
        found = [replace(video, intervals=None) for video in found]
    return Chosen(found, release.classes, [*release.problems, *problems], release, warnings)


def _of_list(
    manifest: str | None, gmdcsa24: str | None, held_out: list[str], names: list[str] | None,
    splits: list[str],
) -> Chosen:  # fmt: skip
    if manifest:
        listed = read_listed(manifest, names, required=("path", "labels"))
        known = _held_out([video for video, _ in listed], held_out)
        placed = zip(known, (where for _, where in listed), strict=True)
        videos, problems = tidy_list((video, where) for video, where in placed if not splits or video.split in splits)
    else:
        from adaptfocus.pipelines.datasets.gmdcsa24 import read_gmdcsa24

        known, problems = read_gmdcsa24(gmdcsa24 or "")
        known = _held_out(known, held_out)
        videos = [video for video in known if not splits or video.split in splits]
    missing = [f"{p.where}: {p.message}" for p in problems if p.kind == "missing_file"]
    if not videos and missing:
        raise InputError(
            f"none of the {many(len(missing), 'file')} in {manifest or gmdcsa24} exists; the first: {missing[0]}. "
            "A relative path starts at the folder of the list"
        )
    if not known:
        raise InputError(f"{manifest or gmdcsa24}: none of its videos can be packed; {_first_of(problems)}")
    if not videos:
        wanted, there = "' or '".join(splits), ", ".join(sorted({str(video.split) for video in known})) or "none"
        raise InputError(f"no video of {len(known)} is in the split '{wanted}'; there are: {there}")
    # One class list for all splits, so that a model trained on one split can be evaluated on another.
    classes = names or sorted({label for video in known for label in labels_and(video.intervals, video.labels)})
    return Chosen(videos, classes, problems, warnings=_checked(classes, known))


def _held_out(videos: list[AnnotatedVideo], groups: list[str]) -> list[AnnotatedVideo]:
    return split_by_groups(videos, groups) if groups else videos


def _checked(classes: Sequence[str], videos: Sequence[AnnotatedVideo]) -> list[str]:
    """Likely mistakes in the videos of all splits, whichever is packed. Raises InputError: a group is split."""
    check_groups(videos)
    return [*label_warnings(classes), *video_warnings(videos)]


def _first_of(problems: Sequence[Problem]) -> str:
    """How many problems there are, and the first of them."""
    first = f", the first: {problems[0].where}: {problems[0].message}" if problems else ""
    return f"{len(problems)} were left out{first}"


def _pack(chosen: Chosen, to: Output, workers: Workers, as_json: bool, problems_url: str | None) -> None:
    from adaptfocus.infra.running.progress import progress_bar
    from adaptfocus.pipelines.datasets.task_files import write_tasks
    from adaptfocus.pipelines.shards.packing import pack as pack_videos
    from adaptfocus.pipelines.store.urls import absolute

    release, videos, out_url = chosen.release, chosen.videos, to.url
    if workers.ray:  # tasks run in other folders
        videos, out_url = [replace(video, path=absolute(video.path)) for video in videos], absolute(out_url)
    with (
        over_cluster(
            workers.ray, workers.address, workers.number, out_url, _first_there(videos) if workers.ray else {}
        ) as over,
        progress_bar("packing (videos checked, shards written)") as progress,
    ):
        done = pack_videos(
            videos, out_url, classes=chosen.classes, shard_size_bytes=to.shard_size_bytes, problems=chosen.problems,
            overwrite=to.overwrite, resume=to.resume, progress=progress, workers=workers.number, over=over,
            annotate=None if release is None else lambda seconds: write_tasks(release, out_url, seconds),
        )  # fmt: skip
    _write_problems(problems_url, done.problems)
    if as_json:
        facts = {key: value for key, value in asdict(done).items() if key != "problems"}
        print(json_text(facts | {"warnings": list(chosen.warnings)}))
        return
    groups = f", {many(done.groups, 'group')}" if done.groups else ""
    out.print(f"{many(done.videos, 'video')}, {done.duration_seconds / 60:.1f} minutes, "
              f"{many(len(done.classes), 'class')}{groups} -> "
              f"{many(len(done.shards), 'shard')} in {out_url}")  # fmt: skip
    counts_line(out, "left out or changed", done.counts, [f"{p.where}: {p.message}" for p in done.problems])
    _not_found(done.problems, f"{out_url}/pack.json lists all")
    _warn(chosen.warnings)


def _first_there(videos: Sequence[AnnotatedVideo]) -> dict[str, str]:
    """A video of this machine, if there is one: on a node that does not see it, all would be missing."""
    return next(
        ({"the video": video.path} for video in videos if store.is_local(video.path) and store.exists(video.path)), {}
    )


def _validate(release: Release, folders: list[str], as_json: bool, problems_url: str | None) -> None:
    from adaptfocus.infra.cli.tables.release_tables import print_summary
    from adaptfocus.pipelines.datasets.release_summary import summarise
    from adaptfocus.pipelines.datasets.task_files import moments_of, stated_seconds

    problems = [*release.problems, *release.interval_problems(), *moments_of(release, stated_seconds(release))[1]]
    if folders or all(video.path for video in release.videos):
        problems += release.located(folders)[1]
    summary = summarise(release, problems)
    _write_problems(problems_url, problems)
    if as_json:
        print(json_text(asdict(summary), ensure_ascii=False))
    else:
        print_summary(out, summary, problems)
        _not_found(problems, "--problems URL lists all")


def _list(release: Release, list_url: str, with_intervals: bool, problems_url: str | None) -> None:
    from adaptfocus.pipelines.datasets.task_files import write_list

    problems = [*release.problems, *release.interval_problems(), *write_list(release, list_url, with_intervals)]
    _write_problems(problems_url, problems)
    out.print(f"{many(len(release.videos), 'video')}, {many(len(release.classes), 'class')} -> {list_url}")
    counts_line(out, "wrong in it (index cuts intervals to the videos)", Counter(p.kind for p in problems))


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        out.print(f"  warning: {warning}", markup=False, highlight=False, soft_wrap=True)


def _not_found(problems: Sequence[Problem], more: str) -> None:
    """Print the ids of videos whose file is missing or ambiguous, so that people can look for them."""
    ids = [problem.where for problem in problems if problem.kind in ("missing_video", "ambiguous_video")]
    if ids:
        rest = f" and {len(ids) - IDS_SHOWN} more; {more}" if len(ids) > IDS_SHOWN else ""
        out.print(f"  not found: {', '.join(ids[:IDS_SHOWN])}{rest}", markup=False, highlight=False, soft_wrap=True)


def _write_problems(url: str | None, problems: Sequence[Problem]) -> None:
    if url:
        lines = [json.dumps(asdict(problem), ensure_ascii=False) + "\n" for problem in problems]
        store.write_bytes(url, "".join(lines).encode())
