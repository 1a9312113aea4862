"""What a setting's text means: the type of the setting decides, not the look of the text.

Text from the command line or a YAML file stays text if the setting wants text (`name=2026-11-23` is a name, not a
date). Numbers are decimal. Lists and groups are read as YAML without its guesses: octal, base 60, dates, `yes` and
`no`. An error says what may be written.
"""

from __future__ import annotations

import re
import types
from collections.abc import Hashable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

import yaml

from adaptfocus.pipelines.errors import ConfigError

NOTHING = ("", "null", "~", "none")  # allowed texts for a setting that may be None
WHOLE, NUMBER = "a whole number in decimals, such as 8", "a number in decimals, such as 0.5 or 1e-3"
SWITCH = "true or false"

_INT = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class _Loader(yaml.SafeLoader):
    """YAML in which all plain words are text; only `<<` keeps its meaning."""

    yaml_implicit_resolvers: ClassVar = {"<": yaml.SafeLoader.yaml_implicit_resolvers["<"]}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for number, (key, _) in enumerate(node.value):
            if key.value in keys[:number]:
                raise yaml.MarkedYAMLError(problem=f"'{key.value}' is given twice", problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(text: str | bytes, where: str) -> Any:
    """Groups, lists and texts of a YAML text; `make` converts the texts to their types. None if it is empty.

    Raises:
        ConfigError: it is not YAML; one line gives the place and what to quote.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        place = f", line {at.line + 1}, column {at.column + 1}" if at else ""
        what = " ".join((error.problem or error.context or "it cannot be read").split())
        raise ConfigError(
            f"{where}{place} is not YAML: {what}. Write KEY: VALUE, indent with spaces, and put a value with any of "
            ": # { } [ ] , & * ! | > % @ ` or a quote into quotes, such as name: 'a: b'"
        ) from None
    except RecursionError:
        raise ConfigError(f"{where} is nested too deeply; settings are groups of values, two levels deep") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(f"{where} is not YAML: {said}. Save it as UTF-8 text") from None


def parse_value(value: Any, annotation: Any, where: str) -> Any:
    """A setting's value, with texts converted to the setting's type; other values stay.

    Raises:
        ConfigError: a text is not a value of the type.
    """
    kind, may_be_open = _bare(annotation)
    if isinstance(value, str):
        return _read(value, kind, may_be_open, where)
    inside = get_args(kind)
    if isinstance(value, Mapping) and get_origin(kind) is dict:
        return {key: parse_value(each, inside[1], f"{where}.{key}") for key, each in value.items()}
    if isinstance(value, list) and get_origin(kind) is tuple:
        each_of = inside[:1] * len(value) if Ellipsis in inside else inside
        if len(each_of) != len(value):
            raise ConfigError(f"{where} has {len(value)} values; it must have {len(each_of)}")
        return [parse_value(each, own, where) for each, own in zip(value, each_of, strict=True)]
    return value


def _bare(annotation: Any) -> tuple[Any, bool]:
    """(the type without its limits and without None, whether None was in it)."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation, False
    rest = [each for each in get_args(annotation) if each is not type(None)]
    return (_bare(rest[0])[0] if len(rest) == 1 else annotation), len(rest) < len(get_args(annotation))


def _read(text: str, kind: Any, may_be_open: bool, where: str) -> Any:
    bare = text.strip()
    if may_be_open and bare.lower() in NOTHING:
        return None
    if kind is str or get_origin(kind) is Literal:
        is_quoted = len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "'\""
        return bare[1:-1] if is_quoted else bare
    if kind is bool:
        return _must(bare.lower() in ("true", "false"), where, text, SWITCH) and bare.lower() == "true"
    if kind is int:
        _must(_INT.fullmatch(bare) and len(bare) < 20, where, text, WHOLE)
        return int(bare)
    if kind is float:
        _must(_FLOAT.fullmatch(bare), where, text, NUMBER)
        return float(bare)
    if get_origin(kind) in (dict, tuple):
        made = read_yaml(bare, where) if bare[:1] in ("{", "[") else None
        of_groups = hasattr(get_args(kind)[0], "model_fields")
        like = "{A: B}" if get_origin(kind) is dict else "[{KEY: VALUE}]" if of_groups else "[0.5, 1]"
        _must(isinstance(made, dict if get_origin(kind) is dict else list), where, text, f"written as {like}")
        return parse_value(made, kind, where)
    return text


def _must(right: Any, where: str, text: str, wanted: str) -> bool:
    if not right:
        raise ConfigError(f"{where} = {text!r}: it must be {wanted}")
    return True
