"""Arrays as Python pickles, for a reader that takes nothing else; read without running anything.

Input: an array, or bytes that say they hold one. Does: writes a pickle that old and new numpy read; reads one by
`safe_pickle`. Output: bytes; an array.
"""

from __future__ import annotations

import pickle

import numpy as np

from adaptfocus.pipelines import safe_pickle
from adaptfocus.pipelines.errors import InputError

PROTOCOL = 2  # the newest of Python 2.7, which Timeception's code is written for


def dump_array(array: np.ndarray) -> bytes:
    """A pickle of an array: with numpy 1's names, which numpy 2 knows as well."""
    data = pickle.dumps(np.ascontiguousarray(array), PROTOCOL)
    return data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n", 1)


def too_new(data: bytes) -> str | None:
    """Why Python 2.7 with its last numpy, 1.16, could not read a pickle; None if it can."""
    if data[:1] == b"\x80" and data[1] > PROTOCOL:
        return f"is pickle protocol {data[1]}, and Python 2.7 reads {PROTOCOL} at most"
    if b"numpy._core" in data[:200]:
        return "has numpy 2's names, which Python 2.7 lacks"
    return None


def load_array(data: bytes, name: str) -> np.ndarray:
    """The array in a pickle.

    Raises:
        InputError: it holds anything else, or wants to run anything.
    """
    try:
        found = safe_pickle.load(data)
    except Exception as error:  # a pickle that is cut off or made up raises whatever it likes
        raise InputError(f"{name} is no pickle of a numpy array ({str(error)[:150]}); export again") from None
    if not isinstance(found, np.ndarray) or found.dtype.hasobject:
        raise InputError(f"{name} holds a {type(found).__name__}; wanted a numpy array of numbers: export again")
    return found
