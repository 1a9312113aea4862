"""OpenTAD and Timeception: one file for each video, and nothing else.

The files that are written and checked:

    NAME.npy   float32 [T, C]         (OpenTAD)
    NAME.pkl   float32 (T, H, W, C)   (Timeception: maps, with the same number of times for each video)
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable

import numpy as np

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.features.layouts.axes import Problems, check_axes, check_matrix, check_values
from adaptfocus.pipelines.features.layouts.frames import read_array, write_array
from adaptfocus.pipelines.features.layouts.given import Given, at_times, check_any, leave_out, names_of, read_facts
from adaptfocus.pipelines.features.layouts.pickles import dump_array, load_array, too_new
from adaptfocus.pipelines.features.store import VideoFeatures

TIMECEPTION_STEPS = 128


def write_opentad(url: str, given: Given) -> dict[str, int]:
    """Write [T, C] arrays -> the number of videos."""
    return _written(given, lambda name, video: write_array(store.inside(url, f"{name}.npy"), laid_out(video, given)))


def write_timeception(url: str, given: Given) -> dict[str, int]:
    """Write (T, H, W, C) arrays -> the number of videos."""

    def write(name: str, video: VideoFeatures) -> None:
        store.write_bytes(store.inside(url, f"{name}.pkl"), dump_array(evenly(video, _steps(given, {}))))

    return _written(given, write)


def _written(given: Given, write: Callable[[str, VideoFeatures], None]) -> dict[str, int]:
    names = names_of([video_id for each in given.sets for video_id in each.video_ids])
    done: Counter[str] = Counter()
    for video in given.videos():
        try:
            write(names[video.video_id], video)
            done["videos"] += 1
        except Exception as error:
            leave_out(done, video.video_id, error)
    return check_any(done)


def laid_out(video: VideoFeatures, given: Given, steps: int | None = None) -> np.ndarray:
    """[T, C] with the video's own steps, or with `steps` steps."""
    steps = steps or given.steps
    return video.features if steps is None else evenly(video, steps)


def evenly(video: VideoFeatures, steps: int) -> np.ndarray:
    """Features at the middle of each of `steps` equal stretches of the video: those of the nearest step."""
    return at_times(video, (np.arange(steps) + 0.5) / steps * video.duration_seconds, "nearest")


def _steps(given: Given, facts: dict) -> int:
    return facts.get("steps") or given.steps or TIMECEPTION_STEPS


def check_opentad(url: str, given: Given) -> tuple[int, Problems]:
    """(number of videos, problems) as OpenTAD would see them."""
    problems, facts = Problems(), read_facts(url)
    owners, videos = _owners(given), 0
    shapes: dict[str, tuple[int, ...]] = {}
    for file in _files(url, ".npy", owners, problems):
        array = read_array(store.join(url, file), file, problems)
        if array is None or not check_matrix(file, array, problems, "OpenTAD"):
            continue
        videos += 1
        if video := _video(owners, file):
            wanted = laid_out(video, given, facts.get("steps"))
            hertz = len(wanted) / video.duration_seconds
            if not check_values(file, array, wanted, problems, reader="OpenTAD", time_axis=0, hertz=hertz):
                continue
        shapes[file] = array.shape
    dim = given.sets[0].dim if given.sets else (facts.get("feature_shape") or [None])[-1]
    check_axes(shapes, problems, reader="OpenTAD", time_axis=0, dim=dim)
    return videos, problems


def check_timeception(url: str, given: Given) -> tuple[int, Problems]:
    """(number of videos, problems) as Timeception would see them."""
    problems, facts = Problems(), read_facts(url)
    owners, steps = _owners(given), facts.get("steps") or given.steps
    shape = list(given.sets[0].facts["feature_shape"]) if given.sets else facts.get("feature_shape")
    seen: dict[str, tuple[int, ...]] = {}
    newer: dict[str, str] = {}
    for file in _files(url, ".pkl", owners, problems):
        data = store.read_bytes(store.join(url, file))
        try:
            array = load_array(data, file)
        except InputError as error:
            problems.say("not an array", str(error))
            continue
        if reason := too_new(data):
            newer[file] = reason
        if array.dtype != np.float32:
            problems.say("dtype", f"{file} is {array.dtype}; Timeception takes float32: convert it")
        if not _check_maps(file, array, shape, problems):
            continue
        seen[file] = array.shape
        video = _video(owners, file)
        if video and not np.allclose(array, evenly(video, len(array)), rtol=1e-4, atol=1e-5):
            problems.say("values", f"{file} differs from its features at {len(array)} times: export again")
    lengths = sorted({each[0] for each in seen.values()} | ({steps} if steps else set()))
    if len(lengths) > 1:
        text = f"videos have {lengths[:5]} times; Timeception reads equally many: export with --steps {lengths[-1]}"
        problems.say("steps", text)
    for file, reason in newer.items():
        problems.say("pickle protocol", f"{file} {reason}, for which Timeception's code is written: export again")
    return len(seen), problems


def _check_maps(file: str, array: np.ndarray, shape: list[int] | None, problems: Problems) -> bool:
    """Whether an array is (T, H, W, C); if its shape is not known, H = W identifies the axes."""
    if array.ndim != 4:
        hint = ": extract with --maps" if array.ndim == 2 else ""
        text = f"{file} is {array.shape}; Timeception reads maps (T, H, W, C), not pooled vectors{hint}"
        problems.say("not maps", text)
        return False
    if array.shape[1] == array.shape[2] if shape is None else [*array.shape[1:]] == shape:
        return True
    orders = {"(T, C, H, W)": (0, 2, 3, 1), "(C, T, H, W)": (1, 2, 3, 0), "(H, W, T, C)": (2, 0, 1, 3)}
    for order, axes in orders.items():
        turned = array.transpose(axes).shape
        if turned[1] == turned[2] if shape is None else [*turned[1:]] == shape:
            text = f"{file} is {order} {array.shape} where Timeception reads (T, H, W, C): array.transpose{axes}"
            problems.say("axis order", text)
            return False
    problems.say("dimension", f"{file} is {array.shape}; its maps should be (T, {', '.join(map(str, shape or '?'))})")
    return False


def _owners(given: Given) -> dict[str, tuple]:
    names = names_of([video_id for each in given.sets for video_id in each.video_ids])
    return {names[video_id]: (each, video_id) for each in given.sets for video_id in each.video_ids}


def _video(owners: dict[str, tuple], file: str) -> VideoFeatures | None:
    found = owners.get(posixpath.splitext(file)[0])
    return found[0].video(found[1]) if found else None


def _files(url: str, suffix: str, owners: dict[str, tuple], problems: Problems) -> list[str]:
    """The files of a layout; notes files that are missing and files that belong to no video."""
    files = [posixpath.basename(each) for each in store.list_files(url) if each.endswith(suffix)]
    stems = {posixpath.splitext(file)[0] for file in files}
    if not files:
        problems.say("missing", f"there is no {suffix} file; export again, or correct the path")
    if owners and (missing := sorted(owners.keys() - stems)):
        problems.say("missing", f"{len(missing)} videos of the features have no file: {missing[:3]}; export again")
    if owners and (strange := sorted(stems - owners.keys())):
        problems.say("unknown name", f"files of no video in the features: {strange[:3]}; names are ids with - for dots")
    return files
