"""What `adaptfocus watch` shows of runs: lines of text, as many details as a screen holds."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from rich.console import Console, Group
from rich.text import Text

from adaptfocus.infra.jobs.faults import describe
from adaptfocus.infra.jobs.run_list import age
from adaptfocus.infra.jobs.watching import Seen
from adaptfocus.infra.running.found import listed
from adaptfocus.infra.running.progress import where
from adaptfocus.infra.running.wording import many

ALL, SOME, FEW = 2, 1, 0  # reasons and changes of warnings; only the first change; only what they say
COLOURS = {"running": "green", "finished": "bold green", "stopped": "yellow", "silent": "bold red"}
_JOINED = "\ue000"  # a space at which no line is broken; rich breaks at all others
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # names of a file must not steer the terminal


class Line(NamedTuple):
    """One line of text, not wrapped yet, with a style of rich."""

    text: str
    style: str = ""


def lines_of(seen: Seen, detail: int = ALL) -> list[Line]:
    """A run in words: where it stands, what its newest summary says, and its warnings."""
    shown = [Line(f"{seen.name}: {_state(seen)}", COLOURS.get(seen.state, "bold"))]
    shown += [Line(f"  {text}") for text in (_position(seen), _commits(seen)) if text]
    shown += [Line(f"  {text}", "bold red") for text in seen.quiet]
    told = [_bottleneck(seen), _faults(seen), _summary(seen), _classes(seen), _newest_visits(seen)]
    shown += [Line(f"  {text}") for text in told if text]
    shown += [line for warning in seen.warnings for line in _warning(dataclasses.asdict(warning), detail)]
    if seen.problem:
        shown.append(Line(f"  the last look failed, and this is from the look before: {seen.problem}", "bold red"))
    return [line._replace(text=_CONTROL.sub("\ufffd", line.text)) for line in shown]


def json_of(seen: Seen) -> dict[str, Any]:
    """The object that `--json` prints: all of `Seen`, with ages in seconds instead of times."""
    now, values = time.time(), dataclasses.asdict(seen)
    for name in ("heard", "committed"):
        at = values.pop(f"{name}_at")
        values[f"{name}_age_seconds"] = None if at is None else now - at
    if seen.newest_visits:
        values["newest_visits"] = dict(zip(("share", "by_chance", "z"), seen.newest_visits, strict=True))
    return values


def screen_of(all_seen: Sequence[Seen], out: Console, below: str) -> Group:
    """All runs with as many details as fit on the screen, and a line below."""
    for detail in (ALL, SOME, FEW):
        lines = [line for seen in all_seen for line in (*lines_of(seen, detail), Line(""))]
        shown = Group(*(text for line in [*lines, Line(below, "dim")] for text in wrapped(line, out)))
        if len(out.render_lines(shown, pad=False)) < out.height:
            break
    return shown


def wrapped(line: Line, out: Console) -> list[Text]:
    """A line in as many as the screen needs. Later ones stand further in, so that it is seen where a fact begins."""
    text = line.text.lstrip().replace(" %", f"{_JOINED}%")  # no number without its unit
    indent = min(len(line.text) - len(text), max(out.width // 4, 0))
    parts = Text(text, overflow="fold").wrap(out, max(out.width - indent - 4, 8))
    inner = [
        " " * (indent + (4 if n else 0)) + part.plain.rstrip().replace(_JOINED, " ") for n, part in enumerate(parts)
    ]
    return [Text(each, line.style, overflow="fold") for each in inner] or [Text("")]


def _state(seen: Seen) -> str:
    if seen.state == "silent":
        at = f"{datetime.fromtimestamp(seen.heard_at or 0, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
        return f"not heard from since {at} ({_ago(seen.heard_at)}); give its command again to resume"
    if seen.state == "stopped":
        return f"stopped {_ago(seen.heard_at)}; give its command again to resume"
    return "has not begun" if seen.state == "never started" else seen.state


def _position(seen: Seen) -> str:
    """`where` of the heartbeat, and how much of the whole run that is."""
    if not seen.epoch:
        return f"epoch 0 of {seen.epochs}"
    beat = {key: value for key, value in dataclasses.asdict(seen).items() if value is not None}
    said = where(beat | {"epoch": seen.epoch - 1, "cursor": seen.bag, "classes_found": None})
    if seen.bags_done is None or not seen.bags_in_all:
        return said
    return f"{said}; {100 * seen.bags_done / seen.bags_in_all:.0f} % of the run"


def _commits(seen: Seen) -> str:
    if seen.committed_at is None:
        return ""
    clips = "" if seen.clips_trained is None else f", {seen.clips_trained:,} clips trained"
    workers = f", on {many(seen.workers, 'worker')}" if seen.workers else ""
    return f"last commit {_ago(seen.committed_at)}{clips}{workers}"


def _bottleneck(seen: Seen) -> str:
    """The verdict on speed. One commit says too little: the first one has what a start costs."""
    if seen.bottleneck is None or seen.bottleneck_commits < 2:
        return ""
    return f"verdict over the last {many(seen.bottleneck_commits, 'commit')}: {seen.bottleneck.says}"


def _faults(seen: Seen) -> str:
    return f"faults: {describe(seen.faults, seen.url, seen.index_url)}" if seen.state != "never started" else ""


def _summary(seen: Seen) -> str:
    if seen.summary_epoch is None:
        return ""
    said = [
        _say(seen.share_unmasked, "positives unmasked {:.0%}"),
        _say(seen.mean_spike_actionness, "mean spike {:.2f}"),
        _say(seen.spike_contrast, "contrast of spikes {:.2f}"),
        _say(seen.hit_rate, "salient times right {:.0%}"),
    ]
    known = [each.replace("%", " %") for each in said if each]
    return f"after epoch {seen.summary_epoch}: {', '.join(known)}" if known else ""


def _classes(seen: Seen) -> str:
    if seen.classes_judged is None:
        return ""
    said = [f"{seen.classes_found} of {seen.classes_judged} classes found"]
    said += [f"not found: {listed(seen.classes_not_found)}"] if seen.classes_not_found else []
    said += [f"too few videos to tell: {listed(seen.classes_too_few_videos)}"] if seen.classes_too_few_videos else []
    return "; ".join(said) + (f". {seen.too_early}" if seen.too_early else "")


def _newest_visits(seen: Seen) -> str:
    if seen.newest_visits is None:
        return ""
    share, chance = (f"{100 * value:.0f} %" for value in seen.newest_visits[:2])
    return f"of the salient times of these, {share} were last visited in epoch {seen.summary_epoch}; of all, {chance}"


def _warning(warning: dict[str, Any], detail: int) -> Iterator[Line]:
    yield Line(f"  warning: {warning['says']}", "bold yellow")
    if detail == ALL:
        yield from (Line(f"    {reason}") for reason in warning["reasons"])
    changes = warning["changes"][: {ALL: None, SOME: 1, FEW: 0}[detail]]
    if changes:
        yield Line(f"    what to change: {changes[0]}")
    yield from (Line(f"      {change}") for change in changes[1:])


def _say(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _ago(at: float | None) -> str:
    return age(None if at is None else time.time() - at)
