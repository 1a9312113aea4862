"""Options for PyAV to open a container with any content, whatever PyAV's version: `av.open(file, **TOLERANT)`.

Tags that are not UTF-8 are accepted.
"""

from __future__ import annotations

from typing import Any

import av

# PyAV 19 does not have this argument.
TOLERANT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
