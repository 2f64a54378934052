"""Check that the fields of a dataclass hold values of the declared types, which Python itself does not check."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

_NOUNS: dict[Any, str] = {str: "a string", int: "a whole number", float: "a finite number", bool: "True or False"}


def problems(value: Any, path: str = "") -> Iterator[str]:
    """Yield one sentence for each field of this dataclass instance, at any depth, whose value has the wrong type."""
    prefix = f"{path}." if path else ""
    kind: Any = type(value)
    for name, hint in _hints(kind).items():
        yield from _check(getattr(value, name), hint, f"{prefix}{name}")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {item.name: hints[item.name] for item in dataclasses.fields(kind) if item.init}


def _check(value: Any, hint: Any, path: str) -> Iterator[str]:
    origin = get_origin(hint)
    if origin is types.UnionType:
        if all(any(_check(value, option, path)) for option in get_args(hint)):
            yield f"{path} must be {' or '.join(_noun(option) for option in get_args(hint))}, but is {_found(value)}"
    elif origin is tuple:
        yield from _check_tuple(value, get_args(hint)[0], path)
    elif origin is not None and issubclass(origin, Mapping):
        yield from _check_mapping(value, get_args(hint), path)
    elif isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, hint):
        yield from problems(value, path)
    elif not _has_type(value, hint):
        yield f"{path} must be {_noun(hint)}, but is {_found(value)}"
    elif hint is str and not _can_be_stored(value):
        yield f"{path} contains a character that cannot be stored (NUL or a lone surrogate)"


def _check_tuple(value: Any, hint: Any, path: str) -> Iterator[str]:
    if type(value) is not tuple:
        yield f'{path} must be a tuple, but is {_found(value)}; write a tuple of one item as ("item",)'
        return
    for position, item in enumerate(value):
        yield from _check(item, hint, f"{path}[{position}]")


def _check_mapping(value: Any, hints: tuple[Any, ...], path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{path} must be a mapping, but is {_found(value)}"
        return
    for name, item in value.items():
        yield from _check(name, hints[0], f"a key of {path}")
        yield from _check(item, hints[1], f"{path}[{name!r}]")


def _has_type(value: Any, hint: Any) -> bool:
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    if hint in _NOUNS or issubclass(hint, Enum):
        return type(value) is hint
    return hint is types.NoneType and value is None


def _can_be_stored(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _noun(hint: Any) -> str:
    if hint in _NOUNS:
        return _NOUNS[hint]
    return "None" if hint is types.NoneType else f"one of {hint.__name__}"


def _found(value: Any) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"
