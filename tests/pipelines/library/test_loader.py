"""Clips in a torch DataLoader: with real workers, killed in mid-epoch and resumed with another number of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Subset

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.library import Clips, Index, open_index, uniform
from tests.pipelines.library.conftest import CLIP, DAMAGED
from tests.worlds import SmallWorld


def clips_of(index: Index, clips_per_video: int = 2, **more: Any) -> Clips:
    return Clips(index, uniform(index, CLIP, clips_per_video), CLIP, **({"isolation": None} | more))


def names(batch: dict[str, Any]) -> list[tuple[str, float]]:
    return list(zip(batch["video_id"], batch["center_seconds"].tolist(), strict=True))


def whole_epoch(index: Index, epoch: int = 0) -> list[tuple[str, float]]:
    clips = clips_of(index)
    clips.set_epoch(epoch)
    return [(each["video_id"], each["center_seconds"]) for each in clips]


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_batches_come_in_the_order_of_the_epoch(index: Index, workers: int) -> None:
    loader = clips_of(index).loader(5, workers)
    batches = list(loader)
    assert [len(batch["error"]) for batch in batches] == [5] * 7 + [1]
    assert len(loader) == 8
    assert [name for batch in batches for name in names(batch)] == whole_epoch(index)
    assert batches[0]["frames"].shape == (5, 4, 3, 20, 20)
    assert batches[0]["labels"].dtype == torch.float32
    assert torch.cat([batch["place"] for batch in batches]).tolist() == [*range(36)]


@pytest.mark.parametrize(("before", "after", "other_size"), [(2, 1, 4), (1, 3, 4), (2, 0, 7)])
def test_a_resume_with_other_workers_gives_the_rest_once(
    index: Index, before: int, after: int, other_size: int
) -> None:
    loader = clips_of(index).loader(4, before, prefetch_factor=3)
    seen: list[tuple[str, float]] = []
    for batch in loader:
        seen += names(batch)
        if len(seen) == 12:
            state = json.loads(json.dumps(loader.state_dict()))  # workers have read more by now
            break
    assert state["clips"] == 12
    resumed = clips_of(open_index(index.url)).loader(other_size, after)
    resumed.load_state_dict(state)
    assert len(resumed) == -(-12 // other_size) + -(-24 // other_size)
    for batch in resumed:
        seen += names(batch)
    assert seen == whole_epoch(index)


def test_ranks_share_each_step_and_may_change(index: Index) -> None:
    ranks = [clips_of(index).loader(3, 1, rank=rank, world_size=2) for rank in range(2)]
    seen: list[tuple[str, float]] = []
    for one, other in zip(*ranks, strict=True):
        seen += names(one) + names(other)
        if len(seen) == 18:
            break
    states = [loader.state_dict() for loader in ranks]
    assert states[0] == states[1]
    alone = clips_of(index).loader(4, 2)
    alone.load_state_dict(states[0])
    assert seen + [name for batch in alone for name in names(batch)] == whole_epoch(index)


def test_the_launchers_variables_say_which_rank(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    loader = clips_of(index).loader(9)
    assert [batch["place"].tolist() for batch in loader] == [[*range(9, 18)], [*range(27, 36)]]
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(ConfigError, match="RANK=one"):
        iter(loader).__next__()


def test_clips_that_no_rank_gets_are_counted(index: Index) -> None:
    loaders = [clips_of(index).loader(7, rank=rank, world_size=5) for rank in range(5)]
    assert {loader.left_out for loader in loaders} == {1}
    found = sorted(place for loader in loaders for batch in loader for place in batch["place"].tolist())
    assert found == [*range(35)]
    assert clips_of(index).loader(7, drop_last=True).left_out == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_each_iteration_is_an_epoch_also_for_workers_that_stay(index: Index, workers: int) -> None:
    more = {"persistent_workers": True} if workers else {}
    loader = clips_of(index).loader(6, workers, **more)
    for epoch in range(3):
        found = [name for batch in loader for name in names(batch)]
        assert found == whole_epoch(index, epoch)
        assert loader.epoch == epoch
    iterator = iter(loader)
    assert names(next(iterator)) == whole_epoch(index, 3)[:6]
    state = loader.state_dict()
    del iterator
    loader.load_state_dict(state)
    assert [name for batch in loader for name in names(batch)] == whole_epoch(index, 3)[6:]
    loader.set_epoch(1)
    assert names(next(iter(loader))) == whole_epoch(index, 1)[:6]


def test_a_position_at_the_end_begins_the_next_epoch(index: Index) -> None:
    loader = clips_of(index).loader(6)
    states = [loader.state_dict() for _ in loader]
    loader.load_state_dict(states[-1])
    assert names(next(iter(loader))) == whole_epoch(index, 1)[:6]


def test_a_bad_clip_is_a_value_in_a_worker(damaged: Index) -> None:
    moments = [(DAMAGED, 18.0), ("a-train-00001", 18.0)] * 2
    (batch,) = Clips(damaged, moments, CLIP).loader(4, 1)  # the worker decodes in a process of its own
    assert [error == "" for error in batch["error"]] == [False, True, False, True]
    assert [bool(frames.any()) for frames in batch["frames"]] == [False, True, False, True]
    here = Clips(damaged, moments, CLIP, isolation=None)
    assert (batch["frames"].numpy() == [each["frames"] for each in here]).all()


def test_a_transform_runs_where_the_clip_is_decoded(index: Index) -> None:
    import os

    def marked(sample: dict[str, Any]) -> dict[str, Any]:
        return {"x": torch.from_numpy(sample["frames"]).float(), "pid": os.getpid()}

    (batch,) = clips_of(index, 1, transform=marked).loader(18, 1)
    assert batch["x"].shape == (18, 4, 3, 20, 20)
    assert set(batch["pid"].tolist()) != {os.getpid()}


def test_torchs_own_loader_takes_clips_as_they_are(index: Index) -> None:
    """Map-style: with torch's samplers, subsets and collation."""
    clips = clips_of(index)
    found = [name for batch in DataLoader(clips, 5, num_workers=2) for name in names(batch)]  # type: ignore[arg-type]
    assert found == whole_epoch(index)
    mixed = DataLoader(clips, 5, shuffle=True, num_workers=1)  # type: ignore[arg-type]
    assert sorted(name for batch in mixed for name in names(batch)) == sorted(found)
    rest = DataLoader(Subset(clips, range(10, 36)), 5)  # type: ignore[arg-type]
    assert [name for batch in rest for name in names(batch)] == found[10:]


def test_what_would_change_the_order_is_refused(index: Index) -> None:
    for option in ({"shuffle": True}, {"sampler": [0]}, {"in_order": False}):
        with pytest.raises(ConfigError, match=f"{next(iter(option))}: the order of clips and batches is the sampler's"):
            clips_of(index).loader(4, **option)
    with pytest.raises(ConfigError, match="give both, or neither"):
        clips_of(index).loader(4, rank=0)
    with pytest.raises(ConfigError, match="rank 2 of 2"):
        clips_of(index).loader(4, rank=2, world_size=2)


def test_workers_read_a_bucket_that_this_process_has_read(small_world: SmallWorld, s3_url: str) -> None:
    """Forked workers inherit clients and event loops, of which they must use none."""
    from adaptfocus.pipelines import store
    from adaptfocus.pipelines.index.build import build_index

    shards = sorted((small_world.folder / "shards-test").glob("*.tar"))
    for shard in shards:
        store.write_bytes(store.join(s3_url, "shards", shard.name), shard.read_bytes())
    build_index([store.join(s3_url, "shards")], store.join(s3_url, "index"), classes=small_world.config.classes,
                workers=1)  # fmt: skip
    index = open_index(store.join(s3_url, "index"))
    clips = clips_of(index)
    mine = [each["frames"].copy() for each in clips]
    clips.set_epoch(0)
    theirs = torch.cat([batch["frames"] for batch in clips.loader(4, 2)])
    assert len(mine) == len(theirs) == 12
    assert all((one == other.numpy()).all() for one, other in zip(mine, theirs, strict=True))
