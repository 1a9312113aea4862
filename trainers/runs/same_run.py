"""Whether settings match those of the run that already exists in a folder.

Only settings that decide what is trained must match. A place is identified by its content and not by its URL: an index
by its fingerprint, a start by its digest. So a bucket may be moved. The user is told about each difference.
"""

from __future__ import annotations

import json

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.index.load import IndexFacts
from adaptfocus.pipelines.settings import differences, make
from adaptfocus.pipelines.store import strict_json
from adaptfocus.pipelines.store.strict_json import json_text
from adaptfocus.pipelines.store.walk import files_below
from adaptfocus.trainers.inputs.run_index import describe_sources
from adaptfocus.trainers.runs import on_features, starts
from adaptfocus.trainers.runs.growth import FOLLOWS
from adaptfocus.trainers.runs.log import RESTORE, Commit, Run
from adaptfocus.trainers.settings.mixture import MixtureConfig
from adaptfocus.trainers.settings.run import TrainConfig

PLACES = ("index", "mixture", "features", "weights", "start_from")  # identified by their content


def same_run(run: Run, config: TrainConfig, index: IndexFacts, commit: Commit | None) -> list[str]:
    """Save the settings of a run that has trained nothing yet; otherwise check them -> lines for the user.

    A run that has trained must keep all settings that decide what is trained. Whether it follows its index may change.

    Args:
        index: the snapshot that the run was begun on, if it has trained.

    Raises:
        ConfigError: such a setting, or the index, has changed.
    """
    url, facts_url = run.at("config.json"), run.at("index.json")
    # The folder may have been moved as a whole.
    saved = make(TrainConfig, strict_json.read(url, RESTORE) | {"runs": config.runs}) if store.exists(url) else None
    if saved is None or commit is None:
        said = _forget_plans(run, saved, config, index) if saved else []
        facts = {"fingerprint": index.fingerprint, "classes": index.classes, "start_sha256": starts.digest(config)}
        facts |= {"features": on_features.made_by(config)}
        facts |= {FOLLOWS: True} if config.follow_index else {}
        _save(run, config, {"index": describe_sources(config), **facts})
        return said
    facts = strict_json.read(facts_url, RESTORE)
    _check_index(run, config, index, facts)
    _check_settings(run, saved, config, facts)
    moved = {key: (getattr(saved, key), getattr(config, key)) for key in PLACES}
    moved = {key: (old, new) for key, (old, new) in moved.items() if old != new}
    if moved or saved.follow_index != config.follow_index:
        now = {key: new for key, (_, new) in moved.items()} | {"follow_index": config.follow_index}
        # Once it has followed, there may be decisions.
        facts |= {FOLLOWS: True} if config.follow_index else {}
        _save(run, saved.model_copy(update=now), facts | {"index": describe_sources(config)})
    return [f"{key} has moved from {_said(old)} to {_said(new)}; it is the same" for key, (old, new) in moved.items()]


def _said(place: str | MixtureConfig | None) -> str:
    return ", ".join(each.index for each in place.more) if isinstance(place, MixtureConfig) else str(place)


def _check_index(run: Run, config: TrainConfig, index: IndexFacts, facts: dict) -> None:
    if facts["fingerprint"] != index.fingerprint:
        raise ConfigError(
            f"the index {describe_sources(config)} is not the one that {run.url} was begun on ({facts['index']}), was "
            "made again since, or has lost that snapshot (`index --keep-snapshots`); the run's plans name rows of that "
            "one. Choose another name for a run on this index"
        )


def _check_settings(run: Run, saved: TrainConfig, config: TrainConfig, facts: dict) -> None:
    changed = differences(saved.what_is_trained(), config.what_is_trained())
    changed.pop("index", None)
    made_by = on_features.made_by(config)
    if made_by and facts.get("features"):  # identified by how they were made
        changed.pop("features", None)
        changed |= differences({"features": facts["features"]}, {"features": made_by})
    starts_changed = [key for key in ("weights", "start_from") if key in changed]
    # A run of a version that did not record digests is identified by the URL of its start.
    if starts_changed and facts.get("start_sha256") and starts.digest(config) == facts["start_sha256"]:
        for key in starts_changed:
            changed.pop(key)
    if changed:
        listed = ", ".join(f"{key}: {old!r} -> {new!r}" for key, (old, new) in changed.items())
        raise ConfigError(
            f"{run.url} was begun with other settings ({listed}); choose another name, or give the same settings. To "
            f"train a finished run further, begin a new one with start_from={run.url}"
        )


def _forget_plans(run: Run, saved: TrainConfig, config: TrainConfig, index: IndexFacts) -> list[str]:
    """Delete plans drawn with old settings. A run that has committed nothing may change its settings."""
    facts = strict_json.read(run.at("index.json"), RESTORE)
    changed = list(differences(saved.what_is_trained(), config.what_is_trained()))
    if facts["fingerprint"] != index.fingerprint and "index" not in changed:
        changed.append("index")
    if not changed:
        return []
    for url in files_below(run.at("epochs")):
        store.delete(url)
    return [f"{run.url} has trained nothing yet: it begins with the new settings ({', '.join(changed)})"]


def _save(run: Run, config: TrainConfig, facts: dict) -> None:
    store.write_bytes(run.at("index.json"), json.dumps(facts).encode())
    store.write_bytes(run.at("config.json"), json_text(config.model_dump(mode="json"), indent=1).encode())
