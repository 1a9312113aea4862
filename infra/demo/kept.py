"""What the demo leaves to look at: its bucket as files of this machine, which every command reads without a server.

Input: the URL of the bucket while its server runs, a folder. Does: copies the objects, indexes the copied tars, and
writes the new places into the runs' settings. Output: FOLDER/{shards,index,runs} and FOLDER/weights.pt.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from adaptfocus.pipelines import store
from adaptfocus.pipelines.annotations.manifest import read_classes
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.store.strict_json import json_text
from adaptfocus.pipelines.worlds.config import SPLITS

PLACES = ("runs", "index", "weights")


def keep(bucket_url: str, folder: Path, classes_file: Path) -> None:
    """Make `folder` a copy of the bucket; what it held before is removed."""
    folder = folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    files, root = store.filesystem(bucket_url)
    for path in files.find(root):
        name = path.removeprefix(root).lstrip("/")
        if name.startswith("index/"):
            continue  # it names tars of the bucket
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(store.read_bytes(f"s3://{path}"))
    for split in SPLITS:
        shards, index = str(folder / "shards" / split), str(folder / "index" / split)
        build_index([shards], index, classes=read_classes(str(classes_file)), workers=1, isolation=None)
    for settings in folder.glob("runs/*/config.json"):
        values = json.loads(settings.read_text())
        values |= {key: values[key].replace(bucket_url, str(folder), 1) for key in PLACES if values.get(key)}
        settings.write_text(json_text(values, indent=1))


def next_steps(folder: Path) -> list[str]:
    """Commands that look at what is kept, as this terminal would find them."""
    command = "adaptfocus"
    if shutil.which(command) is None:
        here = Path(sys.argv[0])
        command = str(here) if here.name == command else f"{sys.executable} -m adaptfocus"
    test = f"--index {folder}/index/test"
    return [
        f"{command} runs {folder}/runs",
        f"{command} evaluate {folder}/runs/ours {test} --views 30 --name thirty",
        f"{command} extract {folder}/runs/ours {test} --out {folder}/features --split test",
    ]
