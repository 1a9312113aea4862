"""How PyAV opens a container that may hold anything, whatever PyAV's version.

Input: `av.open(file, **TOLERANT)`. Does: lets tags that are not UTF-8 through. Output: no error for what is no picture.
"""

from __future__ import annotations

from typing import Any

import av

# PyAV 19 has no such argument.
TOLERANT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
