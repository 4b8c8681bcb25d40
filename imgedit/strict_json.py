"""Frozen dataclasses ↔ JSON, strictly: what is read is exactly what could have been written."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from imgedit.errors import DataError

HINT = "delete the sidecar, or write it again with this version of imgedit"


def plain(value: Any) -> Any:
    """Return JSON values for *value*; fields that say nothing (None, empty) are left out."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if dataclasses.is_dataclass(value):
        items = ((f, getattr(value, f.name)) for f in dataclasses.fields(value))
        empty = getattr(value, "LISTS_ALWAYS", False)
        return {
            f.name: plain(item)
            for f, item in items
            if item is not None and (_required(f) or empty or not _says_nothing(item))
        }
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if hasattr(value, "item"):  # a numpy scalar
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot stand in a sidecar")


def frozen(value: Any) -> Any:
    """Return *value* as it comes back from a sidecar: tuples for lists, plain numbers for numpy's."""
    return _tuples(plain(value), "value")


def _says_nothing(item: Any) -> bool:
    return isinstance(item, tuple | Mapping) and not item


def no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number here")


def build(kind: Any, value: Any, where: str) -> Any:
    """Return *value* (JSON) as *kind* (a type as written in the dataclasses above), or raise DataError."""
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if kind is Any:
        return _tuples(value, where)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return build(next(a for a in arguments if a is not type(None)), value, where)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = _hints(kind)
        unknown = sorted(set(value) - set(hints))
        if unknown:
            raise DataError(f"{where} has an unknown key {unknown[0]!r:.60}", HINT)
        built = {name: build(hints[name], item, f"{where}.{name}") for name, item in value.items()}
        try:
            return typing.cast(Any, kind)(**built)
        except TypeError:
            needed = {f.name for f in dataclasses.fields(kind) if _required(f)}
            raise DataError(f"{where} lacks {', '.join(sorted(needed - set(built)))}", HINT) from None
    if origin is tuple and isinstance(value, list):
        if arguments[-1] is Ellipsis:
            return tuple(build(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if len(arguments) == len(value):
            return tuple(build(a, item, f"{where}[{i}]") for i, (a, item) in enumerate(zip(arguments, value)))
    elif origin is not None and issubclass(origin, Mapping) and isinstance(value, dict):
        return {_text(key, where): build(arguments[1], item, f"{where}.{key:.60}") for key, item in value.items()}
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(value, where)
    elif kind is str and isinstance(value, str):
        return _text(value, where)
    elif kind is int and isinstance(value, int) and not isinstance(value, bool):
        return _whole(value, where)
    elif kind is bool and isinstance(value, bool):
        return value
    raise DataError(f"{where} is {str(value)[:60]!r}, not of the kind expected there", HINT)


def _whole(value: int, where: str) -> int:
    if abs(value) > 1 << 53:  # beyond this, JSON readers do not agree on what was written
        raise DataError(f"{where} is too large a number", HINT)
    return value


def _finite(value: int | float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if number - number != 0:
        raise DataError(f"{where} is not a finite number", HINT)
    return number


def _text(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where} holds half a character", HINT) from None
    return value


def _tuples(value: Any, where: str) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(item, where) for item in value)
    if isinstance(value, dict):
        return {_text(key, where): _tuples(item, where) for key, item in value.items()}
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, int) and not isinstance(value, bool):
        return _whole(value, where)
    return _finite(value, where) if isinstance(value, float) else value


def _required(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


_HINTS: dict[Any, dict[str, Any]] = {}


def _hints(kind: Any) -> dict[str, Any]:
    if kind not in _HINTS:
        _HINTS[kind] = typing.get_type_hints(kind)
    return _HINTS[kind]
