"""What the demo leaves: the bucket as files, which commands can read after its server has ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptfocus.infra.demo.kept import keep, next_steps
from adaptfocus.pipelines import store as storage
from adaptfocus.pipelines.index.build import build_index
from adaptfocus.pipelines.index.load import load_index
from tests.footage import encode, write_tar


def test_a_bucket_is_kept_as_files_with_places_of_their_own(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = encode(20)
    for split in ("train", "test"):
        members = {f"{split}.mp4": video, f"{split}.json": json.dumps({"labels": ["run"]}).encode()}
        tar = write_tar(tmp_path / f"{split}.tar", members).read_bytes()
        storage.write_bytes(f"{s3_url}/shards/{split}/0.tar", tar)
        build_index([f"{s3_url}/shards/{split}"], f"{s3_url}/index/{split}", classes=["run"], workers=1, isolation=None)
    settings = {"runs": f"{s3_url}/runs", "index": f"{s3_url}/index/train", "weights": None, "seed": 3}
    storage.write_bytes(f"{s3_url}/runs/ours/config.json", json.dumps(settings).encode())
    (tmp_path / "classes.txt").write_text("run\n")
    (tmp_path / "store" / "old").mkdir(parents=True)
    keep(s3_url, tmp_path / "store", tmp_path / "classes.txt")
    monkeypatch.delenv("AWS_ENDPOINT_URL")  # the server is gone
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    store = tmp_path / "store"
    kept = load_index(str(store / "index" / "test"))
    assert kept.table.column("video_id").to_pylist() == ["test"]
    assert kept.table.column("shard_url").to_pylist() == [str(store / "shards" / "test" / "0.tar")]
    assert json.loads((store / "runs" / "ours" / "config.json").read_text()) == settings | {
        "runs": str(store / "runs"),
        "index": str(store / "index" / "train"),
    }
    assert not (store / "old").exists(), "nothing of an earlier demo stays"
    assert any(f" runs {store}/runs" in line for line in next_steps(store))
