"""The process behind `infra.demo.local_s3`: moto's S3 server as it is.

Input: a port, a bucket, the parent's process id. Does: serves S3 from memory on the loopback interface, for as long as
the parent lives. Output: the line ``port N`` when the bucket is there.

It accepts any secret, copies a whole object for each range of it, and may let two of many racing exclusive creations
win: it is for the demo, in which nobody races. A run of your own needs a store.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import time
import urllib.request
from collections.abc import Callable

HOST = "127.0.0.1"
PARENT_CHECK_SECONDS = 0.5


def make_bucket(port: int, bucket: str) -> None:
    """Create the bucket, as the first request to a server on this machine."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is never behind a proxy
    create = urllib.request.Request(f"http://{HOST}:{port}/{bucket}", method="PUT")
    opener.open(create, timeout=30).close()


def outlive(parent_pid: int | None) -> None:
    """Wait until interrupted, or until `parent_pid` is no longer this process's parent.

    The parent's id changes when it dies, however it dies. A signal at its death (prctl) would also come when merely
    the *thread* that started us ends, and a pipe's end is kept open by every process forked in between.
    """
    while parent_pid is None or os.getppid() == parent_pid:
        time.sleep(PARENT_CHECK_SECONDS)


def serve(port: int, bucket: str, parent_pid: int | None) -> None:
    from moto.server import ThreadedMotoServer

    socket.create_server((HOST, port)).close()  # raises where it is taken, of which moto's thread would die unseen
    server = ThreadedMotoServer(HOST, port, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    make_bucket(port, bucket)
    print(f"port {port}", flush=True)
    outlive(parent_pid)


def main(serve: Callable[[int, str, int | None], None] = serve) -> None:
    parser = argparse.ArgumentParser(description="S3 on loopback, in memory.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--bucket", default="adaptfocus", help="created at the start")
    parser.add_argument("--parent-pid", type=int, default=None, help="end when this process does")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        serve(options.port, options.bucket, options.parent_pid)


if __name__ == "__main__":
    main()
