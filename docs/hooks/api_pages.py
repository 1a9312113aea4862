"""A page for each package: what its `__init__` offers, and one line about each module in it.

The packages are found by walking, so that a new one has its page and one that went has none.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from adaptfocus import infra, pipelines, trainers

ROOTS: tuple[ModuleType, ...] = (pipelines, trainers, infra)
TOPS = {root.__name__.split(".")[0] for root in ROOTS}


def pages() -> dict[str, str]:
    """File of the site -> Markdown: an overview, and a page a package."""
    packages = {name: _modules(name, folder) for root in ROOTS for name, folder in walk(root.__name__, _folder(root))}
    made = {"reference/api/index.md": _overview(packages)}
    for name, modules in packages.items():
        made[f"reference/api/{name}.md"] = _page(name, modules)
    return made


def walk(name: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """(dotted name, folder) of a package and all packages in it."""
    yield name, folder
    for found in pkgutil.iter_modules([str(folder)]):
        if found.ispkg and not found.name.startswith("_"):
            yield from walk(f"{name}.{found.name}", folder / found.name)


def _folder(package: ModuleType) -> Path:
    return Path(next(iter(package.__path__)))


def _modules(name: str, folder: Path) -> dict[str, str]:
    """Dotted name -> first sentence of each module of a package, the package itself first."""
    files = {name: folder / "__init__.py"}
    for found in pkgutil.iter_modules([str(folder)]):
        if not found.ispkg and not found.name.startswith("_"):
            files[f"{name}.{found.name}"] = folder / f"{found.name}.py"
    return {module: _docstring(file) for module, file in files.items()}


def _docstring(file: Path) -> str:
    return ast.get_docstring(ast.parse(file.read_text())) or ""


def _first(text: str) -> str:
    line = text.split("\n\n")[0].replace("\n", " ")
    return line.split(". ")[0].rstrip(".").replace("|", "\\|").replace("<", "&lt;")


def _overview(packages: dict[str, dict[str, str]]) -> str:
    rows = [f"| [`{name}`]({name}.md) | {_first(modules[name])} |" for name, modules in packages.items()]
    return "\n".join(
        ["# API", "", "What a program may import. Each page has a package: what it offers, then its modules.", "",
         "| package | what it does |", "|---|---|", *rows, ""]
    )  # fmt: skip


def _page(name: str, modules: dict[str, str]) -> str:
    lines = [f"# `{name}`", "", modules[name].replace("<", "&lt;"), ""]
    offered = list(offered_by(name))
    if offered:
        lines += ["## What it offers", "", *(f"::: {path}\n" for path in offered)]
    elif len(modules) > 1:
        lines += ["## Its modules", "", *(f"::: {module}\n" for module in list(modules)[1:])]
    else:
        lines += [f"::: {name}\n    options:\n      show_root_heading: false\n"]
    if offered and len(modules) > 1:
        rows = [f"| `{module}` | {_first(said)} |" for module, said in list(modules.items())[1:]]
        lines += ["## Its modules", "", "| module | what it does |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def offered_by(name: str) -> Iterator[str]:
    """Where each name of a package's `__all__` is written: that is where its docstring stands.

    A name may come when it is asked for (PEP 562), so it is looked up in the running package and not in its text.
    """
    package = importlib.import_module(name)
    for each in getattr(package, "__all__", ()):
        value = getattr(package, each)
        if inspect.ismodule(value):
            continue
        home = getattr(value, "__module__", "") if inspect.isclass(value) or inspect.isroutine(value) else ""
        if home.split(".")[0] in TOPS:
            yield f"{home}.{value.__qualname__}"
        else:
            yield f"{_home_of_constant(name, each)}.{each}"


def _home_of_constant(package: str, name: str) -> str:
    """The module of a package whose text gives a name its value."""
    for module, folder in ((package, _folder(importlib.import_module(package))),):
        for found in pkgutil.iter_modules([str(folder)]):
            if not found.ispkg and name in _assigned(folder / f"{found.name}.py"):
                return f"{module}.{found.name}"
    return package


def _assigned(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    targets += [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
    return {target.id for target in targets if isinstance(target, ast.Name)}
