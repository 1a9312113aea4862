"""Which ranges to request from a store, so that clips near each other cost one request.

Ranges of one object are joined if their gap costs less than another request. Nothing here asks a store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# A request costs a store some milliseconds, whatever it returns. At 10 MB/s, 16 KiB cost a tenth of that. They are
# under a tenth of a clip of ordinary video (100 to 300 KB).
MAX_GAP_BYTES = 16 * 1024


class Range(NamedTuple):
    """Some bytes of an object."""

    url: str
    offset_bytes: int
    size_bytes: int


class Place(NamedTuple):
    """Where a wanted range is: in which fetched range, and at which offset in it."""

    fetched: int
    inside_bytes: int


class Requests(NamedTuple):
    """What to fetch for some wanted ranges, and where each of them is in it."""

    fetch: list[Range]
    places: list[Place]
    sizes_bytes: list[int]  # of the wanted ranges

    def cut(self, bodies: Sequence[bytes]) -> list[bytes]:
        """The wanted ranges, in the order given, from the bytes of `fetch`."""
        return [
            bodies[place.fetched][place.inside_bytes : place.inside_bytes + size] if size else b""
            for place, size in zip(self.places, self.sizes_bytes, strict=True)
        ]


def requests_for(wanted: Sequence[Range]) -> Requests:
    """The requests that bring these ranges. An empty range needs none: HTTP cannot ask for it."""
    fetch, places = coalesce([each for each in wanted if each.size_bytes > 0])
    found = iter(places)
    sizes = [max(each.size_bytes, 0) for each in wanted]
    return Requests(fetch, [next(found) if size else Place(0, 0) for size in sizes], sizes)


def coalesce(wanted: list[Range], max_gap_bytes: int = MAX_GAP_BYTES) -> tuple[list[Range], list[Place]]:
    """Ranges to fetch, ordered by (url, offset), and the place of each wanted range, in the order given."""
    fetch: list[Range] = []
    places: list[Place | None] = [None] * len(wanted)
    for number in sorted(range(len(wanted)), key=lambda i: wanted[i]):
        url, offset, size = wanted[number]
        last = fetch[-1] if fetch else None
        if last and last.url == url and offset <= last.offset_bytes + last.size_bytes + max_gap_bytes:
            end = max(last.offset_bytes + last.size_bytes, offset + size)
            fetch[-1] = Range(url, last.offset_bytes, end - last.offset_bytes)
        else:
            fetch.append(wanted[number])
        places[number] = Place(len(fetch) - 1, offset - fetch[-1].offset_bytes)
    return fetch, [place for place in places if place is not None]
