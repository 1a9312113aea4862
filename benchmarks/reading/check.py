"""Finds wrong frames by comparing pictures with a decode of the whole file in order.

Scalers differ between candidates, so pictures are compared small and grey. A frame is wrong if another one within 40
places is nearer by half of the distance and by MARGIN_LEVELS, or if none is near at all. A picture that does not change
cannot be distinguished from its neighbours, but then a mix-up does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from benchmarks.reading.candidates import VideoFile, cropped, scaled_size
from benchmarks.reading.clips import Clips
from benchmarks.reading.isolated import CandidateError, Isolated, thumbnails

PLACES = 40
MARGIN_LEVELS = 0.5  # of 255, mean over the picture
FAR_LEVELS = 12.0


def wrong_frames(clips: Clips, workers: Mapping[str, Isolated]) -> dict[str, int | str]:
    """The number of wrong frames in all clips, or why a candidate does not run."""
    truth = sequential(clips.video, {n for request in clips.requests for n in request.frame_numbers})
    found: dict[str, int | str] = {}
    for name, worker in workers.items():
        try:
            worker.open(clips.video)
            pictures = [worker.clip(request, with_pictures=True).thumbnails for request in clips.requests]
        except CandidateError as error:
            found[name] = str(error)
            continue
        found[name] = sum(
            is_wrong(picture, truth, number)
            for request, made in zip(clips.requests, pictures, strict=True)
            for picture, number in zip(made if made is not None else [], request.frame_numbers, strict=True)
        )
    return found


def sequential(video: VideoFile, numbers: set[int]) -> dict[int, np.ndarray]:
    """Small grey pictures, [56, 56] float32, of some frames and those near them, from a decode of all in order."""
    width, height = scaled_size(video)
    wanted = {near for number in numbers for near in range(number - PLACES, number + PLACES + 1)}
    made, last, reformatter = {}, max(wanted), VideoReformatter()
    with av.open(video.path) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in wanted:
                picture = reformatter.reformat(frame, width, height, "rgb24", threads=1).to_ndarray()
                made[number] = thumbnails(cropped(picture[None]))[0]
            if number == last:
                break
    return made


def is_wrong(picture: np.ndarray, truth: Mapping[int, np.ndarray], number: int) -> bool:
    """Whether `picture` [H, W] is another frame than `number` of `truth`, or none of them."""
    near = [truth[n] for n in range(number - PLACES, number + PLACES + 1) if n in truth]
    nearest = min(_distance(each, picture) for each in near)
    wanted = _distance(truth[number], picture)
    return wanted > FAR_LEVELS or wanted - nearest > max(MARGIN_LEVELS, wanted / 2)


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())
