"""Features in the layouts that other projects read, and a check through those projects' rules.

`export` writes a layout. `verify` reads one back as its reader does and checks the order of axes, alignment, names,
types and dimension. It returns sentences that say what is wrong and how to fix it. docs/features.md has the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.features.layouts import arrays, frames, grounding
from adaptfocus.pipelines.features.layouts.axes import Problems
from adaptfocus.pipelines.features.layouts.given import FACTS, Given

Write = Callable[[str, Given], dict[str, int]]
Check = Callable[[str, Given], tuple[int, Problems]]


@dataclass(frozen=True)
class Layout:
    """How one project's features are written and checked."""

    reader: str
    kind: str  # of the features that it takes
    write: Write
    check: Check


def _of_frames(reader: frames.Reader) -> Layout:
    return Layout(
        reader.name, "pooled", partial(frames.write, reader=reader), partial(frames.check, reader=reader)
    )  # fmt: skip


def _of_grounding(reader: grounding.Reader) -> Layout:
    return Layout(
        reader.name, "pooled", partial(grounding.write, reader=reader), partial(grounding.check, reader=reader)
    )  # fmt: skip


LAYOUTS: dict[str, Layout] = {
    "mstcn": _of_frames(frames.MSTCN),
    "asformer": _of_frames(frames.ASFORMER),
    "ltcontext": _of_frames(frames.LTCONTEXT),
    "poc": _of_frames(frames.POC),
    "cpl": _of_grounding(grounding.CPL),
    "mmn": _of_grounding(grounding.MMN),
    "d3g": _of_grounding(grounding.D3G),
    "timeception": Layout("Timeception", "maps", arrays.write_timeception, arrays.check_timeception),
    "opentad": Layout("OpenTAD", "pooled", arrays.write_opentad, arrays.check_opentad),
}


def layout_of(name: str) -> Layout:
    """A layout by name. Raises ConfigError if there is none."""
    if name not in LAYOUTS:
        raise ConfigError(f"there is no layout {name!r}; choose one of: {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def export(name: str, given: Given, out_url: str, overwrite: bool = False) -> dict[str, int]:
    """Write features in a layout -> counts of what was written and left out.

    Raises:
        ConfigError: there is no such layout, the features do not fit it, or the folder is not empty.
        InputError: the reader would mix up names of videos or labels, or the annotations do not fit.
        StorageError: a place cannot be read or written.
    """
    layout = layout_of(name)
    given.check(layout.kind, layout.reader)
    if not overwrite and (store.list_files(out_url) or store.list_folders(out_url)):
        raise ConfigError(f"{out_url} is not empty; choose another folder, or give --overwrite")
    done = layout.write(out_url, given)
    store.write_bytes(store.join(out_url, FACTS), json.dumps(given.facts(name), indent=1).encode())
    return done


def verify(name: str, url: str, given: Given) -> tuple[int, list[str]]:
    """(number of videos that the reader finds, problems; none if all is well).

    With feature sets, names, times and values are compared with theirs. Without them, only the files are checked.

    Raises:
        ConfigError: there is no such layout, or the features do not fit it.
        InputError: the folder is empty.
    """
    layout = layout_of(name)
    if given.sets:
        given.check(layout.kind, layout.reader)
    if not (store.list_files(url) or store.list_folders(url)):
        raise InputError(f"there is nothing at {url}; give the folder that was exported to")
    videos, problems = layout.check(url, given)
    if not videos and not problems:
        problems.append(f"{layout.reader} finds no video in {url}; export again, or correct the path")
    return videos, problems
