"""Errors go from one process to another whole."""

from __future__ import annotations

import pickle

from adaptfocus.pipelines.errors import BadVideoError


def test_a_bad_video_keeps_its_kind_between_processes() -> None:
    error = pickle.loads(pickle.dumps(BadVideoError("decode_error", "no frame of it can be decoded")))
    assert (type(error), error.kind, str(error)) == (BadVideoError, "decode_error", "no frame of it can be decoded")
