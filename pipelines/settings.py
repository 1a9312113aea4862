"""Typed settings: unknown keys fail and suggest the nearest, `key=value` overrides, no secrets inside.

A dict (from YAML or JSON) and overrides such as ``focus.delta=0.2`` are checked against a tree of pydantic models. Each
model lives with the code that it configures. Settings are frozen. A ConfigError names the key, the value and the fix.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin

import pydantic

from adaptfocus.pipelines.errors import ConfigError
from adaptfocus.pipelines.setting_values import NUMBER, SWITCH, WHOLE, parse_value

S = TypeVar("S", bound="Settings")


class Settings(pydantic.BaseModel):
    """Base of every settings class: frozen, no unknown keys, values checked, numbers finite."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)
    # Name of a setting in other projects -> its dotted key here, to suggest to users who come from there.
    also_called: ClassVar[Mapping[str, str]] = {}


def make(cls: type[S], values: Mapping[str, Any], overrides: Iterable[str] = ()) -> S:
    """Build settings from a nested dict, then apply ``a.b=value`` overrides; texts are converted to the setting's type.

    Raises:
        ConfigError: an unknown key (with the nearest known one), or a value out of range.
    """
    tree = _copied(values)
    for override in overrides:
        key, found, text = override.partition("=")
        if not found or not key.strip():
            raise ConfigError(f"'{override}' is not an override; write key=value, such as focus.delta=0.2")
        _set(cls, tree, key.strip(), text)
    try:
        return cls.model_validate(_typed(cls, tree))
    except pydantic.ValidationError as error:
        raise ConfigError(_explained(cls, error)) from None


def known_keys(cls: type[Settings], prefix: str = "") -> list[str]:
    """Every dotted key that can be set."""
    keys: list[str] = []
    for name, field in cls.model_fields.items():
        child = _settings_in(field.annotation)
        keys += known_keys(child, f"{prefix}{name}.") if child else [prefix + name]
    return keys


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (old, new) for each difference between two nested dicts of settings."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found |= differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found[prefix + key] = (a, b)
    return found


def value_at(values: Mapping[str, Any], dotted: str, missing: Any = None) -> Any:
    """The value of a dotted key, as `differences` names it, in nested dicts of settings."""
    found: Any = values
    for part in dotted.split("."):
        found = found.get(part, missing) if isinstance(found, Mapping) else missing
    return found


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def _typed(cls: type[Settings], tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    made = dict(tree)
    for name in tree.keys() & cls.model_fields.keys():
        annotation = cls.model_fields[name].annotation
        child = _settings_in(annotation)
        if child is None:
            made[name] = _each_typed(parse_value(tree[name], annotation, prefix + name), annotation, prefix + name)
        elif isinstance(tree[name], Mapping):
            made[name] = _typed(child, tree[name], f"{prefix}{name}.")
    return made


def _each_typed(value: Any, annotation: Any, where: str) -> Any:
    """A list of groups with the settings of each group typed; any other value as it is."""
    group = _settings_in_list(annotation)
    if group is None or not isinstance(value, list):
        return value
    return [_typed(group, each, f"{where}.{n}.") if isinstance(each, Mapping) else each for n, each in enumerate(value)]


def _set(cls: type[Settings], tree: dict[str, Any], dotted: str, value: Any) -> None:
    if dotted not in known_keys(cls):
        raise ConfigError(_unknown(cls, dotted))
    *folders, last = dotted.split(".")
    for folder in folders:
        if not isinstance(tree.setdefault(folder, {}), dict):
            raise ConfigError(f"{folder} = {tree[folder]!r}: it must be {GROUP}")
        tree = tree[folder]
    tree[last] = value


def _unknown(cls: type[Settings], dotted: str) -> str:
    keys = known_keys(cls)
    if inside := [key for key in keys if key.startswith(f"{dotted}.")]:
        return f"'{dotted}' is a group of settings; give one of {', '.join(inside)}"
    if own := cls.also_called.get(dotted.rsplit(".", 1)[-1].replace("-", "_").lower()):
        return f"there is no setting '{dotted}'; did you mean '{own}'?"
    near = difflib.get_close_matches(dotted, keys, n=1, cutoff=0.5) or difflib.get_close_matches(
        dotted.rsplit(".", 1)[-1], [k.rsplit(".", 1)[-1] for k in keys], n=1, cutoff=0.6
    )
    full = [k for k in keys if near and (k == near[0] or k.rsplit(".", 1)[-1] == near[0])]
    hint = f"did you mean '{full[0]}'?" if full else f"known keys: {', '.join(keys)}"
    return f"there is no setting '{dotted}'; {hint}"


def _explained(cls: type[Settings], error: pydantic.ValidationError) -> str:
    lines = []
    for item in error.errors():
        dotted = ".".join(str(part) for part in item["loc"])
        in_list = _in_list(cls, item["loc"])
        if item["type"] == "missing" and in_list:
            lines.append(f"'{dotted}' is required")
        elif item["type"] == "extra_forbidden" and in_list:
            lines.append(_unknown_in_list(dotted, *in_list))
        elif item["type"] == "extra_forbidden":
            lines.append(_unknown(cls, dotted))
        elif item["type"] == "missing":
            lines.append(f"'{dotted}' is required; give it as {dotted}=VALUE")
        else:
            wanted = _wanted(item)
            # Where several settings conflict, of all or of a group, the text names them.
            is_named = not dotted or f"{dotted}." in wanted
            lines.append(wanted if is_named else f"{dotted} = {item['input']!r}: {wanted}")
    return "; ".join(lines)


def _unknown_in_list(dotted: str, group: type[Settings], of: str) -> str:
    keys = [*group.model_fields]
    near = difflib.get_close_matches(dotted.rsplit(".", 1)[-1], keys, n=1, cutoff=0.6)
    hint = f"did you mean '{near[0]}'?" if near else f"a group of {of} has {', '.join(keys)}"
    return f"there is no setting '{dotted}'; {hint}"


def _in_list(cls: type[Settings], loc: Sequence[str | int]) -> tuple[type[Settings], str] | None:
    """(the group that a place is in, the key of its list), if the place is in a list of groups."""
    own: type[Settings] | None = cls
    for at, part in enumerate(loc[:-1]):
        field = own.model_fields.get(str(part)) if own else None
        if field is None:
            return None
        if group := _settings_in_list(field.annotation):
            return group, ".".join(map(str, loc[: at + 1]))
        own = _settings_in(field.annotation)
    return None


GROUP = "a group of settings, such as {KEY: VALUE}"
# The meaning of pydantic's error types, by the start of their names.
_WANTED = {
    "int_": WHOLE,
    "float_": NUMBER,
    "finite_number": "a finite number",
    "bool_": SWITCH,
    "string_type": "text",
    "model_type": GROUP,
    "dict_type": GROUP,
    "tuple_type": "a list, such as [0.5, 1]",
    "list_type": "a list, such as [0.5, 1]",
}


def _wanted(item: Any) -> str:
    """What may be written instead of a wrong value, in our words."""
    kind, limits = item["type"], item.get("ctx", {})
    for name, words in (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most")):
        if name in limits:
            return f"it must be {words} {limits[name]:g}"
    if "multiple_of" in limits:
        return f"it must be a multiple of {limits['multiple_of']:g}"
    if kind == "literal_error":
        return f"it must be {limits['expected']}"
    for beginning, wanted in _WANTED.items():
        if kind.startswith(beginning):
            return f"it must be {wanted}"
    return str(item["msg"]).removeprefix("Value error, ")


def _settings_in_list(annotation: Any) -> type[Settings] | None:
    """The group of which a setting is a list; None if it is none."""
    inside = get_args(annotation) if get_origin(annotation) is tuple else ()
    return next((each for each in inside if isinstance(each, type) and issubclass(each, Settings)), None)


def _settings_in(annotation: Any) -> type[Settings] | None:
    inside = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else ()
    for candidate in (annotation, *inside):  # a list of groups is one value
        if isinstance(candidate, type) and issubclass(candidate, Settings):
            return candidate
    return None
