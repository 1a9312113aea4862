"""The page about clips for other loops: its blocks of Python run one after the other, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adaptfocus.trainers.library import Run
from tests.worlds import SmallWorld

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]

PAGE = Path(__file__).resolve().parents[3] / "docs/how-to/library.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_each_block_does_what_it_says(
    small_world: SmallWorld, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("accelerate", "pandas"):
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    Path("world/index").mkdir(parents=True)
    Path("world/index/train").symlink_to(small_world.train_index)
    Path("runs").symlink_to(Path(run.url).parent)
    names: dict[str, object] = {}
    assert len(BLOCKS) > 8
    for block in BLOCKS:
        code = block.replace("demo-train-00000", "a-train-00000").replace("runs/first", f"runs/{Path(run.url).name}")
        exec(compile(code, str(PAGE), "exec"), names)
    assert names["picture"].shape == (3 * 20, 8 * 20, 3)  # type: ignore[attr-defined]
    assert names["picture"].std() > 5  # type: ignore[attr-defined]
