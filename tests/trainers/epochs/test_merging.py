"""An epoch that is merged by windows of partitions has the snapshot, bit for bit, that the whole corpus would have."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.index.partitions import Partition, write_partition
from adaptfocus.pipelines.over import in_this_process
from adaptfocus.pipelines.plan.planner import Planner
from adaptfocus.pipelines.plan.published import PlanFacts, Window, publish
from adaptfocus.pipelines.saliency.snapshot import SaliencyTable, merge
from adaptfocus.pipelines.schemas import EXCLUDED_SCHEMA, INDEX_SCHEMA, LEDGER_SCHEMA
from adaptfocus.pipelines.settings import make
from adaptfocus.pipelines.store.tables import write_table
from adaptfocus.trainers.diagnosis.summary import diagnose
from adaptfocus.trainers.epochs.merging import add_failed, merge_epoch
from adaptfocus.trainers.inputs.run_index import read_videos
from adaptfocus.trainers.runs import releases
from adaptfocus.trainers.runs.log import Commit, Lineage, Run
from adaptfocus.trainers.runs.snapshots import (
    Manifest,
    PartitionFiles,
    read_excluded,
    read_excluded_count,
    read_excluded_of,
    read_left_out,
    read_manifest,
    read_saliency_of,
    write_manifest,
)
from adaptfocus.trainers.settings.run import TrainConfig
from tests.trainers.diagnosis.test_summary import CLASSES, assert_same, spans_of

UIDS = (0, 1, 2, 5, 9)
BAD = (1 << 24 | 0, 5 << 24 | 2, 5 << 24 | 1)  # videos that do not decode


@dataclasses.dataclass
class Corpus:
    """Five partitions of five videos, and a run that has planned nothing of them yet."""

    config: TrainConfig
    partitions: dict[int, Partition]

    @classmethod
    def made(cls, folder: Path) -> Corpus:
        random = np.random.default_rng(5)
        saliency = {"bins": 6, "staleness": 0.5}
        values = {"name": "run", "runs": str(folder), "index": str(folder / "index"), "epochs": 4, "saliency": saliency}
        config = make(TrainConfig, values | {"focus": {"warmup_epochs": 1}, "max_bad_share": 0.5})
        partitions = {}
        for uid in UIDS:
            rows = []
            for number in range(5):
                labels = sorted(random.choice(CLASSES, int(random.integers(0, 4)), replace=False).tolist())
                own = {"video_id": f"v{uid}-{number}", "shard_url": f"s{uid}.tar", "member_name": f"{number}.mp4"}
                own |= {"labels": labels, "intervals": spans_of(random, labels), "duration_seconds": 20.0 + number}
                rows.append(own)
            partitions[uid], _ = write_partition(config.index, uid, pa.Table.from_pylist(rows, INDEX_SCHEMA), (0, 1))
        write_manifest(Run(config.url), 0, {})
        return cls(config, partitions)

    @property
    def run(self) -> Run:
        return Run(self.config.url)

    def planner(self) -> Planner:
        columns = ["video_id", "shard_url", "member_name", "labels", "intervals", "duration_seconds"]
        return Planner.of(read_videos(self.config, [*self.partitions.values()], columns), CLASSES)

    def plan(self, epoch: int, lead: Sequence[int], windows: Sequence[tuple[int, ...]]) -> list[int]:
        """Publish which slots windows have -> the video of each slot."""
        rows, facts = [*lead], [Window(tuple({row >> 24 for row in lead}), 0, len(lead))]
        for uids in windows:
            own = [uid << 24 | number for number in range(5) for uid in uids]
            facts.append(Window(uids, len(rows), len(own)))
            rows += own
        publish(PlanFacts(self.run.epoch_url(epoch, "plan"), epoch, len(rows), tuple(facts), (7,), 3))
        return rows

    def bags(self, rows: Sequence[int], first_slot: int, seed: int = 0) -> pa.Table:
        """What training says of the bags of these videos."""
        random, planner = np.random.default_rng((first_slot, seed)), self.planner()
        found = []
        for slot, row in enumerate(rows, first_slot):
            labels, ok = planner.label_ids[int(planner.places([row])[0])], row not in BAD
            p = random.random(3 * len(labels), dtype=np.float32).tolist()
            bag = {
                "slot": slot,
                "video_row": row,
                "ok": ok,
                "kind": "" if ok else "decode_error",
                "error": "" if ok else "bad",
            }
            bag |= {"tau": random.random(3).tolist(), "label_ids": [*labels], "probability": p, "clip_id": [slot] * 3}
            found.append(bag | dict.fromkeys(("null_rank", "null_variance"), [0.5] * len(labels)))
        return pa.Table.from_pylist(found, LEDGER_SCHEMA)

    def train(self, epoch: int, rows: Sequence[int], cuts: Sequence[int], last: Commit | None, seed: int = 0) -> Commit:
        """Commit the bags of an epoch, at these cursors and at its end. Two ranks have every second bag each."""
        lineage, _ = self.run.claim(2)
        for first, end in zip(
            [last.cursor if last and last.epoch == epoch else 0, *cuts], [*cuts, len(rows)], strict=True
        ):
            last = commit(lineage, epoch, end, len(rows), last, self.bags(rows[first:end], first, seed))
        assert last is not None
        return last

    def merge(self, epoch: int, last: Commit, over: Callable = in_this_process) -> Manifest:
        manifest, plan = merge_epoch(self.run, self.config, self.partitions, CLASSES, epoch, last, over)
        assert plan.carried == (7,)
        write_manifest(self.run, epoch + 1, manifest)
        return manifest

    def saliency(self, manifest: Manifest) -> SaliencyTable:
        return read_saliency_of(self.run, manifest, self.planner(), self.config.saliency)


def commit(lineage: Lineage, epoch: int, cursor: int, bags: int, last: Commit | None, rows: pa.Table) -> Commit:
    folder = lineage.folder(epoch, cursor)
    lineage.write_ledger(folder, [rows.take([*range(rank, rows.num_rows, 2)]) for rank in range(2)])
    return lineage.commit(folder, epoch, cursor, bags, last, {})


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus.made(tmp_path)


def two_epochs(corpus: Corpus) -> tuple[list[Commit], list[Manifest]]:
    """In the first, the lead has bags of a window's videos and of a partition that no window has, and a commit ends in
    a window. The second has bags only of partitions 1 and 9."""
    rows = corpus.plan(0, [1 << 24 | 1, 9 << 24 | 3, 2 << 24 | 4, 9 << 24 | 3], [(5, 1), (0, 2)])
    ends = [corpus.train(0, rows, [2, 9, 20], None)]
    made = [corpus.merge(0, ends[0])]
    rows = corpus.plan(1, [9 << 24 | 3], [(1,)])
    ends.append(corpus.train(1, rows, [], ends[0]))
    return ends, [*made, corpus.merge(1, ends[1])]


def test_windows_give_the_snapshot_of_the_whole_corpus(corpus: Corpus) -> None:
    ends, manifests = two_epochs(corpus)
    planner = corpus.planner()
    before, left_out = planner.empty_saliency(corpus.config.saliency), EXCLUDED_SCHEMA.empty_table()
    for epoch, (end, manifest) in enumerate(zip(ends, manifests, strict=True)):
        ledger = corpus.run.ledger(end)
        wanted = merge(before, ledger, epoch, corpus.config.saliency)
        assert corpus.saliency(manifest).to_arrow().equals(wanted.to_arrow())
        left_out = add_failed(planner.table, left_out, ledger, epoch)
        excluded = read_excluded_of(corpus.run, manifest)
        assert excluded.sort_by("video_row").equals(left_out.sort_by("video_row"))
        assert read_left_out(corpus.run, manifest) == set(BAD)
        found = json.loads(store.read_bytes(corpus.run.epoch_url(epoch, "summary.json")))
        assert found.pop("excluded") == 3
        if epoch == 0:  # of the second, only those partitions are summed up that it has touched
            assert_same(found, diagnose(corpus.config, planner, before, wanted, ledger, epoch))
        before = wanted
    assert read_manifest(corpus.run, 2) == manifests[1]
    assert excluded.filter(pc.field("video_row") == BAD[0]).to_pylist() == [
        {"video_id": "v1-0", "shard_url": "s1.tar", "member_name": "0.mp4", "kind": "decode_error", "message": "bad",
         "video_row": BAD[0], "epoch": 0}
    ]  # fmt: skip


def test_what_an_epoch_does_not_touch_keeps_its_files(corpus: Corpus) -> None:
    first, second = two_epochs(corpus)[1]
    assert [uid for uid in UIDS if first[uid] != second[uid]] == [1, 9]
    assert second[1].saliency.startswith("epochs/0002/saliency/000001-")
    assert second[1].excluded == first[1].excluded, "nothing else of it failed"
    assert [second[5].excluded_rows, second[5].pairs] == [2, len(read_pairs(corpus, 5))]
    assert len(list(Path(corpus.config.url, "epochs", "0002", "saliency").iterdir())) == 2
    assert not Path(corpus.config.url, "epochs", "0002", "excluded").exists()


def read_pairs(corpus: Corpus, uid: int) -> list[int]:
    rows = corpus.saliency(read_manifest(corpus.run, 1)).video_row
    return rows[rows >> 24 == uid].tolist()


def test_merging_twice_in_any_order_writes_the_same_bytes(corpus: Corpus) -> None:
    ends, manifests = two_epochs(corpus)
    before = bytes_of(corpus)

    def backwards_and_again(items: Sequence, function: Callable) -> Iterator:
        for item in reversed(items):
            function(item)
        return in_this_process(items, function)

    for epoch, (end, manifest) in enumerate(zip(ends, manifests, strict=True)):
        assert corpus.merge(epoch, end, backwards_and_again) == manifest
    assert bytes_of(corpus) == before


def bytes_of(corpus: Corpus) -> dict[str, str]:
    files = [path for path in Path(corpus.config.url, "epochs").rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_merge_of_what_was_rolled_back_does_not_count(corpus: Corpus) -> None:
    """A process merged the epoch. Its last state was damaged, and the bags after slot 9 were trained again."""
    rows = corpus.plan(0, [], [(1, 5), (0, 2), (9,)])
    half = corpus.train(0, rows[:9], [], None)
    stale = corpus.merge(0, corpus.train(0, rows, [], half))
    again = corpus.train(0, rows, [], half, seed=1)
    found = corpus.merge(0, again)
    assert all(stale[uid].saliency != found[uid].saliency for uid in UIDS)
    empty = corpus.planner().empty_saliency(corpus.config.saliency)
    wanted = merge(empty, corpus.run.ledger(again), 0, corpus.config.saliency)
    assert corpus.saliency(found).to_arrow().equals(wanted.to_arrow())
    assert not corpus.saliency(stale).to_arrow().equals(wanted.to_arrow()), "its files are there still"


def test_releases_change_only_the_partitions_of_their_videos(corpus: Corpus) -> None:
    rows = corpus.plan(0, [], [(1, 5), (0, 2, 9)])
    first = corpus.merge(0, end := corpus.train(0, rows, [], None))
    assert read_left_out(corpus.run, first) == set(BAD)
    releases.release(corpus.run, {BAD[0]: "v1-0", BAD[1]: "v5-2", 0: "never left out"})
    again = corpus.merge(0, end)
    assert again == first, "which releases count was decided before"
    rows = corpus.plan(1, [], [(0, 2)])
    second = corpus.merge(1, corpus.train(1, rows, [], end))
    assert read_left_out(corpus.run, second) == {BAD[2]}
    assert (second[1].excluded, second[1].excluded_rows, second[1].saliency) == ("", 0, first[1].saliency)
    assert second[5].excluded.startswith("epochs/0002/excluded/000005-")
    assert read_excluded_of(corpus.run, second)["video_id"].to_pylist() == ["v5-1"]
    corpus.config = corpus.config.model_copy(update={"max_bad_share": 0.01})
    with pytest.raises(
        InputError, match=r"1 of 25 videos could not be decoded, .*; the last: v5-1 \(decode_error: bad\)"
    ):
        corpus.merge(1, corpus.run.newest()[1] or end)


def test_a_run_of_an_earlier_version_is_refused_but_still_says_what_it_left_out(corpus: Corpus) -> None:
    """The list of runs, a report and the quarantine show finished runs of earlier versions."""
    old = corpus.planner().empty_saliency(corpus.config.saliency).to_arrow()
    write_table(old, corpus.run.epoch_url(1, "saliency.parquet"))
    with pytest.raises(InputError, match=r"an earlier version of adaptfocus began .*run\. Begin the run again"):
        read_manifest(corpus.run, 1)
    row = dict.fromkeys(EXCLUDED_SCHEMA.names, "bad") | {"video_row": 3, "epoch": 0}
    left_out = pa.Table.from_pylist([row], schema=EXCLUDED_SCHEMA)
    write_table(left_out, corpus.run.epoch_url(1, "excluded.parquet"))
    assert read_excluded(corpus.run, 1) == left_out
    assert read_excluded_count(corpus.run, 1) == 1


def test_an_epoch_that_is_not_trained_to_its_end_is_not_merged(corpus: Corpus) -> None:
    rows = corpus.plan(0, [], [(1, 5)])
    half = corpus.train(0, rows[:4], [], None)
    with pytest.raises(InputError, match="epoch 1 has no final checkpoint"):
        corpus.merge(0, half)


@pytest.mark.parametrize(
    "path", ["../other/epochs/0001/saliency/000000-0123456789abcdef.parquet", "/etc/x", "s3://b/x"]
)
def test_a_manifest_that_leads_out_of_its_run_is_refused(corpus: Corpus, path: str) -> None:
    for name in ("saliency", "excluded"):
        write_manifest(corpus.run, 1, {0: PartitionFiles(0, **{name: path})})
        with pytest.raises(InputError, match=r"saliency\.parquet is damaged: it names .*copy the run's folder again"):
            read_manifest(corpus.run, 1)
