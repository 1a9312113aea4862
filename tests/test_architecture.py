"""The rules that keep the code readable, held by machine: who may import whom, what does no I/O, how long a file is.

Each rule is a function of source text, tried on a breach before it is tried on the project, so that none of them
passes because it looks at nothing.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("pipelines", "trainers", "infra")  # each may import those before it, and itself
MAX_LINES = 350
MAX_LINES_OF_TESTS = 550  # cases one after the other, each read alone
RAY_FILES = (
    "pipelines/stream/on_ray.py",
    "trainers/on_ray/train.py",
    "trainers/on_ray/elastic.py",
    "trainers/on_ray/extraction.py",
    "trainers/on_ray/stop.py",
    "infra/",
)
# Tensors and rows in, tensors and rows out. One function is let off: weights have to come from somewhere.
LOADER = ("trainers/backbones/__init__.py", "load_pretrained", "adaptfocus.pipelines.store.objects")
PURE = (
    "pipelines/plan/draw.py",
    "trainers/method/focus.py",
    "trainers/method/loss.py",
    "trainers/metrics",
    "trainers/backbones/",
)
IO_MODULES = {
    *("fsspec", "s3fs", "boto3", "botocore", "aiobotocore", "requests", "urllib", "socket", "subprocess", "shutil"),
    *(
        "adaptfocus.pipelines.store.objects",
        "adaptfocus.pipelines.store.tables",
        "adaptfocus.pipelines.plan.published",
        "adaptfocus.trainers.runs.log",
    ),
}
IO_CALLS = {
    *("open", "input", "torch.load", "torch.save", "np.load", "np.save", "read_text", "read_bytes", "write_text"),
    *("write_bytes", "pq.read_table", "pq.write_table", "load_state_dict_from_url"),
}
# Homes and work folders of whoever wrote the line; the user "ray" lives in Ray's own images.
MACHINE_PATH = re.compile(r"(?<![\w.:/~-])/(?:work|root|home(?!/ray/)|Users|mnt/[a-z]+|tmp/bash)/[\w.]")

SOURCES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
DOCUMENTS = ("*.md", "*.toml", "*.yaml", "Makefile", "docs/**/*.md", ".ci/*", "benchmarks/**/*.py", "benchmarks/*.md")
TEXTS = [*SOURCES, *TESTS, *sorted(path for pattern in DOCUMENTS for path in ROOT.glob(pattern))]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports_of(source: str) -> set[str]:
    """Every module a file imports, wherever in it, as dotted names; ``from a import b`` gives a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def calls_of(source: str) -> set[str]:
    """Every call as it is written, and its last part: ``p.open()`` gives ``p.open`` and ``open``."""
    called = {ast.unparse(node.func) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)}
    return called | {name.rsplit(".", 1)[-1] for name in called}


def upward_imports(name: str, source: str) -> list[str]:
    layer = name.split("/", 1)[0]
    above = LAYERS[LAYERS.index(layer) + 1 :]
    return sorted(module for module in imports_of(source) if module.split(".")[0] in (*above, "tests", "benchmarks"))


def ray_imports(name: str, source: str) -> list[str]:
    if name.startswith(RAY_FILES):
        return []
    return sorted(module for module in imports_of(source) if module.split(".")[0] == "ray")


def io_in(source: str) -> list[str]:
    modules = {m for m in imports_of(source) if any(m == io or m.startswith(f"{io}.") for io in IO_MODULES)}
    return sorted(modules | (calls_of(source) & IO_CALLS))


def without(source: str, function: str) -> str:
    """The same source, with one top-level function taken out."""
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if not (isinstance(node, ast.FunctionDef) and node.name == function)]
    return ast.unparse(tree)


def machine_paths(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if MACHINE_PATH.search(line)]


def test_the_rules_find_breaches() -> None:
    assert upward_imports("pipelines/a.py", "def f():\n    from adaptfocus.trainers import loop") == [
        "trainers",
        "adaptfocus.trainers.loop.training",
    ]
    assert upward_imports(
        "trainers/a.py", "import adaptfocus.infra.cli.app\nimport adaptfocus.pipelines.store.objects"
    ) == ["adaptfocus.infra.cli.app"]
    assert upward_imports("infra/a.py", "import trainers\nimport pipelines\nimport adaptfocus.infra.b") == []
    assert ray_imports("trainers/loop/training.py", "import ray.data") == ["ray.data"]
    assert ray_imports("pipelines/stream/on_ray.py", "import ray") == []
    assert io_in("from adaptfocus.pipelines import storage") == ["adaptfocus.pipelines.store.objects"]
    assert io_in("import fsspec.core\nwith open('x') as f: pass") == ["fsspec.core", "open"]
    assert io_in("import torch\nPath('x').read_text()\ntorch.load(f)") == ["read_text", "torch.load"]
    assert io_in("import numpy as np\nnp.sort(x)") == []
    assert io_in(without("def f():\n    open('x')\ndef g():\n    storage.read_bytes(u)", "f")) == ["read_bytes"]
    for breach in ("see /" + "work/main/x", "'/" + "root/.cache'", "= /" + "home/me/data"):
        assert machine_paths(breach) == [breach]
    assert machine_paths("s3://bucket/work/x, runs/home/x, https://host/root/x, ~/work/x, and / work /") == []


def test_there_is_something_to_check() -> None:
    names = {name_of(path) for path in SOURCES}
    assert {"pipelines/store/objects.py", "trainers/__init__.py", "infra/__init__.py"} <= names
    assert {name.split("/")[0] for name in names} == set(LAYERS)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_go_from_infra_to_trainers_to_pipelines(path: Path) -> None:
    assert upward_imports(name_of(path), path.read_text()) == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_ray_is_imported_only_by_its_adapters(path: Path) -> None:
    """What else imports Ray does not run where Ray is not installed: a bare GPU box, a debugger."""
    assert ray_imports(name_of(path), path.read_text()) == []


@pytest.mark.parametrize("path", [path for path in SOURCES if name_of(path).startswith(PURE)], ids=name_of)
def test_the_method_does_no_io(path: Path) -> None:
    file, function, module = LOADER
    if name_of(path) == file:
        assert [found for found in io_in(without(path.read_text(), function)) if found != module] == []
    else:
        assert io_in(path.read_text()) == []


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name_of)
def test_files_stay_short_enough_to_read(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    limit = MAX_LINES_OF_TESTS if path in TESTS else MAX_LINES
    assert lines <= limit, f"{lines} lines, the limit is {limit}: find the seam"


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_no_path_of_one_machine(path: Path) -> None:
    """A path that exists on one machine only means nothing to a reader and breaks everywhere else."""
    assert machine_paths(path.read_text(errors="replace")) == []
