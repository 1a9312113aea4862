"""`adaptfocus show`: one clip of a run, by its number.

The work is done by trainers/runs/one_clip.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from adaptfocus.infra.cli.options import RunUrl
from adaptfocus.infra.running.tables import show as show_table
from adaptfocus.infra.running.wording import many
from adaptfocus.pipelines.url_secrets import redact_secrets

if TYPE_CHECKING:
    from adaptfocus.trainers.runs.one_clip import OneClip

out = Console(soft_wrap=True)  # a line is never broken inside a name or a URL

ClipId = Annotated[int, typer.Argument(metavar="CLIP_ID", help="The clip's number, as reports and ledgers give it.")]


def show(
    run: RunUrl,
    clip_id: ClipId,
    out_url: Annotated[
        str | None, typer.Option("--out", help="URL of a PNG to write: the clip's frames, decoded again.")
    ] = None,
    size_pixels: Annotated[int | None, typer.Option(help="Size of its frames. Default: as in training.", min=2)] = None,
) -> None:
    """Look at one clip: where it lies, what is read for it, its frames and its scores."""
    from adaptfocus.infra.report.contact_sheet import contact_sheet
    from adaptfocus.pipelines import store
    from adaptfocus.trainers.runs.log import Run
    from adaptfocus.trainers.runs.one_clip import find_clip, frames_of_clip
    from adaptfocus.trainers.runs.open import load_config

    config = load_config(run)
    found = find_clip(Run(run.rstrip("/")), config, clip_id)
    table = Table(f"clip {clip_id}", "", box=None)
    for name, value in _facts(found, len(found.step["clips"])):
        table.add_row(name, escape(value))
    show_table(out, table)
    if found.labels:
        show_table(out, _scores(found))
    else:
        out.print("the video has no labels: the clip is a negative of every class")
    if out_url:
        frames, size_bytes, requests = frames_of_clip(found, config, size_pixels)
        store.write_bytes(out_url, contact_sheet(frames))
        cost = f"{size_bytes:,} bytes in {many(requests, 'request')}, " if requests else ""
        out.print(f"{cost}{many(len(frames), 'frame')} -> {out_url}", markup=False, highlight=False)


def _facts(found: OneClip, clips_per_bag: int) -> Iterator[tuple[str, str]]:
    place, bag, step, clip = found.place, found.bag, found.step, found.clip
    yield "planned as", f"epoch {place.epoch + 1}, slot {place.slot}, clip {place.draw + 1} of {clips_per_bag}"
    yield "outcome", found.outcome
    yield "video", f"{bag['video_id']} ({step['duration_seconds']:.2f} s)"
    yield "stored in", f"{redact_secrets(bag['shard_url'])}, member {bag['member_name']}"
    yield "centre", f"{clip['center_seconds']:.3f} s, {clip['tau']:.3f} of the video"
    yield "drawn", _why(found)
    if "spans" not in bag:
        yield "read", "features of the whole clip"
        return
    pts = [each * found.time_base_seconds for each in clip["frame_pts"]]
    repeats = len(pts) - len(set(pts))
    again = f", {repeats} of them shown again" if repeats else ""
    yield "frames", f"{len(pts)}, at {pts[0]:.3f} to {pts[-1]:.3f} s of the video's own clock{again}"
    if not bag["spans"]:
        yield "read", "through the container: its packets cannot be read by ranges"
        return
    ranges = [(span["offset_bytes"], span["offset_bytes"] + span["size_bytes"]) for span in bag["spans"]]
    yield "bytes", ", ".join(f"{start:,} to {end:,} ({end - start:,})" for start, end in ranges)
    starts = ", ".join(f"{each:.3f} s" for each in found.keyframe_seconds)
    yield "packets", f"{found.packets}, decoded from the keyframe at {starts} ({bag['codec']})"


def _why(found: OneClip) -> str:
    from adaptfocus.pipelines.schemas import BY_SCORE, NO_LABEL

    label = found.clip["focus_label_id"]
    if label == NO_LABEL:
        return "anywhere in the video (it explores)"
    if label == BY_SCORE:
        return "by the score of plan.resample_by"
    names = dict(zip(found.step["label_ids"], (each.name for each in found.labels), strict=True))
    return f"around the salient time of {names.get(label, f'class {label}')}"


def _scores(found: OneClip) -> Table:
    table = Table("label", box=None)
    for title in ("spike before", "at", "p of this clip"):
        table.add_column(title, justify="right")
    for each in found.labels:
        negative = "" if each.may_be_positive else " (not shown here: a negative)"
        spike = "-" if each.spike is None else f"{each.spike:.3f}"
        salient = "-" if each.salient_seconds is None else f"{each.salient_seconds:.2f} s"
        p = "-" if each.probability is None else f"{each.probability:.3f}"
        table.add_row(escape(each.name) + negative, spike, salient, p)
    return table
