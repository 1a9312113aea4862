"""Pickles of numpy arrays, read without running anything.

Input: a pickle's bytes. Does: unpickles it; all that it may ask for is numpy's arrays and plain containers. Output:
numbers, texts, containers and arrays.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np


def _latin1(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"the encoding {encoding!r} is not taken")
    return text.encode("latin1")


# numpy's own functions, as it gives them; the names of their modules in numpy 1 and in numpy 2.
_FUNCTIONS = {
    ("multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("multiarray", "scalar"): np.float64(0).__reduce__()[0],
    ("numeric", "_frombuffer"): np.zeros(1).__reduce_ex__(5)[0],
}
ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _latin1,  # how Python 3 writes bytes for Python 2
    **{
        (f"{core}.{at}", name): each
        for core in ("numpy.core", "numpy._core")
        for (at, name), each in _FUNCTIONS.items()
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return ALLOWED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module_name}.{global_name}, and only numpy arrays are taken"
            ) from None


def load(data: bytes) -> Any:
    """What a pickle holds. One that is broken, or asks for more, may raise any Exception.

    Texts of Python 2, which are bytes, become texts whose characters are those bytes.
    """
    return _Unpickler(io.BytesIO(data), encoding="latin1").load()
