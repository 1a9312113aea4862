"""How the command tells its workers that a person or a machine has asked it to stop.

The command sets a key in the cluster's own memory (the key-value table of Ray's control service). Rank 0 of the group
looks for the key, and takes it as a notice: the group commits after its step and is not started again. A group that is
restarted for another reason finds the key and ends.

The key is not in the run's folder, because it would outlive the command there and stop the next one.
"""

from __future__ import annotations

import contextlib
import threading
import time

from ray.experimental.internal_kv import _internal_kv_exists, _internal_kv_put

from adaptfocus.trainers.on_ray.elastic import NOTICE

LOOK_SECONDS = 0.5
_NAMESPACE = "adaptfocus"


def ask_to_stop(key: str) -> None:
    """Ask the group that watches this key to commit and end."""
    _internal_kv_put(key, b"1", namespace=_NAMESPACE)


def stop_was_asked(key: str) -> bool:
    return bool(_internal_kv_exists(key, namespace=_NAMESPACE))


def notice_when_asked(key: str) -> None:
    """In a worker's process: start a thread that gives notice as soon as the key is set."""
    threading.Thread(target=_look, args=(key,), daemon=True, name="stop").start()


def _look(key: str) -> None:
    while not NOTICE.is_set():
        with contextlib.suppress(Exception):  # the control service may be unreachable for a moment
            if stop_was_asked(key):
                NOTICE.set()
        time.sleep(LOOK_SECONDS)
