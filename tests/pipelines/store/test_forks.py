"""A process that is forked while this one has connections to a store: workers of a DataLoader are."""

from __future__ import annotations

import gc
import multiprocessing
import weakref

from adaptfocus.pipelines import store
from adaptfocus.pipelines.store import urls


def test_a_fork_does_not_close_the_connections_of_its_parent(s3_url: str) -> None:
    """s3fs would do so as it collects them, and say in each worker that an exception was never retrieved."""
    place = store.join(s3_url, "a")
    store.write_bytes(place, b"parent")
    ours = weakref.ref(urls.filesystem(place)[0])

    def read_there() -> None:
        assert store.read_bytes(place) == b"parent"
        gc.collect()
        assert ours() is not None
        assert urls.filesystem(place)[0] is not ours(), "it has connections of its own"

    process = multiprocessing.get_context("fork").Process(target=read_there)
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert not urls._kept, "the parent keeps nothing"
