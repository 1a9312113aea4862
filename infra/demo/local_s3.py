"""An S3 server for this machine: what the demo and the tests store into when no bucket is at hand.

Input: nothing, or a port. Does: runs `infra.demo.s3_server` in a process of its own, so that it shares no interpreter
lock with the work it serves, and ends it with the work. Output: an endpoint and a bucket, as the environment
variables that every S3 client reads.

    with LocalS3() as s3:
        os.environ.update(s3.environment)
        storage.write_bytes(s3.url("a", "b"), b"...")

Everything in it is gone when it ends.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

import adaptfocus
from adaptfocus.infra.demo.s3_server import HOST
from adaptfocus.pipelines.errors import AdaptFocusError

BUCKET = "adaptfocus"
# It takes 0.5 to 2 s on two busy cores, most of it importing moto; well past that, something else is wrong.
READY_SECONDS = 60.0
_LOG_TAIL_LINES = 5


class LocalS3Error(AdaptFocusError):
    """The local S3 server could not be started."""


class LocalS3:
    """The server as a context manager; it ends with the `with` block or with this process, even a killed one.

    Args:
        folder: where its log (``local_s3.log``) and objects over 16 MiB are kept; without one, a temporary folder
            that is removed at the end.
        port: 0 takes a free one.
        bucket: created at the start.
    """

    program = "adaptfocus.infra.demo.s3_server"  # the module that is run

    def __init__(self, folder: str | Path | None = None, port: int = 0, bucket: str = BUCKET) -> None:
        self.bucket = bucket
        self.port = port
        self._folder = Path(folder) if folder is not None else None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> LocalS3:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            LocalS3Error: moto is not installed, the port is taken, or there is no answer in READY_SECONDS.
        """
        if self._folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="adaptfocus-s3-")
        folder = Path(self._temporary.name) if self._temporary else Path(self._folder or ".")
        folder.mkdir(parents=True, exist_ok=True)
        log_path = folder / "local_s3.log"
        command = [sys.executable, "-m", self.program, "--port", str(self.port), "--bucket", self.bucket]
        command += ["--parent-pid", str(os.getpid())]
        with log_path.open("w") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=_child_environment(folder),
                start_new_session=True,  # Ctrl-C is for us: what we then still write has to have a place to go
            )
        try:
            self.port = self._await_port(self._process, log_path)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server; everything stored in it is gone. Nothing happens if it does not run."""
        if self._process is not None:
            self._process.kill()  # it holds nothing that a polite end would save
            self._process.wait()
            if self._process.stdout:
                self._process.stdout.close()
            self._process = None
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    @property
    def pid(self) -> int | None:
        """The server's process id, None if it does not run."""
        return self._process.pid if self._process else None

    @property
    def endpoint_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def url(self, *parts: str) -> str:
        """``s3.url("run", "plan.parquet") -> "s3://adaptfocus/run/plan.parquet"``."""
        return "/".join([f"s3://{self.bucket}", *parts])

    @property
    def environment(self) -> dict[str, str]:
        """What to put into `os.environ`, here and in every process that is to use this server.

        Both endpoint names are set, because the service's own wins over the general one, and loopback is taken
        out of any proxy's hands.
        """
        no_proxy = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
        no_proxy = ",".join(dict.fromkeys([*filter(None, no_proxy.split(",")), HOST, "localhost"]))
        return {
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ENDPOINT_URL_S3": self.endpoint_url,
            "NO_PROXY": no_proxy,
            "no_proxy": no_proxy,
        }

    def _await_port(self, process: subprocess.Popen[str], log_path: Path) -> int:
        assert process.stdout is not None
        waits = selectors.PollSelector()
        waits.register(process.stdout, selectors.EVENT_READ)
        ready = waits.select(READY_SECONDS)
        line = process.stdout.readline() if ready else ""
        if line.startswith("port "):
            return int(line.split()[1])
        why = "it ended at once" if ready else f"no answer in {READY_SECONDS:.0f} s"
        tail = "\n".join(f"    {text}" for text in log_path.read_text().splitlines()[-_LOG_TAIL_LINES:])
        raise LocalS3Error(
            f"the local S3 server did not start on {HOST}, port {self.port} (0: a free one): {why}. "
            "If moto is missing, pip install 'adaptfocus[demo]'; if the port is taken, choose another. "
            f"The end of its log:\n{tail}"
        )


def _child_environment(folder: Path) -> dict[str, str]:
    """This environment, with this package importable from any working directory and spill files in `folder`."""
    root = str(Path(adaptfocus.__file__).resolve().parents[1])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(folder.resolve())}
