"""`adaptfocus localise`: when each action happens in videos.

The work is done by `trainers.localisation`; the page is `infra.localised`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from adaptfocus.infra.cli.options import Address, Engine, Epoch, RunUrl
from adaptfocus.infra.running.wording import counts_line, many

if TYPE_CHECKING:
    from adaptfocus.infra.running.localisation import Found

out = Console(soft_wrap=True)  # a line is never broken inside a name or a URL


def localise(
    run: RunUrl,
    videos: Annotated[
        list[str], typer.Argument(metavar="VIDEO...", help="An index; or video files, folders of them, globs and URLs.")
    ],
    out_url: Annotated[str, typer.Option("--out", help="URL of the folder to write to.")],
    calibrate: Annotated[
        str | None,
        typer.Option(help="Choose each label's threshold on this index; or take those of a thresholds.json."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="One threshold for all labels. Default without --calibrate: 0.5.")
    ] = None,
    top: Annotated[int | None, typer.Option(help="Intervals of at most so many labels of a video.", min=1)] = None,
    stride_seconds: Annotated[
        float | None,
        typer.Option(help="Seconds from one score to the next. Default: half of a clip's length, at most 1."),
    ] = None,
    merge_seconds: Annotated[
        float, typer.Option(help="Join two intervals of a label with a gap of at most this.")
    ] = 0.0,
    min_seconds: Annotated[float, typer.Option(help="Leave out shorter intervals.")] = 0.0,
    epoch: Epoch = None,
    page_videos: Annotated[
        int, typer.Option(help="Number of videos on the page index.html; 0: write no page.", min=0, max=200)
    ] = 12,
    tracks: Annotated[bool, typer.Option(help="Write a WebVTT and an SRT file for each video.")] = True,
    engine: Engine = "auto",
    address: Address = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of placement, such as placement.decode_workers=4.")
    ] = None,
) -> None:
    """Find when each action happens: scores along time, intervals, subtitles and a page.

    Give the same command again to resume.
    """
    from adaptfocus.infra.localised.page import write_page
    from adaptfocus.infra.running.localisation import run_localisation

    found = run_localisation(
        run, videos, out_url, stride_seconds=stride_seconds, epoch=None if epoch is None else epoch - 1,
        threshold=threshold, calibrate=calibrate, top=top, merge_seconds=merge_seconds, min_seconds=min_seconds,
        tracks=tracks, engine=engine, address=address, overrides=overrides,
    )  # fmt: skip
    page = write_page(found, page_videos) if page_videos else None
    _say(found)
    if page:
        out.print(f"  page: {page}", markup=False)


def _say(found: Found) -> None:
    done = found.done
    out.print(
        f"{many(done.intervals, 'interval')} in {many(done.videos, 'video')} ({done.without} without any), a score "
        f"every {done.stride_seconds:g} s -> {found.out.url}",
        markup=False,
    )
    sources = {"intervals": "from intervals", "labels": "from video-level labels", "given": "given",
               "default": "the median of the others"}  # fmt: skip
    said = ", ".join(f"{many(count, 'label')} {sources[each]}" for each, count in done.thresholds_from.items())
    out.print(f"  thresholds: {said}" + ("" if found.job.calibrate else "; not calibrated (--calibrate INDEX)"))
    if found.indexed:
        counts_line(out, "not a video that can be read", found.indexed.refused, list(found.indexed.reasons))
        counts_line(out, "read with changes", found.indexed.noted)
    counts_line(out, "not decoded (rows in scores/refused/)", done.refused)
    if found.strange:
        names = ", ".join(found.strange[:5]) + (", ..." if len(found.strange) > 5 else "")
        out.print(
            f"  not scored: {many(len(found.strange), 'label')} that the run does not have: {names}", markup=False
        )
    if found.scores:
        out.print(table_of_metrics(found.scores))


def table_of_metrics(scores: dict) -> Table:
    """mAP at temporal IoUs and per-frame mAP, in per cent."""
    from adaptfocus.infra.localised.metric_names import rows_of_metrics

    table = Table(box=None)
    table.add_column("")
    table.add_column("%", justify="right")
    for row in rows_of_metrics(scores):
        table.add_row(*row)
    return table
