"""Checks of an index before it counts: that it is not empty, and that a labels file fits it.

A failed check raises an error with the first reasons.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from adaptfocus.pipelines.annotations.names import VIDEO_EXTENSIONS, key_of
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.partitions import read_partition
from adaptfocus.pipelines.index.shard_lists import refused_rows
from adaptfocus.pipelines.index.snapshots import Snapshot, partitions_of

REASONS_SHOWN = 3
IDS_SHOWN = 5
IDS_LOOKED_AT = 50_000  # for a hint on why none matches


def line_of(row: dict[str, str]) -> str:
    """A refused row as one line."""
    where = row["member_name"] or row["video_id"]
    text = f"{row['shard_url']} {where}".rstrip() + f": {row['kind']}: {row['message']}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def first_reasons(index_url: str, snapshot: Snapshot, counts: Mapping[str, int]) -> tuple[str, ...]:
    """The first refused rows as lines; one of each kind if there are several kinds."""
    lines: list[str] = []
    kinds = [kind for kind, _ in sorted(counts.items(), key=lambda item: -item[1])][:REASONS_SHOWN]
    for left, kind in zip(range(len(kinds), 0, -1), kinds, strict=True):
        share = -(-(REASONS_SHOWN - len(lines)) // left)
        lines += [line_of(row) for _, row in zip(range(share), refused_rows(index_url, snapshot, {kind}), strict=False)]
    return tuple(lines)


def check_some(index_url: str, snapshot: Snapshot, shard_urls: Sequence[str]) -> None:
    """Raises InputError with counts and first reasons if there is no video in any shard."""
    if snapshot.videos:
        return
    counts = Counter(snapshot.refused)
    if set(counts) == {"empty_shard"}:
        raise InputError(f"all {len(shard_urls)} shards are empty (first: {shard_urls[0]}); write them again")
    reasons = "\n".join(f"  {line}" for line in first_reasons(index_url, snapshot, counts))
    shown = ", ".join(f"{kind} {n}" for kind, n in counts.most_common())
    raise InputError(f"nothing could be indexed: {len(shard_urls)} shards, {shown}. The first reasons:\n{reasons}")


def find_unmatched(index_url: str, snapshot: Snapshot, labels_url: str, listed: Sequence[str]) -> list[str]:
    """The ids of a labels file that no indexed video has. Memory: these ids, and those of some partitions.

    Raises:
        InputError: no id matches: the file belongs to other videos, or writes its ids differently.
    """
    left, shown = dict.fromkeys(listed), set[str]()
    for partition in partitions_of(index_url, snapshot):
        ids = read_partition(index_url, partition, ["video_id"])["video_id"].to_pylist()
        shown.update(ids if len(shown) < IDS_LOOKED_AT else ())
        for each in ids:
            left.pop(each, None)
    if listed and len(left) == len(listed):
        raise InputError(
            f"{labels_url} matches no video: none of its {len(listed)} ids belongs to a video. It has "
            f"{_some(listed)}; the videos are {_some(sorted(shown))}. {hint_for(listed, shown)}"
        )
    return list(left)


def hint_for(listed: Sequence[str], indexed: Collection[str]) -> str:
    """A hint on how to make ids match: by their extension, folder, case or dots."""
    folded = {each.casefold() for each in indexed}
    ends = {posixpath.basename(each) for each in indexed}
    for each in listed[:1000]:
        stem, extension = posixpath.splitext(each)
        plain = stem if extension[1:].lower() in VIDEO_EXTENSIONS else each
        fixes = [
            (plain != each, plain, f"write the ids without {extension!r}"),
            (
                True,
                posixpath.basename(plain),
                "write the ids without their folder (if it is a shard's name, index with --prefix-shard)",
            ),
            (True, key_of(plain), "write '_' for the dots of a file's name, as pack does"),
        ]
        for applies, fixed, said in fixes:
            if applies and fixed != each and fixed in indexed:
                return said[0].upper() + said[1:] + f": {fixed!r} instead of {each!r}"
        if plain.casefold() in folded:
            return "Upper and lower case differ; write the ids as the videos have them"
        if plain in ends:
            return "The videos' ids begin with a folder or a shard's name; write it in front of the file's ids"
    return "Give the file of these videos, with their keys as ids"


def _some(ids: Sequence[str]) -> str:
    return ", ".join(map(repr, ids[:IDS_SHOWN])) + (", ..." if len(ids) > IDS_SHOWN else "") if ids else "none"
