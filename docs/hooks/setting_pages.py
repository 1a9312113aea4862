"""The settings of a run, and the recipes, as pages of Markdown, from TrainConfig and the recipes themselves.

Names, types, limits and defaults come from the code; what a setting means comes from its row in docs/configuration.md.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from adaptfocus.pipelines.settings import Settings
from adaptfocus.trainers.settings import TrainConfig, recipes

SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def settings_page(configuration: str) -> tuple[str, list[str]]:
    """The page; and a sentence for each setting that docs/configuration.md leaves out, or that is none."""
    meanings = meanings_of(configuration)
    lines = [
        "# Settings",
        "",
        "Every setting of a run, as `key=value` after a recipe or in a file for `--config`. Types, limits and defaults "
        "are read from the code. [Configuration](../configuration.md) says how values are put together and written.",
        "",
    ]
    keys: set[str] = set()
    for prefix, group in groups(TrainConfig):
        lines += [f"## {f'`{prefix}`' if prefix else 'The run'}", ""]
        if group is not TrainConfig and group.__doc__:
            lines += [inspect.cleandoc(group.__doc__).split("\n\n")[0].replace("\n", " "), ""]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        for name, field in group.model_fields.items():
            if _is_group(field.annotation):
                continue
            key = f"{prefix}.{name}" if prefix else name
            keys.add(key)
            lines.append(f"| `{key}` | {type_of(field)} | {default_of(field)} | {meanings.get(key, '')} |")
        lines.append("")
    wrong = [f"docs/configuration.md has no row for the setting {key}" for key in sorted(keys - set(meanings))]
    wrong += [f"docs/configuration.md has a row for {key}, which is no setting" for key in sorted(set(meanings) - keys)]
    return "\n".join(lines), wrong


def groups(model: type[Settings], prefix: str = "") -> Iterator[tuple[str, type[Settings]]]:
    """(prefix, class) of the settings and of each group in them."""
    yield prefix, model
    for name, field in model.model_fields.items():
        if _is_group(kind := field.annotation):
            yield from groups(kind, f"{prefix}.{name}" if prefix else name)  # type: ignore[arg-type]


def _is_group(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Settings)


def type_of(field: FieldInfo) -> str:
    """Words for a field's type and its limits."""
    limits = [
        f"{SIGNS[sign]} {getattr(each, sign)}" for each in field.metadata for sign in SIGNS if hasattr(each, sign)
    ]
    return ", ".join([_words(field.annotation), *limits]).replace("|", "\\|")


def _words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_words(part) for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is tuple:
        return "list of " + _words(get_args(kind)[0])
    if get_origin(kind) is dict:
        return "group"
    return {str: "text", int: "integer", float: "number", bool: "true or false"}.get(
        kind, getattr(kind, "__name__", "?")
    )


def default_of(field: FieldInfo) -> str:
    """A field's default as it would be written."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def meanings_of(configuration: str) -> dict[str, str]:
    """Key -> what its row in docs/configuration.md says, with links that work one folder below."""
    found: dict[str, str] = {}
    for row in re.findall(r"^\| (`[a-z_.0-9`, ]+` \|.*)\|$", configuration.split("\n## Settings", 1)[1], re.MULTILINE):
        keys, *cells = re.split(r"(?<!\\)\|", row)
        if len(cells) == 3:  # type, default, meaning
            meaning = re.sub(r"\]\((?!https?:)", "](../", cells[-1].strip()).replace("](../#", "](../configuration.md#")
            found |= dict.fromkeys(re.findall(r"`(.+?)`", keys), meaning)
    return found


def recipes_page() -> str:
    """What each recipe is for, as its function says."""
    lines = [
        "# Recipes",
        "",
        "A recipe is the word after `adaptfocus train`, `plan` or `submit`: settings that belong together. Any "
        "[setting](settings.md) after it overrides it.",
        "",
    ]
    for name, make in recipes.RECIPES.items():
        lines += [f"## `{name}`", "", inspect.cleandoc(make.__doc__ or "").replace("<", "&lt;"), ""]
        lines += ["| key | value |", "|---|---|", *(f"| `{key}` | `{value}` |" for key, value in _flat(make())), ""]
    return "\n".join(lines)


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
