"""When does the model believe that each action happens? Read a run's saliency, and print it beside the truth.

    python examples/salient_times.py FOLDER

FOLDER is what train_on_a_world.py wrote. The salient time of an action is where the model scored it highest. After two
epochs on eight videos it is where chance has put it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from adaptfocus.pipelines.index import load_index
from adaptfocus.pipelines.saliency import spikes
from adaptfocus.trainers.runs import Run
from adaptfocus.trainers.runs.open import load_config
from adaptfocus.trainers.runs.snapshots import read_saliency


def main(folder: str) -> None:
    # 1. A run's folder has its settings, and a snapshot of saliency for each epoch; the last is after all of them.
    run = Run(f"{folder}/runs/first")
    config = load_config(run.url)
    saliency = read_saliency(run, config.epochs)

    # 2. The spike of each (video, tag): how sure the model is there, and when that is, as a fraction of the video.
    heights, times = spikes(saliency.bins, config.epochs, config.saliency.staleness)

    # 3. Beside the truth, which weak training never reads.
    index = load_index(config.index, columns=["video_id", "duration_seconds", "intervals"])
    videos = {video["video_row"]: video for video in index.table.to_pylist()}
    inside = 0
    for row, label_id, height, time in zip(saliency.video_row, saliency.label_id, heights, times, strict=True):
        video, label = videos[int(row)], index.classes[label_id]
        seconds = float(time) * video["duration_seconds"]
        true = [(each["start_seconds"], each["end_seconds"]) for each in video["intervals"] if each["label"] == label]
        inside += any(start <= seconds <= end for start, end in true)
        said = ", ".join(f"{start:.1f} to {end:.1f} s" for start, end in true)
        print(f"{video['video_id']}  {label:<12} p {float(height):.2f} at {seconds:4.1f} s   truly {said}")
    print(f"{inside} of {len(heights)} salient times are inside a true interval")


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()))
