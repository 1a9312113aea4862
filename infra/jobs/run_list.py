"""The runs at a URL, at a glance.

A run costs a handful of small requests: settings, heartbeat, the end of the log, a score, the exclusions. Many runs
are read at the same time.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from adaptfocus.infra.running.found import newest_found
from adaptfocus.infra.running.progress import read_heartbeat
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import AdaptFocusError
from adaptfocus.pipelines.store import strict_json
from adaptfocus.trainers.evaluation.saved import names_of, read_scores
from adaptfocus.trainers.runs.holder import SIGN_SECONDS, Holder, read_holder, seems_alive
from adaptfocus.trainers.runs.log import RESTORE, SALIENCY, Commit, Run
from adaptfocus.trainers.runs.snapshots import read_excluded_count

# A run reports its position at most once a second, and only between steps: a slow step does not mean that it died.
FRESH_SECONDS = 120.0
THREADS = 32  # threads mostly wait for the store


@dataclass(frozen=True)
class RunState:
    """One line of the list. Ages compare this machine's clock with that of the machine that wrote."""

    name: str
    url: str
    state: str  # finished, running, stopped (give its command again to resume), never started, unreadable
    position: float = 0.0  # in epochs
    epochs: int | None = None
    epoch: int = 0  # the current or last epoch, counted from 1; 0 before the first commit
    clips_trained: int = 0  # by its commits
    clips_are_estimated: bool = False  # in logs that were started before commits counted clips
    map_max: float | None = None  # of the evaluation that was asked for
    evaluation: str = ""  # its name, its settings, and the number of other evaluations
    last_commit_age_seconds: float | None = None
    workers: int | None = None  # of the last entry of the log
    bad_videos: int = 0  # left out of the newest plan
    classes_found: int | None = None  # clearly above chance after the newest merged epoch
    classes_judged: int | None = None  # classes with enough videos to judge
    classes_not_found: tuple[str, ...] = ()
    problem: str | None = None


def list_runs(url: str, evaluation: str = "test") -> list[RunState]:
    """All runs directly in a folder, or the one run at the URL itself, sorted by name.

    Raises:
        StorageError: the folder cannot be listed. (A run that cannot be read becomes a line of the list.)
    """
    folders = [url] if store.exists(store.join(url, "config.json")) else store.list_folders(url)
    with ThreadPoolExecutor(THREADS) as threads:
        found = threads.map(lambda folder: _looked_at(folder, evaluation), folders)
        return [state for state in found if state]


def epoch_of(row: RunState) -> str:
    """`3 of 10, 50 %`: the epoch that a run is in, counted from 1, and how much of it is committed."""
    if row.epochs is None:
        return "-"
    if not row.epoch:
        return f"0 of {row.epochs}"
    return f"{row.epoch} of {row.epochs}, {100 * (row.position - row.epoch + 1):.0f} %"


def age(seconds: float | None) -> str:
    """`95 -> "95 s ago"`; `None` means never."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def _looked_at(url: str, evaluation: str) -> RunState | None:
    """The state of a folder; None if it is not a run."""
    name = url.rstrip("/").rsplit("/", 1)[-1]
    try:
        if not store.exists(store.join(url, "config.json")):
            return None
        return _state_of(url, name, evaluation)
    except (AdaptFocusError, ValueError, KeyError, TypeError) as error:
        return RunState(name, url, "unreadable", problem=f"{type(error).__name__}: {error}")


def _state_of(url: str, name: str, evaluation: str) -> RunState:
    run = Run(url)
    config = strict_json.read(run.at("config.json"), RESTORE)
    epochs, clips_per_bag = int(config["epochs"]), int(config["plan"]["clips_per_bag"])
    (last,) = run.entries(last=1) or [None]
    if last is None:
        return RunState(name, url, "never started", epochs=epochs)
    commit = last if last.kind == "checkpoint" else run.newest()[1]
    beat, now = read_heartbeat(url), time.time()
    done = store.exists(run.epoch_url(epochs, SALIENCY))
    alive = is_alive(read_holder(url), max(last.seconds, float(beat.get("seconds", 0))), now)
    epoch, cursor, num_bags = _position(commit)
    exact = commit is None or commit.clips is not None
    return RunState(
        name=name,
        url=url,
        state="finished" if done else "running" if alive else "stopped",
        position=epoch + (cursor / num_bags if num_bags else 0),
        epochs=epochs,
        epoch=epoch + 1 if commit else 0,
        clips_trained=(
            commit.clips if commit and commit.clips is not None else (epoch * num_bags + cursor) * clips_per_bag
        ),
        clips_are_estimated=not exact,
        **_scored(url, evaluation),
        last_commit_age_seconds=now - commit.seconds if commit else None,
        workers=last.workers,
        bad_videos=_bad_videos(run, epoch),
        **_found(run, epoch),
    )


def is_alive(holder: Holder | None, seen: float, now: float) -> bool:
    """Whether a process trains the run, by its claim, or by its heartbeat at `seen` if no claim is as new."""
    if holder is None or (holder.ended is not None and holder.ended < seen - SIGN_SECONDS):
        return now - seen < FRESH_SECONDS
    return seems_alive(holder, now)


def _position(commit: Commit | None) -> tuple[int, int, int]:
    return (commit.epoch, commit.cursor, commit.num_bags) if commit else (0, 0, 0)


def _scored(url: str, evaluation: str) -> dict:
    """The score of an evaluation, and which one it is: `test, 20 x 1, epoch 6 (1 more)`; views x crops."""
    names = names_of(url)
    others = len(set(names) - {evaluation})
    more = f" ({others} more)" if others else ""
    if evaluation not in names:
        return {"map_max": None, "evaluation": more and f"-{more}"}
    saved = read_scores(url, evaluation)
    said = [evaluation, *([f"{saved['views']} x {saved.get('crops', 1)}"] if "views" in saved else [])]
    said += [f"epoch {saved['epoch'] + 1}"] if saved.get("epoch") is not None else []
    return {"map_max": saved.get("map_max"), "evaluation": ", ".join(said) + more}


def _found(run: Run, epoch: int) -> dict:
    """What the newest summary says about the classes: that of this epoch once it is merged, else the previous one."""
    told = newest_found(run, epoch)
    if told is None:
        return {}
    return {
        "classes_found": len(told.found), "classes_judged": told.judged, "classes_not_found": tuple(told.not_found),
    }  # fmt: skip


def _bad_videos(run: Run, epoch: int) -> int:
    """The number of videos in the newest exclusions: those of the next epoch exist once this epoch is merged."""
    for number in (epoch + 1, epoch):
        if store.exists(run.epoch_url(number, SALIENCY)):
            return read_excluded_count(run, number)
    return 0
