"""What an index says of itself is known without its rows, whichever version counted them."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.load import IndexFacts, load_index, open_index
from adaptfocus.pipelines.index.parts import FACTS
from adaptfocus.pipelines.store.range_file import RangeFile
from tests.footage import write_tar
from tests.pipelines.index.tar_samples import index, sample


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """An index of two shards: videos with 1, 3 and 0 labels."""
    shards = [
        write_tar(
            tmp_path / "s-0.tar", {**sample("a", {"labels": ["run"]}), **sample("b", {"labels": ["run", "sit", "eat"]})}
        ),
        write_tar(tmp_path / "s-1.tar", sample("c", {"labels": []})),
    ]
    index(*shards, out=tmp_path / "index")
    return tmp_path / "index"


def test_the_facts_are_those_of_the_rows_and_no_row_is_read(made: Path) -> None:
    fingerprint = load_index(str(made)).fingerprint
    shutil.rmtree(made / "videos")
    assert open_index(str(made)) == IndexFacts(3, 1, 3, ["eat", "run", "sit"], fingerprint)


def test_labels_that_an_earlier_version_did_not_count_are_counted(made: Path) -> None:
    facts, place = open_index(str(made)), made / "index.json"
    entry = json.loads(place.read_bytes())
    for part in entry["parts"]:
        del part["facts"]["max_labels"]
    place.write_text(json.dumps(entry))
    assert open_index(str(made)) == facts


def test_indexing_again_counts_them_and_reads_no_shard(made: Path) -> None:
    facts = open_index(str(made))
    for url in (made / "videos").iterdir():
        table = pq.read_table(url)
        said = json.loads(table.schema.metadata[FACTS])
        del said["max_labels"]
        pq.write_table(table.replace_schema_metadata({FACTS: json.dumps(said)}), url)
    assert index(*sorted(made.parent.glob("*.tar")), out=made).shards_read == 0
    shutil.rmtree(made / "videos")
    assert open_index(str(made)) == facts


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"parts": []}, "it names no shards"),
        ({"classes": "abc"}, "its classes are not a list of names"),
        ({"fingerprint": None}, "it has no fingerprint"),
        ({"facts": None}, "part 0 has no name or no facts"),
        ({"rows": "2"}, "part 0 has '2' rows, 0 of them without a label"),
        ({"unlabelled": 3}, "part 0 has 2 rows, 3 of them without a label"),
        ({"max_labels": -1}, "part 0 has up to -1 labels a video, of 3 classes"),
        ({"max_labels": 10**9}, "part 0 has up to 1000000000 labels a video"),
        ({"max_labels": 0}, "part 0 has up to 0 labels a video"),  # and videos with labels
    ],
)
def test_facts_that_cannot_be_are_an_error_before_anything_relies_on_them(made: Path, changed: dict, said: str) -> None:
    """A largest number of labels that is too small was a shape error in the middle of the first step."""
    place = made / "index.json"
    entry = json.loads(place.read_bytes())
    for name, value in changed.items():
        at = entry if name in entry else entry["parts"][0]
        (at if name in at else at["facts"])[name] = value
    place.write_text(json.dumps(entry))
    for read in (open_index, load_index):
        with pytest.raises(InputError, match=rf"index.json is damaged \({said}.*run `adaptfocus index` again"):
            read(str(made))


def test_an_index_whose_parts_have_other_videos_is_an_error(made: Path) -> None:
    place = made / "index.json"
    entry = json.loads(place.read_bytes())
    entry["parts"][0]["facts"]["rows"] = 7
    place.write_text(json.dumps(entry))
    with pytest.raises(InputError, match=r"index.json says 8 videos, and its parts have 3"):
        load_index(str(made))


def test_rows_are_read_in_the_threads_that_ask_for_them(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of Arrow's that holds one of our files while the interpreter ends would abort the process."""
    strange, real = [], RangeFile.read

    def read(file: RangeFile, size: int = -1) -> bytes:
        if isinstance(threading.current_thread(), threading._DummyThread):  # Python did not start it
            strange.append(threading.current_thread().name)
        return real(file, size)

    monkeypatch.setattr(RangeFile, "read", read)
    assert (
        load_index(str(made), ["video_id", "labels", "intervals", "duration_seconds", "extradata"]).table.num_rows == 3
    )
    assert strange == []
