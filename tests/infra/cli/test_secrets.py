"""The check for leaked secrets finds them, and the errors of the stores pass it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from adaptfocus.infra.demo.local_s3 import LocalS3
from adaptfocus.pipelines import store
from adaptfocus.pipelines.errors import StorageError
from adaptfocus.pipelines.store import reasons
from tests.conftest import own_place, use_environment
from tests.secrets import SECRETS, assert_no_secret, environment_with_secrets
from tests.worlds import SmallWorld

PRESIGNED = {"the signature of a presigned URL": "5ec4e7leakprobe0007", "its credential": "AKIAQZ7PRESIGNED0008"}


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
    monkeypatch.setattr(reasons, "RETRY_ATTEMPTS", 2)
    endpoint = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    use_environment(monkeypatch, environment_with_secrets(endpoint))
    with pytest.raises(StorageError) as caught:
        store.write_bytes("s3://bucket/x", b"x")
    assert_no_secret(str(caught.value), repr(caught.value.__cause__))


def test_commands_that_succeed_write_and_print_no_secret(
    local_s3: LocalS3, small_world: SmallWorld, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Index, train, evaluate and report in a store, then check all files there and every line printed."""
    environment = environment_with_secrets(local_s3.environment)
    use_environment(monkeypatch, environment)
    url = own_place(request, local_s3)
    for path in sorted((small_world.folder / "shards-train").glob("*.tar")):
        store.write_bytes(f"{url}/shards/{path.name}", path.read_bytes())
    settings = [
        "small", "name=quiet", f"runs={url}/runs", f"index={url}/index", "epochs=1", "placement.engine=local",
        "clip.fps=4",
    ]  # fmt: skip
    done = commands(
        environment,
        ["index", f"{url}/shards", "--out", f"{url}/index"],
        ["train", *settings],
        ["evaluate", f"{url}/runs/quiet", "--index", f"{url}/index", "--views", "1", "--engine", "local"],
        ["report", f"{url}/runs/quiet", "--out", f"{url}/report.html"],
    )
    assert (done.returncode, "report: " in done.stdout) == (0, True), done.stderr[-2000:]
    assert_no_secret(done.stdout, done.stderr)
    fs, path = store.filesystem(url)
    fs.get(path, str(tmp_path / "everything"), recursive=True)
    names = {found.name for found in (tmp_path / "everything").rglob("*")}
    assert {"config.json", "index.json", "report.html", "ledger.parquet", "scores.json"} <= names
    assert_no_secret(tmp_path / "everything")


def commands(environment: dict[str, str], *words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does, in another process: one for several commands, so that it imports once.

    Its exit code is that of the commands, if that is the same for all.
    """
    code = (
        "import json, sys; from adaptfocus.infra.cli import app as cli\nfound = set()\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    sys.argv, code = ['adaptfocus', *words], 0\n"
        "    try: cli.main()\n"
        "    except SystemExit as stop: code = stop.code or 0\n"
        "    found.add(code)\n"
        "sys.exit(found.pop() if len(found) == 1 else 99)"
    )
    root = Path(__file__).resolve().parents[3]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", code, json.dumps(words)], cwd=root,
        env=kept | {"PYTHONPATH": str(root)} | environment, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def talkative_store() -> Iterator[str]:
    """A store that refuses requests and repeats everything that it was sent, as S3 does -> its endpoint."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            told = "".join(f"{name}: {value}; " for name, value in self.headers.items())
            signed = f"<StringToSign>AWS4 {told}</StringToSign><AWSAccessKeyId>{told}</AWSAccessKeyId>"
            body = f"<Error><Code>SignatureDoesNotMatch</Code><Message>No match.</Message>{signed}</Error>".encode()
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_commands_that_fail_print_no_secret(talkative_store: str, tmp_path: Path) -> None:
    """A store that repeats key and token in its refusal; a presigned URL that does not answer."""
    where = {"AWS_ENDPOINT_URL": talkative_store, "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1",
             "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip
    signature, credential = PRESIGNED.values()
    presigned = f"{talkative_store}/b/x.tar?X-Amz-Credential={credential}&X-Amz-Signature={signature}"
    done = commands(
        environment_with_secrets(where),
        ["index", "s3://b/x.tar", "--out", "s3://b/index"],
        ["train", "small", "name=x", "runs=s3://b/runs", "index=s3://b/index", "placement.engine=local"],
        ["report", "s3://b/runs/x", "--out", str(tmp_path / "report.html")],
        ["index", presigned, "--out", str(tmp_path / "index")],
    )
    assert (done.returncode, done.stderr.count("error:")) == (2, 4), done.stderr[-2000:]
    assert_no_secret(done.stdout, done.stderr, secrets=SECRETS | PRESIGNED)
