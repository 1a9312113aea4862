"""A run on an index that grows: from which snapshot of the index each epoch is planned.

With `follow_index`, the first process that plans an epoch decides that its snapshot is the newest one, and all others
read that decision. So a plan stays a function of what has been committed, whenever the index grows.

    RUN/index.json                the snapshot that the run was begun on
    RUN/epochs/0007/index.json    the snapshot of epoch 7
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError, InputError, StorageError
from adaptfocus.pipelines.index.load import IndexFacts, NoSnapshotError
from adaptfocus.pipelines.store import strict_json
from adaptfocus.trainers.inputs.run_index import describe_sources, run_partitions, training_facts
from adaptfocus.trainers.runs.log import RESTORE, Commit, Run
from adaptfocus.trainers.settings.run import TrainConfig

BEGUN, DECISION = "index.json", "index.json"  # in the run's folder, and in an epoch's
FOLLOWS = "follows"  # in the first: the run has followed its index, so decisions may exist
_STAY = "Without --follow-index (follow_index=false) the run stays with the videos it has"

_log = logging.getLogger(__name__)


class Decided(NamedTuple):
    """A snapshot of a run's index, and the first epoch that is planned from it."""

    epoch: int
    fingerprint: str
    snapshot: int  # its number
    videos: int
    classes: list[str]


def begun_facts(run: Run, config: TrainConfig) -> IndexFacts:
    """The facts about the snapshot that a run was begun on; about the newest one if it has not begun.

    Raises:
        InputError, StorageError: as `open_index` does.
    """
    fingerprint = _begun(run).get("fingerprint")
    try:
        return training_facts(config, fingerprint)
    except NoSnapshotError:  # another index, which `same_run` refuses or says to have moved
        return training_facts(config)


def num_outputs(config: TrainConfig, begun: IndexFacts) -> int:
    """The width of a run's head, which never changes. It may have room for classes to come."""
    return config.num_classes or len(begun.classes)


def label_places(config: TrainConfig, begun: IndexFacts) -> int:
    """The places for labels that each bag of a run has, which never change. A video with more gives its rarest."""
    return config.plan.max_labels or begun.max_labels


def decided(run: Run, epoch: int) -> Decided | None:
    """The decision that counts in an epoch; None: the epoch is planned from the snapshot that the run was begun on."""
    earlier = range(epoch, 0, -1) if _begun(run).get(FOLLOWS) else ()
    return next((found for at in earlier if (found := _read(run, at))), None)


def last_decided(run: Run) -> Decided | None:
    """The decision that counts in the last epoch that was planned."""
    _, commit = run.newest() if _begun(run).get(FOLLOWS) else (None, None)
    return decided(run, commit.epoch + 1) if commit else None


def classes_of_run(run: Run) -> list[str]:
    """The classes of a run's head, as of its last planned epoch. Its other outputs are room, and mean nothing."""
    last = last_decided(run)
    return last.classes if last else strict_json.read(run.at(BEGUN), RESTORE)["classes"]


def weights_of_classes(run: Run, commit: Commit, num_classes: int) -> dict[str, Any]:
    """The weights of a checkpoint. Its head has the outputs of the first classes only: those that are in use.

    Raises:
        DamagedStateError, InputError: as `Run.load_state`.
    """
    state = run.load_state(commit)["model"]
    return {name: each[:num_classes] if name.startswith("head.") else each for name, each in state.items()}


def all_decided(run: Run, epochs: int) -> list[Decided]:
    """The first of the decisions for each snapshot, in order."""
    found: list[Decided] = []
    for epoch in range(1, epochs) if _begun(run).get(FOLLOWS) else ():
        own = _read(run, epoch)
        if own and own.fingerprint != (found[-1].fingerprint if found else _begun(run)["fingerprint"]):
            found.append(own)
    return found


def decide(run: Run, config: TrainConfig, epoch: int) -> Decided | None:
    """Decide from which snapshot an epoch is planned, unless that is decided -> the decision that counts in it.

    Raises:
        InputError, ConfigError: as `check_growth`.
    """
    if epoch == 0 or not config.follow_index:
        return decided(run, epoch)
    if found := _read(run, epoch):
        return found
    before = decided(run, epoch - 1)
    fingerprint = before.fingerprint if before else _begun(run)["fingerprint"]
    now = check_growth(run, config, fingerprint)
    content = {"fingerprint": now.fingerprint, "snapshot": now.number, "videos": now.videos, "classes": now.classes}
    is_first = store.create_exclusive(run.epoch_url(epoch, DECISION), json.dumps(content).encode())
    found = _read(run, epoch)
    if found is None:
        raise StorageError(f"{run.epoch_url(epoch, DECISION)} is gone, although it was just written")
    if is_first and found.fingerprint != fingerprint:
        _log.warning("%s: %s", run.url, describe_growth(found))
        places = label_places(config, begun_facts(run, config))
        if now.max_labels > places:
            _log.warning("%s: %s", run.url, describe_cut(now.max_labels, places))
    return found


def describe_cut(max_labels: int, places: int) -> str:
    """The line about videos with more labels than a bag carries."""
    return (
        f"some videos have up to {max_labels} labels, and a bag carries {places} (plan.max_labels): of these videos "
        "the rarest labels are trained, and the others count as negatives"
    )


def describe_growth(found: Decided) -> str:
    """The line that says when a run took a grown index."""
    return (
        f"from epoch {found.epoch + 1}, {found.videos} videos of {len(found.classes)} classes "
        f"(snapshot {found.snapshot})"
    )


def check_growth(run: Run, config: TrainConfig, fingerprint: str) -> IndexFacts:
    """The facts about the newest snapshot of a run's index, from which its next epoch can be planned.

    Args:
        fingerprint: that of the snapshot that the run is planned from now.

    Raises:
        InputError: the newest snapshot does not contain that one: videos have gone, or it is another index.
        ConfigError: it has more classes than the run has room for.
    """
    now = training_facts(config)
    if now.fingerprint == fingerprint:
        return now
    try:
        before = training_facts(config, fingerprint)
    except NoSnapshotError:
        raise InputError(
            f"{run.url} follows {describe_sources(config)}, but snapshot {now.number} of this index does not descend "
            f"from the one that the run is planned from (fingerprint {fingerprint}): it is another index, or was made "
            f"again. Restore it, and add tars to it (`adaptfocus index`). {_STAY}, if their snapshot is there"
        ) from None
    what = (
        f"{run.url} follows {describe_sources(config)}, and cannot go from its snapshot {before.number} to {now.number}"
    )
    _check_contained(what, config, before, now)
    begun = begun_facts(run, config)
    _check_classes(what, before.classes, now.classes, num_outputs(config, begun))
    return now


def _check_contained(what: str, config: TrainConfig, before: IndexFacts, now: IndexFacts) -> None:
    there = {each.uid: each for each in run_partitions(config, now.fingerprint)}
    changed = [each for each in run_partitions(config, before.fingerprint) if there.get(each.uid) != each]
    if not changed:
        return
    lost = sum(each.rows - (there[each.uid].rows if each.uid in there else 0) for each in changed)
    raise InputError(
        f"{what}: {lost} of {before.videos} videos are gone from it, because tars were removed or replaced, all were "
        "indexed anew, or small partitions were joined (`--compact`). An index that is followed only gets more tars. "
        f"Put them back and run `adaptfocus index`, or begin a new run on what there is. {_STAY}"
    )


def _check_classes(what: str, before: Sequence[str], now: Sequence[str], outputs: int) -> None:
    if [*now[: len(before)]] != [*before]:
        moved = next(old for at, old in enumerate(before) if [*now[at : at + 1]] != [old])
        raise InputError(
            f"{what}: its classes do not begin with the {len(before)} of the run in their order; the first that "
            f"differs is {moved!r}. Index with a class list that has the earlier classes first (--classes). {_STAY}"
        )
    if len(now) > outputs:
        raise ConfigError(
            f"{what}: it has {len(now)} classes, and the run's head has {outputs} outputs, so there is no room for "
            f"{', '.join(map(repr, now[outputs:][:5]))}. The width of a head is fixed when a run begins: begin a new "
            f"run with num_classes={len(now)} or more (its backbone can start from this one's: `adaptfocus "
            f"export-model`, weights=FILE). {_STAY}"
        )


def _begun(run: Run) -> dict:
    url = run.at(BEGUN)
    return strict_json.read(url, RESTORE) if store.exists(url) else {}


def _read(run: Run, epoch: int) -> Decided | None:
    url = run.epoch_url(epoch, DECISION)
    try:
        content = strict_json.read(url, RESTORE)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    try:
        fingerprint, classes = content["fingerprint"], content["classes"]
        found = Decided(epoch, fingerprint, content["snapshot"], content["videos"], classes)
    except KeyError as error:
        raise InputError(f"{url} is damaged (it has no {error}); {RESTORE}") from None
    kinds = (int, str, int, int, list)
    if not all(map(isinstance, found, kinds)) or not all(isinstance(name, str) for name in classes):
        raise InputError(f"{url} is damaged (a value has another type); {RESTORE}")
    return found
