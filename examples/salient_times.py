"""When does the model believe that each action happens? A run's saliency as a table, and as a picture.

    python examples/salient_times.py FOLDER

FOLDER is what train_on_a_world.py wrote. The salient time of an action is where the model scored it highest. After two
epochs on eight videos it is where chance has put it. A row of the picture is the clip at one salient time. In a
notebook, `run.saliency().to_pandas()` makes a data frame of the table.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from look_at_clips import write_png

import adaptfocus

ROWS = 6  # of the picture


def main(folder: str) -> None:
    # 1. A row for each tag of each video: its scores over time, and where the highest is.
    run = adaptfocus.Run(f"{folder}/runs/first")
    table = run.saliency()
    print(f"{run}: last loss {run.curves()['loss'][-1].as_py():.3f}")

    # 2. Beside the truth, which weak training never reads.
    inside = 0
    for row in table.to_pylist():
        label, seconds = row["label"], row["spike_seconds"]
        true = [each for each in run.index[row["video_row"]].intervals or () if each.label == label]
        inside += any(each.start_seconds <= seconds <= each.end_seconds for each in true)
        said = ", ".join(f"{each.start_seconds:.1f} to {each.end_seconds:.1f} s" for each in true)
        print(f"{row['video_id']}  {label:<12} p {row['spike']:.2f} at {seconds:4.1f} s   truly {said}")
    print(f"{inside} of {table.num_rows} salient times are inside a true interval")

    # 3. The clips around the times of which the model is surest.
    surest = table.sort_by([("spike", "descending")]).slice(0, ROWS).to_pylist()
    clips = run.clips([(row["video_row"], row["spike_seconds"]) for row in surest])
    write_png(np.stack([each["frames"] for each in clips]), Path(folder) / "salient.png")
    print(f"{folder}/salient.png")


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()))
