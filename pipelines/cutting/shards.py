"""Clips -> WebDataset shards.

OUT/clips-000000.tar   samples KEY.mp4, KEY.json and KEY.cls, written by webdataset.ShardWriter
OUT/classes.txt        the name of class number n on line n, from 0
OUT/refused.jsonl      the moments without a clip, and why
OUT/clips.json         settings and counts; written last
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from adaptfocus.pipelines import store
from adaptfocus.pipelines.cutting.clips import Clip, Refused
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.shards.writing import whole_file
from adaptfocus.pipelines.store.strict_json import json_text

SHARD_NAME = "clips-%06d.tar"
CLASSES, REFUSED, SUMMARY = "classes.txt", "refused.jsonl", "clips.json"
KEY_CHARACTERS = 48  # of an id in a key; plain tar headers end at 100


@dataclass
class Clips:
    """What was written."""

    out_url: str
    shards: list[str] = field(default_factory=list)
    clips: int = 0
    copied: int = 0
    encoded: int = 0
    bytes: int = 0
    seconds: float = 0.0  # of the moments that have a clip
    labels: Counter[str] = field(default_factory=Counter)  # label -> clips
    refused: Counter[str] = field(default_factory=Counter)  # kind -> moments without a clip


def import_webdataset() -> Any:
    """Import webdataset when it is needed. Raises ConfigError: it is not installed."""
    try:
        import webdataset
    except ImportError:
        raise ConfigError(
            "clips are written by webdataset, which is not installed; pip install 'adaptfocus[clips]'"
        ) from None
    return webdataset


def check_room(out_url: str, overwrite: bool) -> None:
    """
    Raises:
        InputError: the folder holds tars already. StorageError: it cannot be written.
    """
    old = [url for url in store.list_files(out_url) if url.endswith(".tar")]
    if old and not overwrite:
        raise InputError(f"{out_url} already holds tars ({len(old)}); give another folder, or --overwrite")
    store.check_writable(out_url)
    for url in [store.join(out_url, SUMMARY), *old]:
        store.delete(url)


def write_clips(
    results: Iterable[Clip | Refused],
    out_url: str,
    classes: Sequence[str],
    shard_size_bytes: int,
    settings: Mapping[str, Any],
    unknown: Mapping[str, int],
) -> Clips:
    """Write clips in the order in which they come. The same clips give the same bytes.

    Args:
        unknown: kind -> further moments without a clip; it is read when all results have come.

    Raises:
        ConfigError: webdataset is not installed.
        StorageError: the folder cannot be written.
    """
    done, refused, number_of = Clips(out_url), [], {label: n for n, label in enumerate(classes)}
    clips = _clips_of(results, done, refused)
    first = next(clips, None)
    if first is not None:
        _write(chain([first], clips), done, number_of, shard_size_bytes)
    done.refused.update(unknown)
    store.write_bytes(store.join(out_url, CLASSES), "".join(f"{each}\n" for each in classes).encode())
    lines = (json_text(each, ensure_ascii=False) + "\n" for each in refused)
    store.write_bytes(store.join(out_url, REFUSED), "".join(lines).encode())
    store.write_bytes(store.join(out_url, SUMMARY), json_text({**settings, **vars(done)}, indent=1).encode())
    return done


def key_of_clip(number: int, video_id: str) -> str:
    """The key of the n-th clip: unique, safe as a file name, and readable."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", video_id).strip("_-")[-KEY_CHARACTERS:]
    return f"{number:08d}-{readable}" if readable else f"{number:08d}"


def _clips_of(results: Iterable[Clip | Refused], done: Clips, refused: list[dict[str, Any]]) -> Iterator[Clip]:
    """The clips among the results; the others are counted and noted."""
    for each in results:
        if isinstance(each, Clip):
            yield each
        else:
            done.refused[each.kind] += 1
            facts = {"video_id": each.video_id, **each.moment._asdict(), "kind": each.kind, "message": each.message}
            refused.append(facts)


def _write(clips: Iterable[Clip], done: Clips, number_of: Mapping[str, int], shard_size_bytes: int) -> None:
    webdataset = import_webdataset()
    with ExitStack() as shard:  # an error in the middle discards the shard that is being written

        def begin(url: str) -> Any:
            done.shards.append(url)
            return shard.enter_context(whole_file(url))

        writer = webdataset.ShardWriter(
            store.join(done.out_url, "").replace("%", "%%") + SHARD_NAME,
            maxsize=shard_size_bytes, opener=begin, post=lambda _: shard.close(), verbose=0, encoder=False, mtime=0,
        )  # fmt: skip
        for clip in clips:
            writer.write(_sample(clip, done.clips, number_of[clip.moment.label]))
            _count(clip, done)
        writer.close()


def _sample(clip: Clip, number: int, class_number: int) -> dict[str, Any]:
    moment = clip.moment
    facts = {
        "video_id": clip.video_id,
        "label": moment.label,
        "score": moment.score,
        "start_seconds": moment.start_seconds,
        "end_seconds": moment.end_seconds,
        "clip_start_seconds": clip.clip_start_seconds,
        "moment_in_clip_seconds": [clip.start_seconds, clip.end_seconds],
        "method": "copied" if clip.is_copied else "encoded",
        "frames": clip.frames,
        "frame_rate_hz": clip.frame_rate_hz,
        # What `adaptfocus index` reads, so that the shards are a corpus with times again.
        "labels": [moment.label],
        "intervals": [[moment.label, clip.start_seconds, clip.end_seconds]],
    }
    return {
        "__key__": key_of_clip(number, clip.video_id),
        "mp4": clip.mp4,
        "json": json_text(facts, ensure_ascii=False).encode(),
        "cls": str(class_number).encode(),
    }


def _count(clip: Clip, done: Clips) -> None:
    done.clips += 1
    done.copied += clip.is_copied
    done.encoded += not clip.is_copied
    done.bytes += len(clip.mp4)
    done.seconds += clip.end_seconds - clip.start_seconds
    done.labels[clip.moment.label] += 1
