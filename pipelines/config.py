"""Typed settings: unknown keys fail and suggest the nearest; `key=value` overrides; no secrets inside.

Input: a dict (from YAML or JSON) and overrides such as ``focus.delta=0.2``.
Does: checks them against a tree of pydantic models, each of which lives with the code that it configures.
Output: a frozen settings object, or a ConfigError that names the key, the value and the mend.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

import pydantic
import yaml

from pipelines.errors import ConfigError

S = TypeVar("S", bound="Settings")


class Settings(pydantic.BaseModel):
    """Base of every settings class: frozen, no unknown keys, values checked."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, validate_default=True)


def make(cls: type[S], values: Mapping[str, Any], overrides: Iterable[str] = ()) -> S:
    """Build settings from a nested dict, then apply ``a.b=value`` overrides (values are read as YAML).

    Raises:
        ConfigError: an unknown key (with the nearest known one), or a value out of range.
    """
    tree = _copied(values)
    for override in overrides:
        key, found, text = override.partition("=")
        if not found or not key.strip():
            raise ConfigError(f"'{override}' is not an override; write key=value, such as focus.delta=0.2")
        _set(cls, tree, key.strip(), yaml.safe_load(text) if text else None)
    try:
        return cls.model_validate(tree)
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
    """Dotted key -> (old, new) wherever two nested dicts of settings differ."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found |= differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found[prefix + key] = (a, b)
    return found


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def _set(cls: type[Settings], tree: dict[str, Any], dotted: str, value: Any) -> None:
    if dotted not in known_keys(cls):
        raise ConfigError(_unknown(cls, dotted))
    *folders, last = dotted.split(".")
    for folder in folders:
        tree = tree.setdefault(folder, {})
    tree[last] = value


def _unknown(cls: type[Settings], dotted: str) -> str:
    keys = known_keys(cls)
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
        if item["type"] == "extra_forbidden":
            lines.append(_unknown(cls, dotted))
        elif item["type"] == "missing":
            lines.append(f"'{dotted}' is required; give it as {dotted}=VALUE")
        else:
            value = f"{dotted} = {item['input']!r}: " if dotted else ""  # without a key it is about several
            lines.append(value + item["msg"].removeprefix("Value error, "))
    return "; ".join(lines)


def _settings_in(annotation: Any) -> type[Settings] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Settings):
            return candidate
    return None
