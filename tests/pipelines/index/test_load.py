"""What an index says of itself is known without its rows, whichever version counted them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from adaptfocus.pipelines.index.load import IndexFacts, load_index, open_index
from adaptfocus.pipelines.index.parts import FACTS
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
