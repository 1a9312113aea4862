"""All settings are in pyproject.toml. This file stops a build of a checkout that was made without symbolic links: the
three links of `adaptfocus/` would be text files, and pip would install a package without its parts and report success.
"""

import sys
from pathlib import Path

from setuptools import setup

PACKAGE = Path(__file__).resolve().parent / "adaptfocus"
if missing := [name for name in ("pipelines", "trainers", "infra") if not (PACKAGE / name / "__init__.py").exists()]:
    sys.exit(
        f"adaptfocus/{missing[0]} is not a folder: this checkout was made without symbolic links. Clone it again on a "
        "file system that has them, with `git config core.symlinks true`"
    )
setup()
