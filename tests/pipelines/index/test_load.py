"""What an index says of itself is known without its rows, and what is damaged is named before anything relies on it."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.load import IndexFacts, load_index, open_index, read_partitions
from adaptfocus.pipelines.index.partitions import read_manifest
from adaptfocus.pipelines.store.range_file import RangeFile
from tests.footage import write_tar
from tests.pipelines.index.tar_samples import index, refused_rows, sample


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of two shards: videos with 1, 3 and 0 labels, and one that is refused."""
    folder = tmp_path_factory.mktemp("made")
    some = {**sample("a", {"labels": ["run"]}), **sample("b", {"labels": ["run", "sit", "eat"]}), "bad.mp4": b"?"}
    shards = [write_tar(folder / "s-0.tar", some), write_tar(folder / "s-1.tar", sample("c", {"labels": []}))]
    index(*shards, out=folder / "index")
    return folder / "index"


@pytest.fixture
def made(original: Path, tmp_path: Path) -> Path:
    read_manifest.cache_clear()
    return Path(shutil.copytree(original, tmp_path / "index"))


def test_the_facts_are_those_of_the_rows_and_no_row_is_read(made: Path) -> None:
    fingerprint = load_index(str(made)).fingerprint
    shutil.rmtree(made / "rows")
    shutil.rmtree(made / "manifests")
    counts = {"eat": 1, "run": 2, "sit": 1}
    assert open_index(str(made)) == IndexFacts(3, 1, 3, ["eat", "run", "sit"], fingerprint, counts)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"manifests": []}, "it names no partitions"),
        ({"manifests": ["../../x"]}, "its manifests are not a list of names"),
        ({"shard_lists": None}, "its shard_lists are not a list of names"),
        ({"refused_lists": ["0123456789abcdef"]}, "its refused_lists do not say their generation"),
        ({"classes": "abc"}, "its classes are not a list of names"),
        ({"fingerprint": None}, "it has no fingerprint"),
        ({"number": 7}, "it is number 7 after None"),
        ({"parent": 3}, "it is number 0 after 3"),
        ({"videos": "2"}, "it has '2' videos, 1 of them without a label"),
        ({"unlabelled": 4}, "it has 3 videos, 4 of them without a label"),
        ({"next_uid": True}, "it has 3 videos"),
        ({"max_labels": -1}, "it has up to -1 labels a video, of 3 classes"),
        ({"max_labels": 10**9}, "it has up to 1000000000 labels a video"),
        ({"max_labels": 0}, "it has up to 0 labels a video"),  # and videos with labels
        ({"label_counts": {"eat": 1}}, "its counts of labels are not those of its classes"),
        ({"label_counts": {"eat": 1, "run": 4, "sit": 1}}, "its counts of labels are not those of its classes"),
        ({"refused": {"x": "y"}}, "its counts of what was refused are not numbers"),
    ],
)
def test_facts_that_cannot_be_are_an_error_before_anything_relies_on_them(made: Path, changed: dict, said: str) -> None:
    """A largest number of labels that is too small was a shape error in the middle of the first step."""
    place = made / "snapshots" / "000000.json"
    place.write_text(json.dumps(json.loads(place.read_bytes()) | changed))
    for read in (open_index, load_index, read_partitions):
        with pytest.raises(InputError, match=rf"000000.json is damaged \({said}.*run `adaptfocus index` again"):
            read(str(made))


def test_a_snapshot_whose_manifests_have_other_videos_is_an_error(made: Path) -> None:
    place = made / "snapshots" / "000000.json"
    place.write_text(json.dumps(json.loads(place.read_bytes()) | {"videos": 8}))
    with pytest.raises(InputError, match=r"000000.json is damaged \(it says 8 videos, and its manifests 3\)"):
        load_index(str(made))


@pytest.mark.parametrize("folder", ["rows", "manifests", "refused", "shards"])
def test_a_damaged_object_is_named_with_the_fix(made: Path, folder: str) -> None:
    (place,) = (made / folder).iterdir()
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(data)
    with pytest.raises(InputError, match=rf"{folder}/{place.name} is damaged .* run `adaptfocus index` again"):
        (refused_rows if folder in ("refused", "shards") else lambda out: load_index(str(out)))(made)


def test_a_damaged_snapshot_gives_way_to_the_one_before_if_it_is_removed(made: Path) -> None:
    facts, place = open_index(str(made)), made / "snapshots" / "000001.json"
    place.write_text("{")
    with pytest.raises(InputError, match=r"000001.json is damaged .*; remove it and run `adaptfocus index` again"):
        open_index(str(made))
    place.unlink()
    assert open_index(str(made)) == facts


def test_rows_are_read_in_the_threads_that_ask_for_them(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of Arrow's that holds one of our files while the interpreter ends would abort the process."""
    strange, real = [], RangeFile.read

    def read(file: RangeFile, size: int = -1) -> bytes:
        if isinstance(threading.current_thread(), threading._DummyThread):  # Python did not start it
            strange.append(threading.current_thread().name)
        return real(file, size)

    monkeypatch.setattr(RangeFile, "read", read)
    assert load_index(str(made), ["video_id", "labels", "intervals", "extradata"]).table.num_rows == 3
    assert strange == []
