"""What is said of an index before it counts: that there is something in it, and that a labels file fits it.

Input: the parts of an index, the ids of a labels file. Does: compares, looks the first reasons up.
Output: an error, or lines for the terminal.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from adaptfocus.pipelines.annotations.names import VIDEO_EXTENSIONS, key_of
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.parts import Part, part_urls, read_part

REASONS_SHOWN = 3
IDS_SHOWN = 5


def refused_rows(out_url: str, parts: Sequence[Part], kinds: Collection[str] = ()) -> Iterator[dict[str, str]]:
    """Rows of REFUSED_SCHEMA of an index, in its order; of some kinds, or all. Parts without one are not read."""
    for part in parts:
        if any(not kinds or kind in kinds for kind in part.facts.refused):
            for row in read_part(part_urls(out_url, part.name)[1]).to_pylist():
                if not kinds or row["kind"] in kinds:
                    yield row


def line_of(row: dict[str, str]) -> str:
    """A refused row as one line."""
    where = row["member_name"] or row["video_id"]
    text = f"{row['shard_url']} {where}".rstrip() + f": {row['kind']}: {row['message']}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def first_reasons(out_url: str, parts: Sequence[Part], counts: dict[str, int]) -> tuple[str, ...]:
    """The first refused rows as lines: one of each kind where there are several kinds."""
    lines: list[str] = []
    kinds = [kind for kind, _ in sorted(counts.items(), key=lambda item: -item[1])][:REASONS_SHOWN]
    for left, kind in zip(range(len(kinds), 0, -1), kinds, strict=True):
        share = -(-(REASONS_SHOWN - len(lines)) // left)
        lines += [line_of(row) for _, row in zip(range(share), refused_rows(out_url, parts, {kind}), strict=False)]
    return tuple(lines)


def check_some(parts: Sequence[Part], out_url: str) -> None:
    """Raises InputError with counts and first reasons if there is no video in any part."""
    if any(part.facts.rows for part in parts):
        return
    counts = sum((Counter(part.facts.refused) for part in parts), Counter())
    if set(counts) == {"empty_shard"}:
        raise InputError(f"all {len(parts)} shards are empty (first: {parts[0].shard_url}); write them again")
    reasons = "\n".join(f"  {line}" for line in first_reasons(out_url, parts, counts))
    shown = ", ".join(f"{kind} {n}" for kind, n in counts.most_common())
    raise InputError(f"nothing could be indexed: {len(parts)} shards, {shown}. The first reasons:\n{reasons}")


def find_unmatched(labels_url: str, listed: Sequence[str], indexed: Collection[str]) -> list[str]:
    """The ids of a labels file that no indexed video has.

    Raises:
        InputError: that are all of them: the file is another's, or writes its ids in another way.
    """
    indexed = set(indexed)
    left = [each for each in listed if each not in indexed]
    if listed and len(left) == len(listed):
        raise InputError(
            f"{labels_url} matches no video: none of its {len(listed)} ids is that of a video. It has "
            f"{_some(listed)}; the videos are {_some(sorted(indexed))}. {hint_for(listed, indexed)}"
        )
    return left


def hint_for(listed: Sequence[str], indexed: Collection[str]) -> str:
    """What would make ids that match nothing fit: their extension, their folder, their case, their dots."""
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
