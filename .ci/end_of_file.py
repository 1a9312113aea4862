"""For pre-commit: text files end with one newline, and no line ends with a space.

    python .ci/end_of_file.py FILE...

It writes the files that differ, names them, and fails.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def tidy(text: str) -> str:
    """The same text without spaces at the ends of lines, and with one newline at its end."""
    return re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).rstrip("\n") + "\n" if text.strip() else text


def main(names: list[str]) -> int:
    changed = 0
    for name in names:
        before = Path(name).read_bytes().decode()
        if (after := tidy(before)) != before:
            Path(name).write_bytes(after.encode())
            print(f"tidied {name}")
            changed = 1
    return changed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
