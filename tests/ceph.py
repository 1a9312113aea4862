"""A real, strict S3 store on this machine: Ceph's gateway over one monitor and one storage daemon in memory.

It needs Debian's packages radosgw, ceph-mon, ceph-osd and ceph-common. The three daemons run on free loopback ports, as
children of this process, and offer one user and one bucket.

The store refuses a wrong secret, answers ranges with 206 and pages its listings. Its errors have a code but no text. It
takes about 12 s to start, and 315 MB of memory.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import uuid
from pathlib import Path
from types import TracebackType

import botocore.exceptions
import botocore.session

BUCKET = "ceph-tests"
ACCESS_KEY, SECRET_KEY = "AKTEST", "SKTEST"
PROGRAMS = ("radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd", "ceph-authtool", "monmaptool")
READY_SECONDS = 120.0

_CONFIG = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}]
public network = 127.0.0.0/8
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
keyring = {folder}/keyring
run dir = {folder}
pid file = {folder}/$name.pid
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
mon data avail crit = 1
mon data avail warn = 2
[mon.a]
mon data = {folder}/mon
[osd.0]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd class load list = *
osd class default list = *
[client.admin]
rgw frontends = beast endpoint=127.0.0.1:{gateway}
rgw dns name =
rgw data = {folder}/rgw
"""


def missing_programs() -> list[str]:
    """The programs of Ceph that are not installed here."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


class CephGateway:
    """The three daemons as a context manager. Raises RuntimeError with the place of the logs if they do not start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._daemons: list[subprocess.Popen[bytes]] = []

    @property
    def port(self) -> int:
        """The port of the gateway, on loopback."""
        return self._port

    @property
    def environment(self) -> dict[str, str]:
        endpoint_url = f"http://127.0.0.1:{self._port}"
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint_url,
            "AWS_ENDPOINT_URL_S3": endpoint_url,
        }

    def url(self, *parts: str) -> str:
        return "/".join([f"s3://{BUCKET}", *parts])

    def add_key(self, access_key: str, secret_key: str) -> None:
        """Add another key to the same user."""
        keys = (f"--access-key={access_key}", f"--secret-key={secret_key}", "--key-type=s3")
        self._run("radosgw-admin", "key", "create", "--uid=test", *keys)

    def remove_key(self, access_key: str) -> None:
        """Remove a key, which the gateway refuses from now on."""
        self._run("radosgw-admin", "key", "rm", "--uid=test", "--key-type=s3", f"--access-key={access_key}")

    def __enter__(self) -> CephGateway:
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for daemon in reversed(self._daemons):
            daemon.kill()
            daemon.wait()
        self._daemons.clear()

    def _start(self) -> None:
        for name in ("mon", "osd", "rgw"):
            (self.folder / name).mkdir(parents=True)
        mon_v2, mon_v1, self._port = _free_ports(3)
        fsid = str(uuid.uuid4())
        config = _CONFIG.format(fsid=fsid, mon_v2=mon_v2, mon_v1=mon_v1, gateway=self._port, folder=self.folder)
        (self.folder / "ceph.conf").write_text(config)
        keyring, monmap = self.folder / "keyring", self.folder / "monmap"
        address = f"[v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}]"
        all_caps = [part for name in ("mon", "osd", "mgr", "mds") for part in ("--cap", name, "allow *")]
        self._run("monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", address, str(monmap))
        self._run(
            "ceph-authtool", "--create-keyring", str(keyring), "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"
        )
        self._run("ceph-authtool", str(keyring), "--gen-key", "-n", "client.admin", *all_caps)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(monmap), "--keyring", str(keyring))
        self._daemon("ceph-mon", "-f", "-i", "a")
        osd = str(uuid.uuid4())
        self._run("ceph", "osd", "new", osd)
        caps = ("mon", "allow profile osd", "osd", "allow *", "mgr", "allow profile osd")
        with keyring.open("ab") as out:
            out.write(self._run("ceph", "auth", "get-or-create", "osd.0", *caps))
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._daemon("ceph-osd", "-f", "-i", "0")
        keys = (f"--access-key={ACCESS_KEY}", f"--secret={SECRET_KEY}")
        self._run("radosgw-admin", "user", "create", "--uid=test", "--display-name=test", *keys)
        self._daemon("radosgw", "-f", "-n", "client.admin")
        self._create_bucket()

    def _create_bucket(self) -> None:
        client = botocore.session.get_session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                client.create_bucket(Bucket=BUCKET)
                return
            except (botocore.exceptions.HTTPClientError, botocore.exceptions.ClientError) as error:
                if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in self._daemons):
                    raise RuntimeError(f"Ceph's gateway did not start ({error}); logs in {self.folder}") from error
                time.sleep(0.2)

    def _environ(self) -> dict[str, str]:
        return {**os.environ, "CEPH_CONF": str(self.folder / "ceph.conf")}

    def _run(self, *command: str) -> bytes:
        done = subprocess.run(command, env=self._environ(), capture_output=True, timeout=READY_SECONDS)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace")[-500:]
            raise RuntimeError(f"{' '.join(command[:3])} ended with {done.returncode}: {said}; logs in {self.folder}")
        return done.stdout

    def _daemon(self, *command: str) -> None:
        """Start a child in the foreground. The kernel ends it with us where setpriv (util-linux) can ask for that."""
        bound = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with (self.folder / f"{command[0]}.out").open("wb") as out:
            daemon = subprocess.Popen(
                [*bound, *command], env=self._environ(), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
        self._daemons.append(daemon)


def _free_ports(count: int) -> list[int]:
    """Ports that are free now. All are held open until the last is known, so that none occurs twice."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
