"""Gather what a report shows from run folders: logs, summaries, scores, and what was left out at each stage.

The sample videos come from infra/report/samples.py.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import yaml

from adaptfocus.infra.report.data import Curve, Evaluated, ReportData, RunRow
from adaptfocus.infra.report.dropped import count_dropped
from adaptfocus.infra.report.sample_choice import Videos, open_videos, seen_by
from adaptfocus.infra.report.samples import fingerprint_of, samples_of
from adaptfocus.infra.report.verdict import choose_curves, choose_full_runs
from adaptfocus.infra.running.found import findings
from adaptfocus.infra.running.run_warnings import warnings_of
from adaptfocus.infra.running.time_spent import time_spent
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.over import Over, in_this_process
from adaptfocus.pipelines.settings import differences, value_at
from adaptfocus.trainers.evaluation.saved import read_resamples, read_scores
from adaptfocus.trainers.runs.growth import all_decided, describe_growth
from adaptfocus.trainers.runs.ledger import Audit, audit, last_commits
from adaptfocus.trainers.runs.log import SUMMARY, Commit, Run
from adaptfocus.trainers.runs.measured import READING, RETRIES
from adaptfocus.trainers.runs.open import load_config
from adaptfocus.trainers.settings.run import TrainConfig

# summary key -> (name of the chart, unit). Fractions are shown in percent, like every score on the page.
DIAGNOSTICS = {
    "share_unmasked": ("Positives left unmasked", "%"),
    "mean_spike_actionness": ("Mean spike-actionness", "probability"),
    "precision_of_positives": ("Precision of weighted positives", "%"),
    "precision_of_negatives": ("Precision of weak negatives", "%"),
    "hit_rate": ("Salient times inside a true interval", "%"),
    "temperature_over_p": ("Temperature over median p", "ratio"),
}
_OF_A_REPEAT = ("name", "runs", "seed", "weights")  # settings in which repeats of a run may differ
_COMPARED_WITH_CHANCE = ("precision_of_positives", "hit_rate")


@dataclass(frozen=True)
class GatheredRun:
    """One run, read once."""

    run: Run
    name: str  # unique on the page
    config: TrainConfig
    entries: list[Commit]
    summaries: list[dict]
    found: Audit
    scores: dict
    videos: Videos

    @property
    def checkpoints(self) -> list[Commit]:
        return [e for e in self.entries if e.kind == "checkpoint"]


_TIMES = ("seconds", "input_wait_seconds")


def gather(
    run_urls: list[str], evaluation: str, samples: int, command: str, video_ids: Sequence[str] = (),
    over: Over = in_this_process,
) -> ReportData:  # fmt: skip
    """All that a report shows about some runs.

    Args:
        evaluation: name of the evaluation whose scores are shown; a run without it shows no scores.
        samples: number of videos to show, the same ones for all runs on one index.
        video_ids: videos to show instead.
        over: what counts the clips of long runs.

    Raises:
        ConfigError: a URL is not a run. InputError: a run has nothing to show yet or is given twice, or no index has a
            video with a given id.
    """
    opened: dict[Hashable, Videos] = {}  # runs that are compared share an index, which is read once
    runs = [_read(url, name, evaluation, opened, over) for url, name in zip(run_urls, _names(run_urls), strict=True)]
    settings = _differing_settings(runs)
    rows = [_row(*each, evaluation) for each in zip(runs, _regimes(runs), settings, strict=True)]
    top = [r for r in runs if r.name in choose_full_runs(rows)]
    drawn = [r for r in runs if r.name in choose_curves(rows)]
    shown, unseen = samples_of([(r.run, r.name, r.config, r.videos) for r in top], samples, video_ids)
    return ReportData(
        title=_title([r.name for r in runs]),
        created=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        command=command,
        runs=rows,
        curves=[_loss_curve(r) for r in drawn],
        diagnostics=_diagnostic_curves(drawn),
        samples=shown,
        dropped=[*count_dropped([(r.run, r.name, r.config, r.scores) for r in runs], evaluation), *unseen],
        config_text=yaml.safe_dump({r.name: r.config.model_dump(mode="json") for r in runs}, sort_keys=False),
        ledger=[*_ledger([r.found for r in runs]), *_growth(runs), *_mixed(runs), *_reading(runs)],
        evaluation=evaluation,
    )


def _read(url: str, name: str, evaluation: str, opened: dict[Hashable, Videos], over: Over) -> GatheredRun:
    run, config = Run(url), load_config(url)
    entries = run.entries()
    if not last_commits(entries):
        raise InputError(f"{url} has no checkpoint yet; train it first")
    index = seen_by(config, fingerprint_of(run))
    if index not in opened:
        opened[index] = open_videos(config, fingerprint_of(run))
    urls = [run.epoch_url(epoch, SUMMARY) for epoch in range(config.epochs)]
    summaries = [json.loads(store.read_bytes(url)) for url in urls if store.exists(url)]
    scores = read_scores(url, evaluation)
    return GatheredRun(run, name, config, entries, summaries, audit(run, over), scores, opened[index])


def _names(run_urls: Sequence[str]) -> list[str]:
    """The last part of each URL, or as many parts as are needed to tell the runs apart."""
    parts = [url.rstrip("/").split("/") for url in run_urls]
    for depth in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    twice = next(url for url in run_urls if [u.rstrip("/") for u in run_urls].count(url.rstrip("/")) > 1)
    raise InputError(f"{twice} is given twice; give each run once")


def _regimes(runs: Sequence[GatheredRun]) -> list[str]:
    """The regime of each run, with the settings in which runs of one regime differ: such runs are not repeats."""
    trained = [{k: v for k, v in _compared(r.config).items() if k not in _OF_A_REPEAT} for r in runs]
    regimes = []
    for run, own in zip(runs, trained, strict=True):
        regime = run.config.focus.regime
        others = [t for r, t in zip(runs, trained, strict=True) if r.config.focus.regime == regime]
        changed = {key: new for other in others for key, (_, new) in differences(other, own).items()}
        said = ", ".join(f"{key}={value}" for key, value in sorted(changed.items()))
        regimes.append(f"{regime.capitalize()} ({said})" if said else regime.capitalize())
    return regimes


def _differing_settings(runs: Sequence[GatheredRun]) -> list[dict[str, str]]:
    """For each run, its values of the settings that differ between runs of the page."""
    dumped = [_compared(r.config) for r in runs]
    keys = {key for other in dumped[1:] for key in differences(dumped[0], other)} - {"name", "runs"}
    return [{key: str(value_at(own, key, "")) for key in sorted(keys)} for own in dumped]


def _compared(config: TrainConfig) -> dict:
    """The settings that make two runs different ones. Runs on different indexes are."""
    return config.what_is_trained() | {"mixture": config.mixture.model_dump(mode="json")}


def _title(names: Sequence[str]) -> str:
    return " against ".join(reversed(names)) if len(names) <= 3 else f"{len(names)} runs compared"


def _row(r: GatheredRun, regime: str, settings: dict[str, str], evaluation: str) -> RunRow:
    return RunRow(
        run=r.name,
        regime=regime,
        epochs=r.found.epochs,
        epochs_planned=r.config.epochs,
        clips_trained=r.found.clips_trained,
        map_max=r.scores.get("map_max"),
        map_mean=r.scores.get("map_mean"),
        per_time_map=r.scores.get("per_time_map"),
        hit_rate=r.summaries[-1]["hit_rate"] if r.summaries else None,
        hit_chance=r.videos.hit_chance if r.summaries else None,
        clips_per_video=None if r.config.plan.bags_per_epoch else r.config.plan.clips_per_bag,
        bags_per_epoch=r.config.plan.bags_per_epoch,
        seconds=sum(e.metrics["seconds"] for e in r.checkpoints),
        workers=r.found.workers[-1],
        notes=_resumed(r.found),
        seed=r.config.seed,
        url=r.run.url,
        settings=settings,
        evaluated=_evaluated(r, evaluation),
        spent=time_spent(r.checkpoints, r.config),
        found=findings(r.summaries[-1], r.config) if r.summaries else None,
        warnings=warnings_of(r.summaries, r.config),
    )


def _evaluated(r: GatheredRun, evaluation: str) -> Evaluated | None:
    """What an evaluation recorded; None if it does not exist. Old evaluations lack some of the fields."""
    saved = r.scores
    if not saved:
        return None
    return Evaluated(
        evaluation=evaluation,
        index=saved.get("index"),
        fingerprint=saved.get("index_fingerprint"),
        videos=saved.get("videos"),
        undecodable=saved.get("undecodable"),
        views=saved.get("views"),
        crops=saved.get("crops"),
        epoch=saved["epoch"] + 1 if saved.get("epoch") is not None else None,
        class_ap=saved.get("per_class_ap") or {},
        class_positives=saved.get("class_positives") or {},
        intervals=saved.get("intervals") or {},
        resamples=read_resamples(r.run, evaluation),
    )


def _resumed(found: Audit) -> str:
    if found.claims < 2:
        return ""
    times = {1: "once", 2: "twice"}.get(found.claims - 1, f"{found.claims - 1} times")
    return f"resumed {times}" + (f" ({_workers(found)})" if len(set(found.workers)) > 1 else "")


def _workers(found: Audit) -> str:
    return ", then ".join([*map(str, found.workers[:1]), *(f"{n} after resume" for n in found.workers[1:])])


def _loss_curve(r: GatheredRun) -> Curve:
    at = [e.epoch + e.cursor / e.num_bags for e in r.checkpoints]
    return Curve("Training loss", "weighted BCE", at, [e.metrics["loss"] for e in r.checkpoints], r.name)


def _diagnostic_curves(runs: Sequence[GatheredRun]) -> list[Curve]:
    curves = []
    for key, (name, unit) in DIAGNOSTICS.items():
        scale = 100 if unit == "%" else 1
        for r in runs:
            points = [(s["epoch"] + 1, scale * s[key]) for s in r.summaries if s.get(key) is not None]
            if points:
                curves.append(Curve(name, unit, [x for x, _ in points], [y for _, y in points], r.name))
        if key in _COMPARED_WITH_CHANCE:
            curves += [Curve(name, unit, *line) for line in _chance_lines(runs, scale)]
    return curves


def _chance_lines(runs: Sequence[GatheredRun], scale: int) -> list[tuple[list[float], list[float], str]]:
    """The score of random moments, from the first epoch to the last: one line for each index."""
    epochs = [s["epoch"] + 1 for r in runs for s in r.summaries]
    known = {r.config.index_urls: r.videos.hit_chance for r in runs if r.videos.hit_chance is not None}
    if len(set(epochs)) < 2:
        return []
    names = {url: "random moments" if len(known) == 1 else f"random moments of {url}" for url in known}
    return [([min(epochs), max(epochs)], [scale * chance] * 2, names[url]) for url, chance in known.items()]


def _ledger(found: Sequence[Audit]) -> list[tuple[str, list[str | int]]]:
    """Each fact of the ledger, and its value for each run in order."""
    return [
        ("Clips planned", [f.clips_planned for f in found]),
        ("Clips trained exactly once", [f.clips_trained - f.clips_twice for f in found]),
        ("Clips lost", [f.clips_lost for f in found]),
        ("Clips trained twice", [f.clips_twice for f in found]),
        ("Clips that did not decode", [f.clips_undecodable for f in found]),
        ("Workers", [_workers(f) for f in found]),
    ]


def _growth(runs: Sequence[GatheredRun]) -> list[tuple[str, list[str]]]:
    """When the index of a run that follows it grew; no row if that never happened."""
    grown = [all_decided(r.run, r.config.epochs) for r in runs]
    said = ["; ".join(map(describe_growth, each)) or "no" for each in grown]
    return [("The index grew", said)] if any(grown) else []


def _mixed(runs: Sequence[GatheredRun]) -> list[tuple[str, list[str]]]:
    """The bags that runs on several indexes have had of each; no row if there is none."""
    said = []
    for r in runs:
        counts = [each["bags_of_index"] for each in r.summaries if "bags_of_index" in each]
        bags = [sum(each) for each in zip(*counts, strict=True)]
        named = [f"{n} of {url}" for n, url in zip(bags, r.config.index_urls, strict=False)]
        said.append("; ".join(named) or "one index")
    return [("Bags of each index, in merged epochs", said)] if any(r.config.mixture.more for r in runs) else []


def _reading(runs: Sequence[GatheredRun]) -> list[tuple[str, list[str]]]:
    """The cost of bringing a clip to the model, for each run."""
    facts = {
        "Bytes read a clip": lambda m, clips: f"{m['read_bytes'] / clips / 1000:.1f} kB",
        "Requests a clip": lambda m, clips: f"{m['read_requests'] / clips:.2f}",
        "Retries a clip": retries_of,
        "Decoding a clip": lambda m, clips: f"{1000 * m['decode_seconds'] / clips:.1f} ms",
        "Decoder waits for the store, a clip": lambda m, clips: f"{1000 * m['wait_seconds'] / clips:.1f} ms",
        "Training waits for clips": lambda m, clips: (
            f"{100 * m['input_wait_seconds'] / m['seconds']:.0f} % of the time"
        ),
    }
    totals = [
        {name: sum(e.metrics.get(name, 0) for e in r.checkpoints) for name in (*READING, *RETRIES, *_TIMES, "clips")}
        for r in runs
    ]
    return [(name, [show(t, max(t["clips"], 1)) for t in totals]) for name, show in facts.items()]


def retries_of(total: Mapping[str, float], clips: float) -> str:
    """How often a request was sent again for a clip, and the most common reasons."""
    reasons = sorted(
        ((total[name], name.removeprefix("read_retries_")) for name in RETRIES if total[name]), reverse=True
    )
    said = ", ".join(f"{reason.replace('_', ' ')} {n / clips:.3f}" for n, reason in reasons[:3])
    return f"{total['read_retries'] / clips:.3f}" + (f" ({said})" if said else "")
