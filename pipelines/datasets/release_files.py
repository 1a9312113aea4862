"""What the readers of official releases share: text, lists of classes, JSON.

Input: URLs. Does: reads and checks. Output: values, or an error that names the file and the line.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.manifest import LOOKUP_THREADS
from adaptfocus.pipelines.annotations.names import normal
from adaptfocus.pipelines.annotations.rows import Problem
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.store import strict_json

T = TypeVar("T")
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")


def lines_of(url: str) -> list[tuple[int, str]]:
    """(number, text) of each line that is not empty, in its normal form; counted from 1.

    What is no text, bytes that are not UTF-8 or control characters, becomes U+FFFD.
    """
    text = store.read_bytes(url).decode("utf-8-sig", errors="replace")
    lines = (normal(_NO_TEXT.sub("\ufffd", line)) for line in text.splitlines())
    return [(number, line) for number, line in enumerate(lines, start=1) if line]


def in_threads(look: Callable[[str], T], urls: Sequence[str]) -> list[T]:
    """``[look(url) for url in urls]``, sixteen at a time."""
    with ThreadPoolExecutor(LOOKUP_THREADS) as threads:
        return list(threads.map(look, urls))


def only_file(urls: Sequence[str], name: str, place: str, needed: str) -> str:
    """The one URL whose file is called `name`.

    Raises:
        InputError: there is none, or more than one.
    """
    found = [url for url in urls if posixpath.basename(url) == name]
    if len(found) != 1:
        what = f"there is no {name}" if not found else f"{name} is there {len(found)} times ({found[0]}, {found[1]})"
        raise InputError(f"{place}: {what}; {needed}")
    return found[0]


def texts_by_name(urls: Iterable[str], place: str) -> dict[str, str]:
    """The .txt files among the URLs, by their names without it.

    Raises:
        InputError: two have the same name.
    """
    found: dict[str, str] = {}
    for url in urls:
        name, extension = posixpath.splitext(posixpath.basename(url))
        if extension != ".txt":
            continue
        if name in found:
            raise InputError(
                f"{place}: {name}.txt is there twice ({found[name]}, {url}); give a folder with one of them"
            )
        found[name] = url
    return found


def read_ids_and_names(url: str) -> dict[str, str]:
    """``c008 Opening a door`` or ``5 Billiards``, one a line -> name by id, in the file's order.

    A name that two ids have is followed by its id.

    Raises:
        InputError: there is none, a line is not an id and a name, or an id occurs twice.
    """
    names: dict[str, str] = {}
    for number, line in lines_of(url):
        class_id, _, name = line.partition(" ")
        name = normal(name)
        if not name or class_id in names:
            what = f"the id {class_id} occurs twice" if class_id in names else f"{line!r} is not an id and a name"
            raise InputError(f"{url} line {number}: {what}; write one class a line, as 'c008 Opening a door'")
        names[class_id] = name
    if not names:
        raise InputError(f"{url} holds no class; write one a line, as 'c008 Opening a door'")
    times = Counter(names.values())
    return {class_id: name if times[name] == 1 else f"{name} ({class_id})" for class_id, name in names.items()}


def parse_json(url: str) -> dict[str, Any]:
    """The object in a JSON file. Raises InputError if it holds none, or a name (an id) occurs twice in an object."""
    try:
        table = strict_json.loads(store.read_bytes(url))
    except ValueError as error:
        raise InputError(f"{url} is not JSON that can be used: {error}") from None
    if not isinstance(table, dict):
        raise InputError(f"{url} holds a {type(table).__name__}; wanted an object")
    return table


def seconds_of(value: Any, where: str, problems: list[Problem]) -> float | None:
    """A duration as a release has it; None, and a ``bad_length``, if it is not a number above 0."""
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = 0.0
    if 0 < seconds < float("inf"):
        return seconds
    problems.append(Problem("bad_length", where, f"its length, {value!r:.100}, is not a number of seconds"))
    return None
