"""The order, groups and examples of the commands, as `adaptfocus --help` and `adaptfocus COMMAND --help` show them."""

from __future__ import annotations

from dataclasses import dataclass

import typer


@dataclass(frozen=True)
class Page:
    """What the help shows around a command's options."""

    panel: str
    docs: str  # the page that says more
    examples: tuple[str, ...]


START, DATA, TRAIN, JUDGE, USE = "Look around", "Data", "Training", "Results", "What a trained model gives"
RUN = "runs/first"
SETTINGS = "small name=first runs=runs index=index/train"

PAGES = {
    "demo": Page(START, "docs/start.md", ("demo", "demo --folder demo-out --seed 1")),
    "world": Page(START, "docs/method.md", ("world --kind a --out world", "world --kind b --out s3://bucket/world-b")),
    "backbones": Page(START, "docs/backbones.md", ("backbones",)),
    "pack": Page(
        DATA,
        "docs/datasets.md",
        (
            "pack --manifest videos.csv --split train --out shards/train",
            "pack --format charades --annotations Charades --videos Charades_v1_480 --out s3://bucket/charades",
            "pack --manifest s3://bucket/videos.csv --out s3://bucket/shards --ray --address HEAD:6379",
        ),
    ),
    "index": Page(
        DATA,
        "docs/datasets.md",
        (
            "index shards/train --out index/train",
            "index 's3://bucket/shards/train-{000000..000009}.tar' --out s3://bucket/index/train",
            "index index/train --show-refused",
            "index index/train --compact --keep-snapshots 2 --dry-run",
        ),
    ),
    "plan": Page(TRAIN, "docs/configuration.md", (f"plan {SETTINGS}", f"plan {SETTINGS} --sample 8")),
    "pretrain": Page(
        TRAIN,
        "docs/training.md",
        (
            "pretrain index/train --out start.pt",
            "pretrain index/trimmed --out start.pt --task labels --epochs 60",
        ),
    ),
    "train": Page(
        TRAIN,
        "docs/training.md",
        (
            f"train {SETTINGS}",
            f"train {SETTINGS.replace('first', 'baseline')} focus.regime=noisy",
            "train small name=first runs=s3://bucket/runs index=s3://bucket/index/train placement.workers=2",
        ),
    ),
    "submit": Page(
        TRAIN,
        "docs/clusters.md",
        ("submit small name=first runs=s3://bucket/runs index=s3://bucket/index/train --address http://HEAD:8265",),
    ),
    "runs": Page(
        TRAIN,
        "docs/operations.md",
        ("runs runs", "runs s3://bucket/runs --compare --sort per_time_map", "runs runs --json"),
    ),
    "watch": Page(
        TRAIN, "docs/how-to/watch.md", (f"watch {RUN}", "watch s3://bucket/runs/first s3://bucket/runs/second")
    ),
    "gc": Page(TRAIN, "docs/operations.md", (f"gc {RUN} --dry-run", "gc s3://bucket/runs/first --older-than 72")),
    "quarantine": Page(
        TRAIN,
        "docs/operations.md",
        (f"quarantine list {RUN} --index-refused", f"quarantine retry {RUN}"),
    ),
    "evaluate": Page(
        JUDGE,
        "docs/method.md",
        (f"evaluate {RUN} --index index/test", f"evaluate {RUN} --index index/test --views 10 --crops 3 --name thirty"),
    ),
    "report": Page(JUDGE, "docs/operations.md", (f"report {RUN} runs/baseline --out report.html",)),
    "show": Page(
        JUDGE,
        "docs/operations.md",
        (f"show {RUN} 17592186044416", f"show {RUN} 17592186044416 --out clip.png"),
    ),
    "export-model": Page(
        USE,
        "docs/backbones.md",
        (f"export-model {RUN} --out model.pt", f"export-model {RUN} --format onnx --out model.onnx"),
    ),
    "localise": Page(
        USE,
        "docs/how-to/localise.md",
        (
            f"localise {RUN} holiday.mp4 --out found --calibrate index/validation",
            f"localise {RUN} index/test --out s3://bucket/found --stride-seconds 0.5 --top 5",
            f"localise {RUN} clips/ https://host/video.mp4 --out found --calibrate found-before/thresholds.json",
        ),
    ),
    "clips": Page(
        USE,
        "docs/how-to/clips.md",
        (
            f"clips {RUN} --out clips --min-score 0.5 --per-label 1000",
            "clips --moments found/intervals --index index/test --out s3://bucket/clips --slack-seconds 2",
        ),
    ),
    "extract": Page(
        USE,
        "docs/features.md",
        (
            f"extract {RUN} --index index/test --out features/test --split test --stride-seconds 0.5",
            "extract --backbone efficientnet_lite0 --weights packaged --index index/test --out features/test "
            "--set clip.frames=1",
        ),
    ),
    "export": Page(USE, "docs/features.md", ("export features/test --as opentad --out opentad",)),
    "verify": Page(USE, "docs/features.md", ("verify opentad --as opentad",)),
    "probe": Page(
        USE,
        "docs/weak_feat.md",
        (
            "probe segmentation --features features/train --features features/test --annotations world/annotations "
            "--out probe",
        ),
    ),
}
FIRST_STEPS = (
    "demo",
    "pack --manifest videos.csv --split train --out shards/train",
    "index shards/train --out index/train",
    f"train {SETTINGS}",
)


def arrange(app: typer.Typer) -> None:
    """Sort the commands of `app` as `PAGES` does, set their groups, and add examples below the options."""
    order = list(PAGES)
    for command in app.registered_commands:
        page = PAGES[_name(command)]
        command.rich_help_panel, command.epilog = page.panel, _below(page.examples, page.docs)
    for group in app.registered_groups:
        page = PAGES[str(group.name)]
        group.rich_help_panel, group.epilog = page.panel, _below(page.examples, page.docs)
    app.registered_commands.sort(key=lambda command: order.index(_name(command)))
    app.info.epilog = _below(FIRST_STEPS, "README.md and docs/")


def _name(command: typer.models.CommandInfo) -> str:
    return command.name or command.callback.__name__.replace("_", "-")  # type: ignore[union-attr]


def _below(examples: tuple[str, ...], docs: str) -> str:
    """Examples as an epilog: typer joins lines without a blank line between them, and takes brackets for markup."""
    lines = [f"[dim]$[/] adaptfocus {example}".replace("[ID]", r"\[ID]") for example in examples]
    return "\n\n".join(["[bold]Examples[/]", *lines, f"More: {docs} of the source"])
