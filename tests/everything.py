"""Runs all tests in two processes: those that start Ray clusters mostly wait, so they run in parallel to the others.

`pytest_collection_modifyitems` in conftest.py says which those are. All that need environments of their own are among
the others: such an environment takes a core a minute to install, and each process would make its own.

    python tests/everything.py [pytest's options]

The output of the tests of Ray comes last; until then it is in .ray-tests.log. Do not run this in the background of a
shell: such jobs ignore Ctrl-C, and some of these tests send one.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

LOG = Path(".ray-tests.log")


def main(options: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    pytest = [sys.executable, "-m", "pytest", *options]
    with LOG.open("w") as log:
        ray = subprocess.Popen([*pytest, "-m", "aside"], stdout=log, stderr=subprocess.STDOUT)
    try:
        rest = subprocess.run([*pytest, "-m", "not aside"], check=False).returncode
        print(f"waiting for the tests of Ray ({LOG})", flush=True)
        failed = ray.wait()
        return rest or failed
    finally:
        ray.terminate()
        print(LOG.read_text(), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
