"""The rules that keep the code readable, held by machine: who may import whom, what does no I/O, how long a file is.

Each rule is a function of source text, tried on a breach before it is tried on the project, so that none of them
passes because it looks at nothing.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Each package may import what stands before it in its layer, and the layers before its own (docs/architecture.md).
ORDER = {
    "pipelines": (
        *(
            "url_secrets",
            "errors",
            "over",
            "safe_pickle",
            "setting_values",
            "settings",
            "schemas",
            "columns",
            "over",
            "store",
            "annotations",
            "video",
            "decode",
        ),
        *(
            "inspection",
            "apart",
            "shards",
            "index",
            "saliency",
            "plan",
            "features",
            "cutting",
            "stream",
            "library",
            "datasets",
            "worlds",
        ),
    ),
    "trainers": (
        *(
            "errors",
            "batches",
            "ranks",
            "device",
            "metrics",
            "backbones",
            "settings",
            "inputs",
            "method",
            "diagnosis",
            "runs",
            "epochs",
        ),
        *("loop", "evaluation", "library", "localisation", "on_ray", "probes", "pretraining"),
    ),
    "infra": ("running", "jobs", "report", "localised", "demo", "cli"),
}
LAYERS = tuple(ORDER)
MAX_LINES = 350  # of a file
MAX_FILES = 18  # of a folder
RAY_FILES = ("pipelines/stream/on_ray.py", "pipelines/library/on_ray.py", "trainers/on_ray/", "infra/")
# What decodes, plans or reads settings in many processes must not pay for torch (1.3 s of CPU and 180 MB each).
WITHOUT_TORCH = (
    *("pipelines.store.objects", "pipelines.inspection.packet_table", "pipelines.decode.windows"),
    *("pipelines.apart.child", "pipelines.shards.packing", "pipelines.index.build", "pipelines.plan.order"),
    *("pipelines.plan.settings", "pipelines.stream.clips", "pipelines.stream.windows", "trainers.settings.run"),
    *("pipelines.library.clips", "pipelines.library.samplers", "pipelines.library.dense_reading"),
    *("trainers.batches", "trainers.settings.recipes", "infra.cli.app", "infra.jobs.watch_view"),
)
# Tensors and rows in, tensors and rows out. One function is let off: weights have to come from somewhere.
LOADER = ("trainers/backbones/building.py", "load_pretrained", "adaptfocus.pipelines.store")
PURE = (
    "pipelines/plan/draw.py",
    "pipelines/plan/order.py",
    "pipelines/plan/philox.py",
    "trainers/method/",
    "trainers/metrics/",
    "trainers/backbones/",
)
IO_MODULES = {
    *("fsspec", "s3fs", "boto3", "botocore", "aiobotocore", "requests", "urllib", "socket", "subprocess", "shutil"),
    *("adaptfocus.pipelines.store", "adaptfocus.pipelines.plan.published", "adaptfocus.trainers.runs.log"),
}
IO_CALLS = {
    *("open", "input", "torch.load", "torch.save", "np.load", "np.save", "read_text", "read_bytes", "write_text"),
    *("write_bytes", "pq.read_table", "pq.write_table", "load_state_dict_from_url"),
}
# Homes and work folders of whoever wrote the line; the user "ray" lives in Ray's own images.
MACHINE_PATH = re.compile(r"(?<![\w.:/~-])/(?:work|root|home(?!/ray/)|Users|mnt/[a-z]+|tmp/bash)/[\w.]")

SOURCES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
OWN = sorted(path for path in (ROOT / "adaptfocus").glob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))
DOCUMENTS = ("*.md", "*.toml", "*.yaml", "Makefile", "docs/**/*.md", ".ci/*", "benchmarks/*.md")
TEXTS = [*SOURCES, *TESTS, *BENCHMARKS, *sorted(path for pattern in DOCUMENTS for path in ROOT.glob(pattern))]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def imports_of(source: str) -> frozenset[str]:
    """Every module a file imports, wherever in it, as dotted names; ``from a import b`` gives a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def calls_of(source: str) -> set[str]:
    """Every call as it is written, and its last part: ``p.open()`` gives ``p.open`` and ``open``."""
    called = {ast.unparse(node.func) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)}
    return called | {name.rsplit(".", 1)[-1] for name in called}


def place_of(layer: str, package: str) -> tuple[int, int]:
    return LAYERS.index(layer), ORDER[layer].index(package)


def wrong_imports(name: str, source: str) -> list[str]:
    """What a file imports that stands behind its own package, or that is not part of the product."""
    layer, *rest = name.removesuffix(".py").split("/")
    at_door = rest == ["__init__"]
    own = (LAYERS.index(layer), -1) if at_door else place_of(layer, rest[0])
    wrong = []
    for module in imports_of(source):
        top, *parts = module.split(".")
        if top in ("tests", "benchmarks") or top in LAYERS:  # a bare name may be another project's
            wrong.append(module)
        elif top == "adaptfocus" and len(parts) > 1 and parts[0] in LAYERS:
            known = parts[1] in ORDER[parts[0]]
            if not known or (not at_door and place_of(parts[0], parts[1]) > own):
                wrong.append(module)
    return sorted(wrong)


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


def cycles_in(imports: dict[str, set[str]]) -> list[list[str]]:
    """Circles of modules, each once, by walking in depth."""
    done: set[str] = set()
    found: list[list[str]] = []

    def walk(module: str, path: list[str]) -> None:
        if module in path:
            found.append(path[path.index(module) :])
        elif module not in done:
            for other in sorted(imports.get(module, ())):
                walk(other, [*path, module])
            done.add(module)

    for module in sorted(imports):
        walk(module, [])
    return found


def at_import(source: str) -> set[str]:
    """Modules imported as soon as a file is: not in functions, not for type checkers."""
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    return set(imports_of(ast.unparse(tree)))


def machine_paths(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if MACHINE_PATH.search(line)]


def test_the_rules_find_breaches() -> None:
    store, loop = "adaptfocus.pipelines.store", "adaptfocus.trainers.loop"
    assert wrong_imports("pipelines/store/a.py", f"def f():\n    from {loop} import x") == [loop, f"{loop}.x"]
    assert wrong_imports("pipelines/store/a.py", "from adaptfocus.pipelines.plan.draw import Planner") != []
    assert wrong_imports("pipelines/plan/a.py", f"import {store}.urls\nfrom {store} import join") == []
    assert wrong_imports("trainers/loop/a.py", "from pipelines import storage\nimport tests.a") == [
        *("pipelines", "pipelines.storage", "tests.a"),
    ]
    assert wrong_imports("trainers/loop/a.py", "import adaptfocus.trainers.nowhere.b") != []
    assert ray_imports("trainers/loop/training.py", "import ray.data") == ["ray.data"]
    assert ray_imports("pipelines/stream/on_ray.py", "import ray") == []
    assert io_in(f"from {store} import join") == [store, f"{store}.join"]
    assert io_in("import fsspec.core\nwith open('x') as f: pass") == ["fsspec.core", "open"]
    assert io_in("import torch\nPath('x').read_text()\ntorch.load(f)") == ["read_text", "torch.load"]
    assert io_in("import numpy as np\nnp.sort(x)") == []
    assert io_in(without("def f():\n    open('x')\ndef g():\n    store.read_bytes(u)", "f")) == ["read_bytes"]
    assert cycles_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c"]]
    assert cycles_in({"a": {"b", "c"}, "b": {"c"}}) == []
    assert at_import("import a\ndef f():\n    import b\nif TYPE_CHECKING:\n    import c") == {"a"}
    for breach in ("see /" + "work/main/x", "'/" + "root/.cache'", "= /" + "home/me/data"):
        assert machine_paths(breach) == [breach]
    assert machine_paths("s3://bucket/work/x, runs/home/x, https://host/root/x, ~/work/x, and / work /") == []


def test_there_is_something_to_check() -> None:
    names = {name_of(path) for path in SOURCES}
    assert {"pipelines/store/objects.py", "trainers/__init__.py", "infra/__init__.py"} <= names
    assert {name.split("/")[0] for name in names} == set(LAYERS)
    packages = {(name.split("/")[0], name.split("/")[1].removesuffix(".py")) for name in names}
    assert packages == {(layer, package) for layer in LAYERS for package in (*ORDER[layer], "__init__")}


def test_each_package_imports_only_what_stands_before_it() -> None:
    wrong = {name_of(path): wrong_imports(name_of(path), path.read_text()) for path in SOURCES}
    assert {name: modules for name, modules in wrong.items() if modules} == {}


def test_nothing_imports_a_package_by_its_bare_name() -> None:
    """Half of all training repositories have a folder `trainers` of their own."""
    bare = {
        name_of(path): found
        for path in (*OWN, *TESTS, *BENCHMARKS)
        if (found := [module for module in imports_of(path.read_text()) if module.split(".")[0] in LAYERS])
    }
    assert bare == {}


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = {"adaptfocus." + name_of(path).removesuffix(".py").replace("/", "."): path for path in SOURCES}
    imports = {name: at_import(path.read_text()) & modules.keys() for name, path in modules.items()}
    assert cycles_in(imports) == []


def test_what_runs_in_many_processes_does_not_import_torch() -> None:
    script = "import sys, importlib\nfor name in sys.argv[1:]:\n    importlib.import_module('adaptfocus.' + name)\n"
    script += "    assert 'torch' not in sys.modules, name\n    assert 'ray' not in sys.modules, name\n"
    done = subprocess.run([sys.executable, "-c", script, *WITHOUT_TORCH], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    script = "import adaptfocus.pipelines.stream.on_ray, sys; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, "each decode task of Ray would pay for torch"


def test_a_project_with_folders_of_the_same_names_can_use_ours(tmp_path: Path) -> None:
    for layer in LAYERS:
        (tmp_path / layer).mkdir()
        (tmp_path / layer / "__init__.py").write_text("WHOSE = 'theirs'\n")
    (tmp_path / "use.py").write_text(
        "import infra, pipelines, trainers\n"
        "from adaptfocus.infra.cli.app import app\n"
        "from adaptfocus.pipelines.store import join\n"
        "from adaptfocus.trainers.settings import TrainConfig\n"
        "print({pipelines.WHOSE, trainers.WHOSE, infra.WHOSE}, join('a', 'b'), TrainConfig.__module__, bool(app))\n"
    )
    done = subprocess.run([sys.executable, "use.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "{'theirs'} a/b adaptfocus.trainers.settings.run True\n", done.stderr


def test_doors_offer_what_they_say() -> None:
    """Each name of a package's ``__all__`` is there, also where it is looked up only when it is asked for. None is the
    name of a module as well: the order of imports would decide which of the two the package has."""
    script = "import importlib, pathlib, sys\nfor name in sys.argv[1:]:\n    door = importlib.import_module(name)\n"
    script += "    missing = [each for each in door.__all__ if not hasattr(door, each)]\n"
    script += "    assert door.__all__ and not missing, (name, missing)\n"
    script += "    folder = pathlib.Path(door.__file__).parent\n"
    script += "    both = [n for n in door.__all__ if (folder / f'{n}.py').exists() or (folder / n).is_dir()]\n"
    script += "    assert not both, (name, both)\n"
    doors = [path.parent for path in SOURCES if path.name == "__init__.py" and "__all__" in path.read_text()]
    names = ["adaptfocus." + name_of(door).replace("/", ".") for door in doors]
    assert len(names) > 20
    done = subprocess.run([sys.executable, "-c", script, *names], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_ray_is_imported_only_by_its_adapters() -> None:
    """What else imports Ray does not run where Ray is not installed: a bare GPU box, a debugger."""
    wrong = {name_of(path): ray_imports(name_of(path), path.read_text()) for path in SOURCES}
    assert {name: modules for name, modules in wrong.items() if modules} == {}


def test_the_method_does_no_io() -> None:
    file, function, module = LOADER
    wrong = {}
    for path in (path for path in SOURCES if name_of(path).startswith(PURE)):
        source = path.read_text()
        if name_of(path) == file:
            wrong[file] = [found for found in io_in(without(source, function)) if found != module]
        else:
            wrong[name_of(path)] = io_in(source)
    assert len(wrong) > 25
    assert {name: found for name, found in wrong.items() if found} == {}


def test_files_stay_short_enough_to_read() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in (*SOURCES, *TESTS, *BENCHMARKS)}
    assert {name_of(path): lines for path, lines in lengths.items() if lines > MAX_LINES} == {}, "find the seam"


def test_folders_stay_small_enough_to_survey() -> None:
    files = Counter(path.parent for path in (*SOURCES, *TESTS, *BENCHMARKS))
    files.pop(ROOT / "benchmarks")  # a list of commands, each with its parts in a folder of its own
    assert {name_of(folder): count for folder, count in files.items() if count > MAX_FILES} == {}


def test_no_path_of_one_machine() -> None:
    """A path that exists on one machine only means nothing to a reader and breaks everywhere else."""
    found = defaultdict(list)
    for path in TEXTS:
        for line in machine_paths(path.read_text(errors="replace")):
            found[name_of(path)].append(line)
    assert dict(found) == {}
