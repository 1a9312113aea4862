"""`adaptfocus clips`: short labelled clips of a corpus, as WebDataset shards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from adaptfocus.infra.cli.options import Epoch, MaybeRunUrl, Processes
from adaptfocus.infra.running.wording import counts_line, many
from adaptfocus.pipelines.errors import ConfigError

if TYPE_CHECKING:
    from adaptfocus.pipelines.cutting.shards import Clips

out = Console(soft_wrap=True)  # a line is never broken inside a name or a URL
MEGABYTE = 1_000_000


def clips(
    out_url: Annotated[str, typer.Option("--out", help="URL of the folder to write to.")],
    run: MaybeRunUrl = None,
    moments: Annotated[
        str | None,
        typer.Option(
            help="Cut these moments instead: a CSV or Parquet file, or a folder of Parquet files, with video_id, "
            "start_seconds, end_seconds and label. Needs --index."
        ),
    ] = None,
    index: Annotated[str | None, typer.Option(help="URL of the index that the listed videos are in.")] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Length of a run's moments. Default: that of the run's clips.")
    ] = None,
    min_score: Annotated[float, typer.Option(help="Leave out moments with a lower score.")] = 0.0,
    per_video: Annotated[
        int, typer.Option(help="Moments of one label in one video of a run, at most.", min=1, max=1000)
    ] = 1,
    per_label: Annotated[
        int | None, typer.Option(help="Moments of one label in all videos of a run, at most: the best.", min=1)
    ] = None,
    slack_seconds: Annotated[
        float, typer.Option(help="Copy a clip if a keyframe is at most this far before its moment; else encode it.")
    ] = 1.0,
    epoch: Epoch = None,
    shard_size_mb: Annotated[int, typer.Option(help="Size of a shard in megabytes.", min=1, max=100_000)] = 256,
    workers: Processes = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the tars that the folder holds.")] = False,
) -> None:
    """Cut short labelled clips out of a corpus: a run's salient moments, or a list.

    They are WebDataset shards, and a corpus again for `adaptfocus index`.
    """
    from adaptfocus.infra.running.clipping import clips_of_list, clips_of_run
    from adaptfocus.infra.running.progress import progress_bar
    from adaptfocus.pipelines.cutting.clips import Cutting

    if (run is None) == (moments is None):
        raise ConfigError("give either a run or --moments; one of them says what to cut")
    if moments and index is None:
        raise ConfigError("--moments needs --index INDEX: the index that the listed videos are in")
    if moments and (seconds is not None or per_video != 1 or per_label is not None or epoch is not None):
        raise ConfigError("--seconds, --per-video, --per-label and --epoch choose moments of a run; leave them out")
    if run and index:
        raise ConfigError("--index is only for --moments; a run has its own index")
    how, size = Cutting(slack_seconds), shard_size_mb * MEGABYTE
    with progress_bar("moments cut") as tell:
        if moments and index:
            done = clips_of_list(
                moments, index, out_url, how, min_score=min_score, shard_size_bytes=size, overwrite=overwrite,
                workers=workers, tell=tell,
            )  # fmt: skip
        else:
            done = clips_of_run(
                run or "", out_url, how, seconds=seconds, min_score=min_score, per_video=per_video,
                per_label=per_label, epoch=None if epoch is None else epoch - 1, shard_size_bytes=size,
                overwrite=overwrite, workers=workers, tell=tell,
            )  # fmt: skip
    _say(done)


def _say(done: Clips) -> None:
    labels = many(len(done.labels), "label")
    out.print(
        f"{many(done.clips, 'clip')} of {labels} ({done.copied} copied, {done.encoded} encoded), "
        f"{done.bytes / MEGABYTE:.1f} MB in {many(len(done.shards), 'shard')} -> {done.out_url}"
    )
    counts_line(out, "without a clip (refused.jsonl)", done.refused)
