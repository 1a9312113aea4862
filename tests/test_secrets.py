"""The check for leaked secrets finds them, and what the stores say in their errors passes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import storage, store_errors
from pipelines.errors import StorageError
from tests.conftest import use_environment
from tests.secrets import SECRETS, assert_no_secret, environment_with_secrets


def test_a_leak_is_found_in_texts_files_and_folders(tmp_path: Path) -> None:
    log = tmp_path / "deep" / "run.log"
    log.parent.mkdir()
    log.write_text("all is well")
    assert_no_secret("all is well", b"all is well", log, tmp_path)
    log.write_text(f"signed with {SECRETS['AWS_SECRET_ACCESS_KEY']}")
    for thing in (log, tmp_path, log.read_text(), log.read_bytes()):
        with pytest.raises(AssertionError, match="leaked: AWS_SECRET_ACCESS_KEY in ") as caught:
            assert_no_secret(thing)
        assert SECRETS["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)


def test_an_unreachable_store_is_reported_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_errors, "RETRY_ATTEMPTS", 2)
    endpoint = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    use_environment(monkeypatch, environment_with_secrets(endpoint))
    with pytest.raises(StorageError) as caught:
        storage.write_bytes("s3://bucket/x", b"x")
    assert_no_secret(str(caught.value), repr(caught.value.__cause__))
