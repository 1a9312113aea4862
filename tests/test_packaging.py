"""What pyproject.toml promises: each import has a declared dependency, and the page of the package stands by itself."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it there

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("pipelines", "trainers", "infra")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DISTRIBUTION = {"yaml": "pyyaml"}  # where an import has another name, apart from its dashes
# Files that import a library of an extra at their top, and are themselves only imported by each other or in functions.
OF_AN_EXTRA = {
    **{f"trainers/on_ray/{name}.py": "ray" for name in ("datasets", "elastic", "engine", "extraction", "in_thread")},
    **{f"trainers/on_ray/{name}.py": "ray" for name in ("gauges", "over", "predict", "stop", "train")},
    "pipelines/stream/on_ray.py": "ray",
    "pipelines/library/on_ray.py": "ray",
    "infra/running/cluster.py": "ray",
    "infra/demo/stages.py": "demo",
    "infra/demo/demo.py": "demo",
}


def declared(requirements: list[str]) -> set[str]:
    """Names of distributions; extras of our own are looked up."""
    names: set[str] = set()
    for requirement in requirements:
        name, extras = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", requirement).groups()  # type: ignore[union-attr]
        if name == PROJECT["name"]:
            for extra in extras.split(","):
                names |= declared(PROJECT["optional-dependencies"][extra])
        else:
            names.add(name.lower())
    return names


CORE = declared(PROJECT["dependencies"])
FOR_CONTRIBUTORS = ("dev", "docs")  # what users of the package never need
EXTRAS = {
    name: declared(needs) for name, needs in PROJECT["optional-dependencies"].items() if name not in FOR_CONTRIBUTORS
}
DEV = declared(PROJECT["optional-dependencies"]["dev"])


def imports_in(source: str) -> Iterator[tuple[str, bool]]:
    """(dotted module, whether it happens as soon as the file is imported) of each import."""

    def walk(node: ast.AST, at_once: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, at_once) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                yield child.module or "", at_once
                yield from ((f"{child.module}.{alias.name}", at_once) for alias in child.names)
            is_later = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or (
                isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            )
            yield from walk(child, at_once and not is_later)

    return walk(ast.parse(source), True)


def distribution_of(module: str) -> str:
    """The distribution of a module without dots; names of distributions are written with dashes."""
    return DISTRIBUTION.get(module, module).lower().replace("_", "-")


def undeclared(name: str, source: str) -> list[str]:
    """The imports of a file that are not covered by a dependency that is installed at that point."""
    wrong: list[str] = []
    extra = OF_AN_EXTRA.get(name)
    for module, at_once in imports_in(source):
        top = module.split(".")[0]
        if top == "adaptfocus":
            file = f"{module.removeprefix('adaptfocus.').replace('.', '/')}.py"
            if at_once and file in OF_AN_EXTRA and extra is None:
                wrong.append(f"{module}, which needs the extra {OF_AN_EXTRA[file]}")
        elif top not in sys.stdlib_module_names:
            distribution = distribution_of(top)
            allowed = CORE | (EXTRAS[extra] if extra else set())
            if not at_once:
                allowed = allowed.union(*EXTRAS.values())
            if distribution not in allowed:
                wrong.append(top)
    return sorted(set(wrong))


def test_the_rule_finds_what_is_undeclared() -> None:
    assert undeclared("pipelines/a.py", "import requests\ndef f():\n    import pandas.io") == ["pandas", "requests"]
    assert undeclared("pipelines/a.py", "import ray\nimport yaml, os.path, numpy as np") == ["ray"]
    assert undeclared("pipelines/a.py", "def f():\n    import h5py") == []
    assert undeclared("pipelines/stream/on_ray.py", "import ray\nimport h5py") == ["h5py"]
    assert undeclared("infra/a.py", "from adaptfocus.infra.demo import stages") == [
        "adaptfocus.infra.demo.stages, which needs the extra demo"
    ]
    assert undeclared("infra/a.py", "def f():\n    from adaptfocus.infra.demo.stages import Stages") == []


@pytest.mark.parametrize("package", PACKAGES)
def test_each_import_belongs_to_a_declared_dependency(package: str) -> None:
    """Imports at the top of a file need a core dependency; imports in a function may need an extra."""
    files = {path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / package).rglob("*.py")}
    assert files
    assert {name: wrong for name, source in files.items() if (wrong := undeclared(name, source))} == {}


def test_what_tests_import_comes_with_dev() -> None:
    known = CORE | DEV | {"tomli"}
    found = {
        module.split(".")[0] for path in (ROOT / "tests").rglob("*.py") for module, _ in imports_in(path.read_text())
    }
    ours = {"adaptfocus", "tests", "benchmarks"}
    strange = {top for top in found if top not in sys.stdlib_module_names and top not in ours}
    assert {top for top in strange if distribution_of(top) not in known} == set()


def test_decord_is_asked_for_by_name_only() -> None:
    """Its last release is from 2021, so the extra `all` leaves it out."""
    assert "decord" in EXTRAS["decord"]
    assert "decord" not in EXTRAS["all"]
    assert set(PROJECT["optional-dependencies"]) - {"all", "decord", *FOR_CONTRIBUTORS} == set(
        re.search(r"\[(.*)\]", PROJECT["optional-dependencies"]["all"][0])[1].split(",")  # type: ignore[index]
    )


def test_the_page_of_the_package_links_nowhere_inside_the_checkout() -> None:
    """A package index has only this page."""
    page = (ROOT / PROJECT["readme"]).read_text()
    links = re.findall(r"\]\(([^)]*)\)", page)
    assert links
    assert [link for link in links if not link.startswith("https://")] == []
    for extra in set(EXTRAS):
        assert f"| `{extra}` |" in page
        assert f"| `{extra}` |" in (ROOT / "docs/start.md").read_text()


def test_a_checkout_without_symbolic_links_is_not_built(tmp_path: Path) -> None:
    """pip would install four files, report success, and the command would not start."""
    shutil.copy(ROOT / "setup.py", tmp_path)
    for name in PACKAGES:
        (tmp_path / "adaptfocus" / name).mkdir(parents=True)
        (tmp_path / "adaptfocus" / name / "__init__.py").touch()
    asked = [sys.executable, "setup.py", "--name"]
    assert subprocess.run(asked, cwd=tmp_path, capture_output=True).returncode == 0
    shutil.rmtree(tmp_path / "adaptfocus" / "trainers")
    (tmp_path / "adaptfocus" / "trainers").write_text("../trainers")  # as git writes a link where there are none
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "adaptfocus/trainers is not a folder" in done.stderr
    assert "core.symlinks" in done.stderr
