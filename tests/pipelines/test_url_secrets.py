"""No credential in a URL is used, saved or printed, in whatever form stores give it; innocent URLs stay."""

from __future__ import annotations

import pytest

from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import BadVideoError, InputError, StorageError
from adaptfocus.pipelines.store.reasons import as_storage_error
from adaptfocus.pipelines.store.urls import redact_url
from adaptfocus.pipelines.url_secrets import redact_secrets, secret_in
from adaptfocus.trainers.settings.run import TrainConfig

# Each with HIDDEN where the credential is.
SECRET = [
    "https://HIDDEN@host/x.tar",
    "https://user:HIDDEN@host:9000/x?y=1",
    "s3://AKIA1:HID/DEN@bucket/x",
    "simplecache::https://user:HIDDEN@host/x",
    "abfs://container:HIDDEN@account.dfs.core.windows.net/x",
    "https://host/x?X-Amz-Credential=HIDDEN&X-Amz-Signature=HIDDEN",
    "https://host/x?x-amz-security-token=HIDDEN",
    "https://host/x?X%2DAmz%2DSignature=HIDDEN",
    "https://storage.googleapis.com/b/x?X-Goog-Signature=HIDDEN",
    "https://storage.googleapis.com/b/x?GoogleAccessId=HIDDEN&Expires=1&Signature=HIDDEN",
    "https://bucket.s3.amazonaws.com/x?AWSAccessKeyId=HIDDEN&Expires=1&Signature=HIDDEN",
    "https://account.blob.core.windows.net/c/x?sv=2022-11-02&sp=r&sig=HIDDEN",
    "https://d1.cloudfront.net/x?Expires=1&Signature=HIDDEN&Key-Pair-Id=HIDDEN",
    "https://host/x?token=HIDDEN",
    "https://host/x#access_token=HIDDEN",
    "https://host/x?api_key=HIDDEN",
    "https://host/x?password=HIDDEN",
]
INNOCENT = [
    "http://host:9000/a@b", "s3://bucket/a:b@c", "/data/a:b@c", "data/x?token=1", "https://host/a?X-Amz=1",
    "https://host/x?versionId=3&name=sig", "abfs://container@account.dfs.core.windows.net/x", "sftp://user@host/x",
    "s3://bucket/signature/x.tar", "memory://x",
]  # fmt: skip


@pytest.mark.parametrize("url", SECRET)
def test_a_credential_is_refused_and_not_shown(url: str) -> None:
    for use in (store.check_url, store.read_bytes, store.exists, store.glob, store.check_writable):
        with pytest.raises(StorageError, match="contains credentials") as caught:
            use(url)
        assert "HID" not in str(caught.value)
    for text in (
        redact_url(url),
        redact_secrets(f"GET {url}: 403"),
        str(as_storage_error(url, OSError(f"403, url='{url}'"))),
    ):
        assert "HID" not in text
    with pytest.raises(StorageError, match="contains credentials"):
        TrainConfig(name="x", runs="runs", index="index", weights=url)


@pytest.mark.parametrize("url", INNOCENT)
def test_innocent_urls_stay_as_they_are(url: str) -> None:
    assert secret_in(url) is None
    assert store.check_url(url) == url
    assert redact_secrets(f"at {url} there") == f"at {url} there"


def test_names_from_data_stay_in_their_folder(tmp_path) -> None:
    out = tmp_path / "out"
    (out / "real").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (out / "link").symlink_to(tmp_path / "elsewhere")
    (out / "within").symlink_to(out / "real")
    for name in ("a.json", "new/a.json", "real/a.json", "within/a.json"):
        assert store.inside(str(out), *name.split("/")) == f"{out}/{name}"
    for name in ("../x.json", "a/../../x.json", "/etc/x", "s3://b/x", "./x", "link/x.json"):
        with pytest.raises(StorageError, match="would lead out of"):
            store.inside(str(out), name)
    assert store.inside("s3://b/out", "x.json") == "s3://b/out/x.json"
    with pytest.raises(StorageError, match="would lead out of s3://b/out"):
        store.inside("s3://b/out", "../x.json")


def test_no_error_of_ours_shows_one_whoever_prints_it() -> None:
    """A label, an id or a setting may be such a URL by mistake, and errors show what is wrong."""
    said = "the label 'https://host/x?X-Amz-Signature=HIDDEN' is not among the 2 classes"
    for error in (InputError(said), BadVideoError("label_not_in_classes", said)):
        assert str(error) == "the label 'https://host/x?X-Amz-Signature=...' is not among the 2 classes"
