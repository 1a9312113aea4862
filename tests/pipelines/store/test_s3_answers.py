"""Real servers' answers to a request for 10 bytes from byte 5: where the range is in them, or what is wrong."""

from __future__ import annotations

import pytest

from adaptfocus.pipelines.errors import ReplacedError
from adaptfocus.pipelines.store.ranges import Range
from adaptfocus.pipelines.store.reads import Version
from adaptfocus.pipelines.store.reasons import ShortReadError, WrongRangeError
from adaptfocus.pipelines.store.s3_answers import check_version, is_whole, place_in_body, request_of

WANTED = Range("s3://b/a.tar", 5, 10)


def headers(length: int | None = None, content_range: str | None = None) -> dict[str, str]:
    said = {"content-length": None if length is None else str(length), "content-range": content_range}
    return {name: value for name, value in said.items() if value is not None}


@pytest.mark.parametrize(
    ("status", "length", "content_range", "found"),
    [
        (206, 10, "bytes 5-14/100", (100, 0)),
        (206, None, "bytes 5-14/*", (None, 0)),  # chunked, of an object whose size is not said
        (200, 10, "bytes 5-14/100", (100, 0)),  # rclone serve s3
        (200, 100, None, (100, 5)),  # the whole object
        (200, None, None, (None, 5)),
    ],
)
def test_a_range_is_found(status: int, length: int | None, content_range: str | None, found: tuple) -> None:
    assert place_in_body(WANTED, status, headers(length, content_range)) == found
    assert is_whole(status, headers(length, content_range)) == bool(found[1])


@pytest.mark.parametrize(
    ("status", "length", "content_range", "error"),
    [
        (206, 10, None, WrongRangeError),
        (206, 10, "bytes 6-15/100", WrongRangeError),
        (206, 11, "bytes 5-14/100", WrongRangeError),
        (206, 100, "bytes 0-99/100", WrongRangeError),
        (206, 9, "bytes 5-13/100", WrongRangeError),  # fewer bytes than were asked for, although there are more
        (206, 10, "5-14/100", WrongRangeError),
        (200, 100, "bytes 5-14/100", WrongRangeError),  # it says one thing and sends another
        (204, 0, None, WrongRangeError),
        (206, 7, "bytes 5-11/12", ShortReadError),  # the object ends
        (200, 14, None, ShortReadError),
    ],
)
def test_other_answers_are_errors(status: int, length: int, content_range: str | None, error: type[OSError]) -> None:
    with pytest.raises(error):
        place_in_body(WANTED, status, headers(length, content_range))


def test_an_answer_is_of_the_version_or_an_error() -> None:
    version = Version(100, "abc")
    for same in ({"etag": '"abc"'}, {"etag": 'W/"abc"'}, {}):
        check_version("u", version, 100, same)
        check_version("u", version, None, same)
    for size, tag in ((101, '"abc"'), (100, '"abd"'), (None, 'W/"abd"'), (101, "")):
        with pytest.raises(ReplacedError, match="it had 100 bytes, tag abc; it has"):
            check_version("u", version, size, {"etag": tag})
    check_version("u", Version(100, ""), 100, {"etag": '"any"'})


def test_a_request_asks_for_the_version_where_a_store_can_compare_it() -> None:
    assert request_of(WANTED, Version(100, "abc")) == {"Range": "bytes=5-14", "IfMatch": '"abc"'}
    for version in (None, Version(100, ""), Version(100, "W/abc")):
        assert request_of(WANTED, version) == {"Range": "bytes=5-14"}
