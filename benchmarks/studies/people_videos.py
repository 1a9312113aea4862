"""Long videos of real people, stitched from trimmed clips: nobody in the training videos is in a test video.

The clips come from a folder, `CLASS/PERSON_*.mp4`, or a CSV of path, class and group. Groups are split between training
and test. It is drawn what each video shows, and when; then it is encoded as H.264, packed and indexed. The files are
FOLDER/shards/{train,test}, index/{train,test}, and corpus.json last. Nothing is downloaded, and the repository holds no
footage.

An action is one interval of a video, filled with clips of its class. Between actions are clips of classes that are
not labels. Intervals go into the index, for `full` and for diagnosis.
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from adaptfocus.infra.running.worlds import SHARD_BYTES, pack_and_index
from adaptfocus.pipelines.annotations.names import VIDEO_EXTENSIONS
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.worlds.config import SPLITS

CLIPS_IN_MEMORY = 400  # of 160 x 120 pixels and 3 s: 1 GB
GOP_FRAMES, CRF = 15, 23


@dataclass(frozen=True)
class Clip:
    """A trimmed clip: its class, and the group from which it must not be separated (a person, a camera, a film)."""

    path: str
    label: str
    group: str


@dataclass(frozen=True)
class Corpus:
    """The settings of a corpus. Its videos are a pure function of these and of the files of the source."""

    name: str
    source: str  # folder or CSV
    held_out: tuple[str, ...] = ()  # groups of the test videos; if empty, a third of the clips, drawn by the seed
    background: tuple[
        str, ...
    ] = ()  # classes that are not labels; if empty, a quarter of the classes, drawn by the seed
    seed: int = 0
    train_videos: int = 120
    test_videos: int = 60
    min_seconds: float = 50.0
    max_seconds: float = 70.0
    min_labels: int = 2
    max_labels: int = 4
    min_share: float = 0.10  # of a video that an action covers
    max_share: float = 0.22
    fps: int = 15
    width: int = 160
    height: int = 120

    def videos(self, split: str) -> int:
        return self.train_videos if split == "train" else self.test_videos


@dataclass(frozen=True)
class Split:
    """The clips of a corpus by split and class; `labels` are in the order of the class ids."""

    labels: tuple[str, ...]
    background: tuple[str, ...]
    clips: dict[str, dict[str, tuple[Clip, ...]]]


@dataclass(frozen=True)
class Segment:
    """A stretch of a stitched video, filled with clips one after the other; the last clip is cut."""

    label: str | None  # None: background
    frames: int
    clips: tuple[Clip, ...]


def read_clips(source: str) -> list[Clip]:
    """The clips of a folder or CSV, sorted by path.

    Raises:
        InputError: there are no clips, a column is missing, a file is not where the CSV says, or a name has no person.
    """
    place = Path(source)
    listed = place if place.suffix == ".csv" else place / "clips.csv"
    found = _listed(listed) if listed.is_file() else _in_folders(place)
    if not found:
        raise InputError(
            f"{source} has no clips; give a folder of CLASS/PERSON_*.mp4, or a CSV of path, class and group"
        )
    return sorted(found, key=lambda clip: clip.path)


def _listed(table: Path) -> list[Clip]:
    with table.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = {"path", "class", "group"} - set(reader.fieldnames or ())
        if missing:
            raise InputError(f"{table} has no column {', '.join(sorted(missing))}; it needs path, class and group")
        clips = []
        for number, row in enumerate(reader, start=2):
            if not all(row[name] for name in ("path", "class", "group")):
                raise InputError(f"{table}, line {number}: path, class or group is empty; fill it, or remove the line")
            path = table.parent / row["path"]
            if not path.is_file():
                raise InputError(f"{table}, line {number}: {path} is missing; paths are relative to the CSV's folder")
            clips.append(Clip(str(path), row["class"], row["group"]))
    return clips


def _in_folders(place: Path) -> list[Clip]:
    clips = []
    for path in place.glob("*/*"):
        if path.suffix.lower().lstrip(".") not in VIDEO_EXTENSIONS:
            continue
        person, mark, _ = path.stem.partition("_")
        if not mark or not person:
            raise InputError(f"{path} does not name its person; call it PERSON_ANYTHING{path.suffix}, or give a CSV")
        clips.append(Clip(str(path), path.parent.name, person))
    return clips


def split_of(corpus: Corpus, clips: Sequence[Clip]) -> Split:
    """Split groups between training and test, and classes between labels and background.

    Raises:
        ConfigError: a named group or class does not exist, or a class has no clip on one side.
    """
    groups, classes = sorted({c.group for c in clips}), sorted({c.label for c in clips})
    for option, named, there in (("group", corpus.held_out, groups), ("class", corpus.background, classes)):
        if unknown := set(named) - set(there):
            raise ConfigError(f"{corpus.name}: there is no {option} '{min(unknown)}'; there are {', '.join(there)}")
    random = np.random.default_rng([corpus.seed, 1])
    held_out = set(corpus.held_out or _a_third(random, clips, groups))
    background = corpus.background or tuple(random.permutation(classes)[: max(1, len(classes) // 4)].tolist())
    labels = tuple(k for k in classes if k not in background)
    parted = {
        split: {
            k: tuple(c for c in clips if c.label == k and (c.group in held_out) == (split == "test")) for k in classes
        }
        for split in SPLITS
    }
    for split in SPLITS:
        lacking = [k for k in labels if not parted[split][k]]
        if lacking or not any(parted[split][k] for k in background):
            what = f"of class '{lacking[0]}'" if lacking else "of the background"
            raise ConfigError(
                f"{corpus.name}: no clip {what} is left for {split} when {', '.join(sorted(held_out))} are held out; "
                "hold out other groups, or make that class background"
            )
    if not corpus.min_labels <= corpus.max_labels <= len(labels):
        raise ConfigError(
            f"{corpus.name}: {corpus.min_labels} to {corpus.max_labels} labels a video were asked for, but there are "
            f"{len(labels)} classes besides the background; lower the numbers"
        )
    return Split(labels, background, parted)


def _a_third(random: np.random.Generator, clips: Sequence[Clip], groups: Sequence[str]) -> list[str]:
    """Groups that hold about a third of the clips."""
    taken: list[str] = []
    for group in random.permutation(groups).tolist():
        if taken and sum(c.group in (*taken, group) for c in clips) > 0.4 * len(clips):
            continue
        taken.append(group)
        if sum(c.group in taken for c in clips) >= len(clips) / 3:
            break
    return taken


def draw_video(corpus: Corpus, split: Split, side: str, number: int) -> list[Segment]:
    """What video `number` of a side shows from beginning to end: a pure function of its arguments.

    Actions come in any order, with background before, between and after them, and do not overlap.
    """
    random = np.random.default_rng([corpus.seed, 2, SPLITS.index(side), number])
    seconds = random.uniform(corpus.min_seconds, corpus.max_seconds)
    labels = random.permutation(split.labels)[: int(random.integers(corpus.min_labels, corpus.max_labels + 1))].tolist()
    shares = random.uniform(corpus.min_share, corpus.max_share, len(labels))
    shares *= min(1.0, 0.9 / max(shares.sum(), 1e-9))
    gaps = random.dirichlet(np.ones(len(labels) + 1)) * (1 - shares.sum())
    pieces: list[tuple[str | None, float]] = [(None, float(gaps[0]))]
    for label, share, gap in zip(labels, shares.tolist(), gaps[1:].tolist(), strict=True):
        pieces += [(label, share), (None, gap)]
    clips, others = split.clips[side], [c for k in split.background for c in split.clips[side][k]]
    segments = []
    for label, share in pieces:
        frames = round(share * seconds * corpus.fps)
        if frames:
            pool = clips[label] if label else others
            # Enough clips even if each lasts half a second. Their length is only known when they are decoded.
            chosen = random.integers(len(pool), size=2 * frames // corpus.fps + 2)
            segments.append(Segment(label, frames, tuple(pool[i] for i in chosen)))
    return segments


def frames_of(segments: Sequence[Segment], corpus: Corpus) -> Iterator[np.ndarray]:
    """The frames of a stitched video, uint8 [H, W, 3]."""
    for segment in segments:
        left = segment.frames
        while left:
            for clip in segment.clips:
                shown = decoded(clip.path, corpus.fps, corpus.width, corpus.height)[:left]
                yield from shown
                left -= len(shown)
                if not left:
                    break


@lru_cache(maxsize=CLIPS_IN_MEMORY)
def decoded(path: str, fps: int, width: int, height: int) -> np.ndarray:
    """The frames of a clip at `fps`, scaled to cover width x height and cropped to it: uint8 [T, H, W, 3].

    Raises:
        InputError: it does not decode.
    """
    try:
        with av.open(path) as container:
            frames = list(container.decode(video=0))
    except (FFmpegError, OSError, IndexError) as error:
        raise InputError(f"{path} does not decode ({error}); fix or remove it") from error
    if not frames:
        raise InputError(f"{path} has no frame; remove it")
    times = np.array([frame.time if frame.time is not None else n / fps for n, frame in enumerate(frames)])
    times = np.sort(times) - times.min()  # frames come in order, but FFmpeg's invented times for packed AVIs do not
    wanted = np.arange(max(1, round((times[-1] + 1 / fps) * fps))) / fps
    nearest = np.abs(times[None] - wanted[:, None]).argmin(axis=1)
    return np.stack([_covering(frames[i], width, height) for i in nearest])


def _covering(frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
    scale = max(width / frame.width, height / frame.height)
    wide, high = max(width, round(frame.width * scale)), max(height, round(frame.height * scale))
    image = frame.to_ndarray(format="rgb24", width=wide, height=high)
    left, top = (wide - width) // 2, (high - height) // 2
    return image[top : top + height, left : left + width]


def make_corpus(corpus: Corpus, folder: Path) -> None:
    """Stitch, encode, pack and index; corpus.json is written last. Files that a killed process left are removed."""
    split = split_of(corpus, read_clips(corpus.source))
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="adaptfocus-people-") as work:
        rows = []
        for side in SPLITS:
            for number in range(corpus.videos(side)):
                segments = draw_video(corpus, split, side, number)
                path = Path(work) / f"{side}-{number:05d}.mp4"
                _encode(path, segments, corpus)
                labels = [s.label for s in segments if s.label]
                rows.append({"path": path.name, "id": path.stem, "labels": labels, "split": side}
                            | {"intervals": _intervals(segments, corpus.fps)})  # fmt: skip
        (Path(work) / "classes.txt").write_text("".join(f"{name}\n" for name in split.labels))
        manifest = Path(work) / "manifest.jsonl"
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        pack_and_index(manifest, str(folder), SHARD_BYTES, workers=1, overwrite=False)
    (folder / "corpus.json").write_text(json.dumps(asdict(corpus), indent=1))


def is_made(corpus: Corpus, folder: Path) -> bool:
    """Whether the corpus is there and complete.

    Raises:
        ConfigError: there is another corpus in its place.
    """
    mark = folder / "corpus.json"
    if not mark.exists():
        return False
    found, wanted = json.loads(mark.read_text()), json.loads(json.dumps(asdict(corpus)))
    differing = {key: (found.get(key), wanted[key]) for key in wanted if found.get(key) != wanted[key]}
    if differing:
        listed = ", ".join(f"{key}: {old!r} -> {new!r}" for key, (old, new) in differing.items())
        raise ConfigError(f"{folder} holds another corpus ({listed}); choose another --out, or the same settings")
    return True


def _intervals(segments: Sequence[Segment], fps: int) -> list[dict]:
    ends = np.cumsum([s.frames for s in segments]).tolist()
    return [
        {"label": s.label, "start_seconds": (end - s.frames) / fps, "end_seconds": end / fps}
        for s, end in zip(segments, ends, strict=True)
        if s.label
    ]


def _encode(path: Path, segments: Sequence[Segment], corpus: Corpus) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=corpus.fps)
        stream.width, stream.height, stream.pix_fmt = corpus.width, corpus.height, "yuv420p"
        stream.time_base = Fraction(1, corpus.fps)
        stream.options = {"crf": str(CRF), "preset": "veryfast", "g": str(GOP_FRAMES), "threads": "1"}
        for number, image in enumerate(frames_of(segments, corpus)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
