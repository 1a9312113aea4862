"""From run folders to what the report shows.

Input: URLs of runs. Does: reads logs, summaries, snapshots, plans, scores; cuts a frame at each spike.
Output: ReportData.
"""

from __future__ import annotations

import datetime
import json
from collections import Counter

import numpy as np
import yaml

from infra.report_data import ActionTimeline, Curve, DrawnClip, Dropped, ReportData, RunRow, Thumbnail, VideoSample
from infra.thumbnails import frame_jpeg
from pipelines import storage
from pipelines.clip_plan import Planner
from pipelines.errors import AdaptFocusError, InputError
from pipelines.plan_store import read_plan
from pipelines.records import NEVER_VISITED, PLAN_SCHEMA
from pipelines.saliency_table import SaliencyTable, spikes
from pipelines.shard_index import load_index
from pipelines.tables import read_table
from trainers.checkpoint import Commit, Run
from trainers.config import TrainConfig
from trainers.epochs import SUMMARY, read_excluded, read_saliency
from trainers.evaluate import load_config
from trainers.ledger import audit, last_commits

DIAGNOSTICS = {
    "share_unmasked": ("share of positives unmasked", "fraction"),
    "mean_spike_actionness": ("mean spike-actionness", "probability"),
    "precision_of_positives": ("precision of weighted positives", "fraction"),
    "hit_rate": ("salient times inside a true interval", "fraction"),
    "temperature_over_p": ("temperature over median p", "ratio"),
}


def gather(run_urls: list[str], evaluation: str, samples: int, command: str) -> ReportData:
    """All that a report shows of some runs.

    Raises:
        ConfigError: a URL is no run. InputError: a run has nothing to show yet.
    """
    rows, curves, diagnostics, sampled, dropped, facts = [], [], [], [], [], []
    configs = {}
    for url in run_urls:
        run, config = Run(url), load_config(url)
        entries = run.entries()
        if not last_commits(entries):
            raise InputError(f"{url} has no checkpoint yet; train it first")
        configs[config.name] = config.model_dump(mode="json")
        summaries = _summaries(run, config)
        rows.append(_row(run, config, entries, summaries, evaluation))
        curves.append(_loss_curve(config, entries))
        diagnostics += _diagnostic_curves(config, summaries)
        dropped += _dropped(run, summaries)
        facts += [(f"{config.name}: {name}", value) for name, value in _ledger_facts(run).items()]
        sampled += _samples(run, config, samples)
    return ReportData(
        title=" against ".join(row.regime for row in rows) if len(rows) > 1 else rows[0].run,
        created=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        command=command,
        runs=rows,
        curves=curves,
        diagnostics=diagnostics,
        samples=sampled,
        dropped=dropped,
        config_text=yaml.safe_dump(configs, sort_keys=False),
        ledger=facts,
    )


def read_scores(run_url: str, evaluation: str) -> dict:
    """The saved scores of an evaluation; empty if there is none."""
    url = storage.join(run_url, "evaluations", evaluation, "scores.json")
    return json.loads(storage.read_bytes(url)) if storage.exists(url) else {}


def _row(run: Run, config: TrainConfig, entries: list[Commit], summaries: list[dict], evaluation: str) -> RunRow:
    scores = read_scores(run.url, evaluation)
    commits = [e for e in entries if e.kind == "checkpoint"]
    claims = [e for e in entries if e.kind == "start"]
    return RunRow(
        run=config.name,
        regime=config.focus.regime,
        epochs=len(summaries),
        clips_trained=sum(s["clips_trained"] for s in summaries),
        map_max=scores.get("map_max"),
        map_mean=scores.get("map_mean"),
        per_time_map=scores.get("per_time_map"),
        hit_rate=summaries[-1]["hit_rate"] if summaries else None,
        clips_per_video=config.plan.clips_per_bag,
        seconds=sum(e.metrics["seconds"] for e in commits),
        workers=claims[-1].workers,
        notes=f"resumed {len(claims) - 1} time(s), on {', '.join(str(c.workers) for c in claims)} workers"
        if len(claims) > 1
        else "",
        seed=config.seed,
    )


def _loss_curve(config: TrainConfig, entries: list[Commit]) -> Curve:
    commits = [e for e in entries if e.kind == "checkpoint"]
    at = [e.epoch + e.cursor / e.num_bags for e in commits]
    return Curve("training loss", "", at, [e.metrics["loss"] for e in commits], config.name)


def _diagnostic_curves(config: TrainConfig, summaries: list[dict]) -> list[Curve]:
    curves = []
    for key, (name, unit) in DIAGNOSTICS.items():
        points = [(s["epoch"] + 1, s[key]) for s in summaries if s.get(key) is not None]
        if points:
            curves.append(Curve(name, unit, [x for x, _ in points], [y for _, y in points], config.name))
    return curves


def _summaries(run: Run, config: TrainConfig) -> list[dict]:
    urls = [run.epoch_url(epoch, SUMMARY) for epoch in range(config.epochs)]
    return [json.loads(storage.read_bytes(url)) for url in urls if storage.exists(url)]


def _dropped(run: Run, summaries: list[dict]) -> list[Dropped]:
    if not summaries:
        return []
    rows = read_excluded(run, summaries[-1]["epoch"] + 1).to_pylist()
    examples = {row["kind"]: f"{row['shard_url']} {row['member_name']}: {row['message']}" for row in rows}
    return [Dropped(kind, count, examples[kind]) for kind, count in Counter(row["kind"] for row in rows).items()]


def _ledger_facts(run: Run) -> dict[str, str | int]:
    found = audit(run)
    return {
        "clips planned": found.clips_planned,
        "clips trained exactly once": found.clips_trained - found.clips_twice,
        "clips lost": found.clips_lost,
        "clips trained twice": found.clips_twice,
        "clips that would not decode": found.clips_undecodable,
        "taken up by": " then ".join(f"{w} workers" for w in found.workers),
    }


def _samples(run: Run, config: TrainConfig, count: int) -> list[VideoSample]:
    """The first videos (by row) with the most labels: they show most."""
    index = load_index(config.index)
    planner = Planner.of(index.table, index.classes)
    epoch = _newest_snapshot(run, config)
    saliency = read_saliency(run, epoch)
    rows = sorted(range(len(planner.label_ids)), key=lambda row: (-len(planner.label_ids[row]), row))[:count]
    clips = _drawn(run, config, set(rows), planner, epoch)
    return [_sample(config, planner, saliency, epoch, row, clips[row]) for row in rows]


def _sample(
    config: TrainConfig, planner: Planner, saliency: SaliencyTable, epoch: int, row: int, clips: list[DrawnClip]
) -> VideoSample:
    video = planner.table.slice(row, 1).to_pylist()[0]
    pairs = saliency.pairs_of(row)
    a, salient = spikes(saliency.bins, epoch, config.saliency.staleness)
    actions, thumbnails = [], []
    for number, label_id in zip(range(pairs.start, pairs.stop), planner.label_ids[row], strict=True):
        name = planner.classes[label_id]
        visited = saliency.bins.epoch[number].numpy() != NEVER_VISITED
        seconds = float(salient[number]) * video["duration_seconds"] if visited.any() else None
        spans = video["intervals"]
        own = None if spans is None else [(s["start_seconds"], s["end_seconds"]) for s in spans if s["label"] == name]
        actions.append(
            ActionTimeline(
                label=name,
                score_bins=_where(saliency.bins.score[number].numpy(), visited),
                tau_bins=_where(saliency.bins.tau[number].numpy(), visited),
                spike_score=float(a[number]) if visited.any() else None,
                spike_tau=float(salient[number]) if visited.any() else None,
                salient_seconds=seconds,
                intervals_seconds=own,
                hit=None if own is None or seconds is None else any(s <= seconds <= e for s, e in own),
            )
        )
        if seconds is not None:
            try:
                thumbnails.append(Thumbnail(name, seconds, frame_jpeg(video, seconds)))
            except AdaptFocusError:
                continue  # a picture less; the timeline says the rest
    labels = [planner.classes[k] for k in planner.label_ids[row]]
    return VideoSample(config.name, video["video_id"], video["duration_seconds"], labels, actions, clips, thumbnails)


def _drawn(run: Run, config: TrainConfig, rows: set[int], planner: Planner, epochs: int) -> dict[int, list[DrawnClip]]:
    """Every clip that was drawn of some videos, epoch by epoch."""
    half = (config.clip.frames - 1) / 2
    found: dict[int, list[DrawnClip]] = {row: [] for row in rows}
    for epoch in range(epochs):
        plan = read_plan(run.epoch_url(epoch, "plan"))
        for url, start, stop in plan.slices(0) if plan else ():
            for bag in read_table(url, PLAN_SCHEMA, start, stop).select(["video_row", "clips"]).to_pylist():
                if bag["video_row"] not in rows:
                    continue
                rate = planner.table.column("frame_rate_hz")[bag["video_row"]].as_py()
                width = half * config.clip.stride_seconds(rate)
                for clip in bag["clips"]:
                    label = clip["focus_label_id"]
                    reason, name = ("explore", None) if label < 0 else ("focus", planner.classes[label])
                    found[bag["video_row"]].append(DrawnClip(clip["center_seconds"], width, reason, name, epoch))
    return found


def _newest_snapshot(run: Run, config: TrainConfig) -> int:
    epochs = [e for e in range(config.epochs, -1, -1) if storage.exists(run.epoch_url(e, "saliency.parquet"))]
    if not epochs:
        raise InputError(f"{run.url} has no saliency snapshot yet; train it first")
    return epochs[0]


def _where(values: np.ndarray, visited: np.ndarray) -> list[float | None]:
    return [float(v) if ok else None for v, ok in zip(values, visited, strict=True)]
