"""Secrets for tests: put them into the environment, run something, and check that its output has none of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# None of these occurs in code or messages, so that finding one means that it was leaked.
SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAQZ7LEAKPROBE0001",
    "AWS_SECRET_ACCESS_KEY": "qz7/LeakProbe+Secret/0002",
    "AWS_SESSION_TOKEN": "qz7LeakProbeToken0003",
    "HF_TOKEN": "hf_qz7LeakProbe0004",
    "WANDB_API_KEY": "qz7leakprobe0005",
    "MLFLOW_TRACKING_PASSWORD": "qz7-leak-probe-0006",
}


def environment_with_secrets(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """`base` (this process's environment without one) with every secret in it, to run a command under."""
    return {**(os.environ if base is None else base), **SECRETS}


def assert_no_secret(*said: str | bytes | Path, secrets: Mapping[str, str] = SECRETS) -> None:
    """Fail, naming the variable and the place but not the value, if a secret is in a text, a file or a folder."""
    for thing in said:
        if isinstance(thing, Path):
            files = sorted(path for path in thing.rglob("*") if path.is_file()) if thing.is_dir() else [thing]
            bodies = {str(path): path.read_bytes() for path in files}
        else:
            bodies = {"the text": thing.encode() if isinstance(thing, str) else thing}
        leaks = [
            f"{name} in {place}"
            for place, body in bodies.items()
            for name, secret in secrets.items()
            if secret.encode() in body
        ]
        assert not leaks, f"leaked: {', '.join(leaks)}"
