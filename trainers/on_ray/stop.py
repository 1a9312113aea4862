"""How the command tells the workers that a person, or a machine, has asked it to stop.

Input: a key in the cluster's own memory (the table of keys and values of Ray's control service).
Does: the command sets it; rank 0 of the group looks for it, and takes it as a notice; a group that is started again
because of something else finds it and ends.
Output: a group that commits after its step, and is not started again.

Not in the run's folder: a key there would outlive the command, and stop the next one.
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
    """Ask the group of that key to commit and end."""
    _internal_kv_put(key, b"1", namespace=_NAMESPACE)


def stop_was_asked(key: str) -> bool:
    return bool(_internal_kv_exists(key, namespace=_NAMESPACE))


def notice_when_asked(key: str) -> None:
    """In a worker's process: a thread that gives notice as soon as the key is set."""
    threading.Thread(target=_look, args=(key,), daemon=True, name="stop").start()


def _look(key: str) -> None:
    while not NOTICE.is_set():
        with contextlib.suppress(Exception):  # the control service may be away for a moment
            if stop_was_asked(key):
                NOTICE.set()
        time.sleep(LOOK_SECONDS)
