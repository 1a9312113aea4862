"""The index of a run, or all of its indexes (`mixture`), as one: facts, partitions and videos.

Of several indexes, the partitions of number n have uids that begin with n (`SOURCE_BITS`), and so do the `video_row`s
of their videos. So a plan, a ledger and a snapshot of saliency say of which index a video is. The fingerprint of
several is the fingerprints of all, joined by "+".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.load import IndexFacts, NoSnapshotError, open_index, read_partition, read_partitions
from adaptfocus.pipelines.index.partitions import LOADED_SCHEMA, SOURCE_BITS, Partition, source_of
from adaptfocus.trainers.settings.run import TrainConfig

ORDERS = ("as_filmed", "reversed", "parts_swapped", "twice_as_fast")  # the labels of task=order


def training_facts(config: TrainConfig, fingerprint: str | None = None) -> IndexFacts:
    """The facts about what a run is trained on; of an earlier snapshot, if its fingerprint is given.

    The classes of several indexes are those of the first in its order, then the new ones of the next. If an index has
    two names for one class, `label_counts` counts a video with both of them twice.

    Raises:
        InputError, StorageError: as `open_index` does.
    """
    found = [
        open_index(url, each) for url, each in zip(config.index_urls, _fingerprints(config, fingerprint), strict=True)
    ]
    facts = _joined(config, found) if len(found) > 1 else found[0]
    if config.task == "labels":
        return facts
    counts = dict.fromkeys(ORDERS, facts.videos)
    return replace(facts, unlabelled=0, max_labels=len(ORDERS), classes=list(ORDERS), label_counts=counts)


def run_partitions(config: TrainConfig, fingerprint: str | None = None) -> tuple[Partition, ...]:
    """The partitions of a run's snapshot by uid; of the newest one by default. Raises as `read_partitions`."""
    prints = _fingerprints(config, fingerprint)
    return tuple(
        replace(each, uid=number << SOURCE_BITS | each.uid)
        for number, (url, own) in enumerate(zip(config.index_urls, prints, strict=True))
        for each in read_partitions(url, own)
    )


def read_videos(config: TrainConfig, partitions: Sequence[Partition], columns: Sequence[str] | None = None) -> pa.Table:
    """The videos of some of `run_partitions`, by `video_row`. For `task=order` every video has all `ORDERS`.

    Raises:
        InputError, StorageError: as `read_partition` does.
    """
    urls, names = config.index_urls, LOADED_SCHEMA.names if columns is None else ["video_row", *columns]
    schema = pa.schema([LOADED_SCHEMA.field(name) for name in names])
    found = [schema.empty_table()]
    for each in sorted(partitions, key=lambda each: each.uid):
        source = source_of(each.uid)
        table = read_partition(urls[source], each, columns).select(names).cast(schema)
        found.append(_renamed(table, config.mixture.more[source - 1].labels) if source else table)
    table = pa.concat_tables(found)
    return table if config.task == "labels" else _as_orders(table)


def describe_sources(config: TrainConfig) -> str:
    """The index of a run, or all of its indexes, in a message."""
    return " and ".join(config.index_urls)


def _fingerprints(config: TrainConfig, fingerprint: str | None) -> Sequence[str | None]:
    """The fingerprint of each index.

    Raises:
        NoSnapshotError: it is of another number of indexes.
    """
    wanted = len(config.index_urls)
    if fingerprint is None:
        return [None] * wanted
    found = fingerprint.split("+")
    if len(found) != wanted:
        raise NoSnapshotError(
            f"the run was begun on {len(found)} indexes, and its settings name {wanted}: {describe_sources(config)}"
        )
    return found


def _joined(config: TrainConfig, found: Sequence[IndexFacts]) -> IndexFacts:
    maps: list[Mapping[str, str]] = [{}, *(each.labels for each in config.mixture.more)]
    classes: dict[str, None] = {}
    counts: Counter[str] = Counter()
    for url, facts, names in zip(config.index_urls, found, maps, strict=True):
        if unknown := sorted(names.keys() - set(facts.classes)):
            raise InputError(
                f"mixture.more: {url} has no label {unknown[0]!r}, which its `labels` rename; it has "
                f"{', '.join(map(repr, facts.classes[:8]))}{', ...' if len(facts.classes) > 8 else ''}"
            )
        _check_full(config, url, facts.classes, names)
        classes |= dict.fromkeys(names.get(each, each) for each in facts.classes)
        for name, n in facts.label_counts.items():
            counts[names.get(name, name)] += n
    return IndexFacts(
        sum(each.videos for each in found),
        sum(each.unlabelled for each in found),
        max(each.max_labels for each in found),
        list(classes),
        "+".join(each.fingerprint for each in found),
        dict(counts),
        sum(each.number for each in found),
    )


def _check_full(config: TrainConfig, url: str, classes: Sequence[str], names: Mapping[str, str]) -> None:
    """Check that `full` has one name of the index for each class: manifests count unlocated videos by its own names."""
    if config.focus.regime != "full":
        return
    theirs: dict[str, str] = {}
    for each in classes:
        ours = names.get(each, each)
        if (other := theirs.setdefault(ours, each)) != each:
            raise InputError(
                f"mixture.more: with the `labels` of {url}, {other!r} and {each!r} are both {ours!r}; "
                "focus.regime=full cannot tell whether a video with both has intervals of both. Give one of them "
                "another name, or use another regime"
            )


def _renamed(table: pa.Table, names: Mapping[str, str]) -> pa.Table:
    """Videos whose labels have the names that the run gives them."""
    if not names:
        return table
    for column in {"labels", "intervals"} & set(table.column_names):
        at = table.schema.get_field_index(column)
        chunks = [_renamed_lists(each, names) for each in table.column(at).chunks]
        table = table.set_column(at, table.schema.field(at), pa.chunked_array(chunks, table.schema.field(at).type))
    return table


def _renamed_lists(lists: pa.ListArray, names: Mapping[str, str]) -> pa.ListArray:
    lists = lists.take(pa.array(range(len(lists)))) if lists.offset else lists  # a slice cannot have a mask
    values = lists.values
    if pa.types.is_struct(values.type):
        fields = [values.type.field(n) for n in range(values.type.num_fields)]
        parts = [values.field(field.name) for field in fields]
        parts = [
            _names(part, names) if field.name == "label" else part for part, field in zip(parts, fields, strict=True)
        ]
        renamed: pa.Array = pa.StructArray.from_arrays(parts, fields=fields)
    else:
        renamed = _names(values, names)
    return pa.ListArray.from_arrays(lists.offsets, renamed, type=lists.type, mask=lists.is_null())


def _names(values: pa.Array, names: Mapping[str, str]) -> pa.Array:
    coded = values.dictionary_encode()
    return pa.DictionaryArray.from_arrays(
        coded.indices, pa.array([names.get(each, each) for each in coded.dictionary.to_pylist()], pa.string())
    ).cast(pa.string())


def _as_orders(table: pa.Table) -> pa.Table:
    """The same videos with `ORDERS` as the labels of each."""
    instead = {"labels": [list(ORDERS)] * table.num_rows, "intervals": [None] * table.num_rows}
    for name in instead.keys() & set(table.column_names):
        field = table.schema.field(name)
        values = pa.array(instead[name], field.type)
        table = table.set_column(table.schema.get_field_index(name), field, values)
    return table
