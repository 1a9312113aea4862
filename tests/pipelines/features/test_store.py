"""Features at a URL: complete or absent, of one kind, and readable by anything that reads Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import ConfigError, InputError
from adaptfocus.pipelines.features.store import (
    VideoFeatures,
    claim,
    finish,
    open_features,
    part_urls,
    parts_there,
    write_part,
)

SETTINGS: dict[str, Any] = {"kind": "pooled", "stride_seconds": 0.5, "run": "runs/a", "weights_sha256": "1f"}
COUNTS = {"packets_decoded": 5, "frames_converted": 3, "read_bytes": 100}
REFUSED = {"shard_url": "s.tar", "member_name": "x.mp4", "video_id": "x", "kind": "decode_error", "message": "broken",
           "video_row": 2}  # fmt: skip


def features(row: int, steps: int, shape: tuple[int, ...] = (4,)) -> VideoFeatures:
    values = np.random.default_rng(row).standard_normal((steps, *shape), np.float32)
    return VideoFeatures(f"v.{row}", row, "train", ("run", "sit"), steps / 2, np.arange(steps) / 2 + 0.25, values)


def written(url: str, shape: tuple[int, ...] = (4,)) -> list[VideoFeatures]:
    """Three videos in three parts, of which one is empty: its video was refused."""
    videos = [features(0, 3, shape), features(1, 5, shape), features(3, 2, shape)]
    claim(url, SETTINGS)
    write_part(url, "000000", [(each, COUNTS) for each in videos[:2]], [])
    write_part(url, "000001", [], [REFUSED])
    write_part(url, "000002", [(videos[2], COUNTS)], [])
    finish(url, ["000000", "000001", "000002"])
    return videos


def test_parts_are_listed_once_however_many_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, listed, names = str(tmp_path), [], [f"{number:06d}" for number in range(5)]
    claim(url, SETTINGS)
    for number, name in enumerate(names):
        write_part(url, name, [(features(number, 2), COUNTS)], [])
    real = store.list_files
    monkeypatch.setattr(store, "list_files", lambda place: listed.append(place) or real(place))
    assert finish(url, names)["videos"] == 5
    assert len(listed) == 1


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4)])
def test_what_is_written_is_what_is_read(s3_url: str, shape: tuple[int, ...]) -> None:
    videos = written(s3_url, shape)
    found = open_features(s3_url)
    assert (found.dim, found.stride_seconds, len(found)) == (4, 0.5, 3)
    assert found.video_ids == ["v.0", "v.1", "v.3"]
    for each, again in zip(videos, found, strict=True):
        alone = found.video(each.video_id)
        for one in (again, alone):
            assert (one.video_id, one.video_row, one.split, one.labels, one.duration_seconds) == (
                each.video_id, each.video_row, each.split, each.labels, each.duration_seconds
            )  # fmt: skip
            assert np.array_equal(one.features, each.features)
            assert np.array_equal(one.center_seconds, each.center_seconds)
            assert one.center_seconds.dtype == np.float64
    assert found.refused() == [REFUSED]
    facts = {name: found.facts[name] for name in ("videos", "steps", "refused", *COUNTS)}
    assert facts == {"videos": 3, "steps": 10, "refused": {"decode_error": 1}} | {k: 3 * n for k, n in COUNTS.items()}


def test_anybody_with_parquet_reads_the_same_bytes(tmp_path) -> None:
    videos = written(str(tmp_path))
    rows = pq.read_table(tmp_path / "parts").to_pylist()
    assert [row["video_id"] for row in rows] == [each.video_id for each in videos]
    for row, each in zip(rows, videos, strict=True):
        assert np.array_equal(np.float32(row["features"]).reshape(row["shape"]), each.features)


def test_features_that_are_not_complete_are_not_opened(tmp_path) -> None:
    url = str(tmp_path)
    with pytest.raises(InputError, match="there are no features at"):
        open_features(url)
    claim(url, SETTINGS)
    write_part(url, "000000", [(features(0, 3), COUNTS)], [])
    with pytest.raises(InputError, match=r"not complete \(1 parts.*give the command .* again"):
        open_features(url)
    assert parts_there(url) == {"000000"}
    with pytest.raises(InputError, match="1 of 2 parts are missing"):
        finish(url, ["000000", "000001"])


def test_a_folder_has_features_of_one_kind(tmp_path) -> None:
    """The place of the run may change, but its weights may not."""
    url = str(tmp_path)
    claim(url, SETTINGS)
    claim(url, SETTINGS | {"run": "moved/a"})
    with pytest.raises(ConfigError, match=r"other settings \(stride_seconds: 0.5 -> 1.0, weights_sha256: '1f' -> '2e'"):
        claim(url, SETTINGS | {"stride_seconds": 1.0, "weights_sha256": "2e"})


def test_a_video_in_two_parts_is_an_error(tmp_path) -> None:
    url = str(tmp_path)
    claim(url, SETTINGS)
    for name in ("000000", "000001"):
        write_part(url, name, [(features(0, 3), COUNTS)], [])
    with pytest.raises(InputError, match="1 videos are in its parts twice"):
        finish(url, ["000000", "000001"])


def test_what_is_asked_for_and_not_there_is_named(tmp_path) -> None:
    url = str(tmp_path)
    written(url)
    with pytest.raises(InputError, match=r"no features of 'v\.9'"):
        open_features(url).video("v.9")
    store.write_bytes(part_urls(url, "000002")[0], b"rubbish")
    with pytest.raises(InputError, match=r"000002\.parquet is not a part of features"):
        _ = open_features(url).video_ids
    with pytest.raises(ValueError, match="one row a step"):
        VideoFeatures("a", 0, None, (), 1.0, np.zeros(2), np.zeros((3, 4), np.float32))
