"""Coalescing: fewer requests, the same bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from adaptfocus.pipelines.store.ranges import Place, Range, coalesce

RANGES = st.builds(Range, st.sampled_from(["a.tar", "b.tar"]), st.integers(0, 500), st.integers(1, 80))


def test_near_ranges_of_one_object_become_one_request() -> None:
    wanted = [Range("a", 100, 10), Range("b", 100, 10), Range("a", 0, 95), Range("a", 500, 10)]
    fetch, places = coalesce(wanted, max_gap_bytes=5)
    assert fetch == [Range("a", 0, 110), Range("a", 500, 10), Range("b", 100, 10)]
    assert places == [Place(0, 100), Place(2, 0), Place(0, 0), Place(1, 0)]


def test_a_gap_too_wide_stays_a_request_of_its_own() -> None:
    assert len(coalesce([Range("a", 0, 10), Range("a", 16, 10)], max_gap_bytes=5)[0]) == 2
    assert len(coalesce([Range("a", 0, 10), Range("a", 15, 10)], max_gap_bytes=5)[0]) == 1


@given(st.lists(RANGES, max_size=20), st.integers(0, 60))
def test_every_wanted_byte_is_where_its_place_says(wanted: list[Range], gap: int) -> None:
    objects = {name: bytes((i * 7 + len(name) + ord(name[0])) % 256 for i in range(700)) for name in ("a.tar", "b.tar")}
    fetch, places = coalesce(wanted, gap)
    bodies = [objects[url][offset : offset + size] for url, offset, size in fetch]
    for (url, offset, size), place in zip(wanted, places, strict=True):
        got = bodies[place.fetched][place.inside_bytes : place.inside_bytes + size]
        assert got == objects[url][offset : offset + size]
    assert len(fetch) <= len(wanted)
    # What is fetched beyond what is wanted is at most a gap between neighbours.
    assert sum(f.size_bytes for f in fetch) <= sum(w.size_bytes for w in wanted) + gap * len(wanted)
