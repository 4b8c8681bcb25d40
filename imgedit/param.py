"""Parameters of stages: what they are, and the one judge of their values for shell, YAML and Python."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NewType

from imgedit.errors import UsageError, nearest
from imgedit.frame import Frame, ToneStats

#: (x, y, width, height) in pixels; a negative x or y counts from the right or bottom edge
Rect = tuple[int, int, int, int]
#: ((x, y), …) in pixels, at least three corners
Polygon = tuple[tuple[float, float], ...]
#: name → number: ``rmse=0.02`` in the shell, ``{rmse: 0.02}`` in YAML
Limits = Mapping[str, float]


#: the path of a file that is no picture; the engine finds it as it does pictures, and hands on its path
File = NewType("File", str)
#: a model: a file or folder that is found as other files are, or else an id
Model = NewType("Model", str)


@dataclass(frozen=True, slots=True)
class Opt:
    """What the signature cannot say of a parameter: help, range, unit, and a further check.

    *check* gets the converted value and returns it, or raises ValueError with what is wrong, or UsageError with a hint
    of its own.
    """

    help: str
    min: float | None = None
    max: float | None = None
    check: Callable[[Any], Any] | None = None


#: The kinds a parameter can have. ``picture``: a file or ``@name`` that the engine opens and hands over
#: as a Frame. ``tone``: a file or ``@name`` that the engine turns into ToneStats. ``file``: any other file.
#: ``model``: a file or folder if there is one, else an id.
Kind = Literal["int", "float", "bool", "str", "choice", "rect", "polygon", "limits", "picture", "tone", "file", "model"]
#: kinds that can name a file, which lies beside the pipeline file that names it
FILES = ("picture", "tone", "file", "model")

_KINDS: list[tuple[Any, Kind]] = [
    (bool, "bool"),
    (int, "int"),
    (float, "float"),
    (str, "str"),
    (Rect, "rect"),
    (Polygon, "polygon"),
    (Limits, "limits"),
    (Frame, "picture"),
    (ToneStats, "tone"),
    (File, "file"),
    (Model, "model"),
]


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter: the schema of the shell, of YAML and of Python, and their one judge."""

    name: str
    kind: Kind
    default: Any
    opt: Opt
    optional: bool = False
    many: bool = False
    choices: tuple[str, ...] = ()

    @property
    def option(self) -> str:
        """The name as written in the shell and in YAML: ``min-score``."""
        return self.name.removesuffix("_").replace("_", "-")

    def check(self, value: Any) -> Any:
        """Return *value* (text from a shell, a value from YAML or Python) as this parameter's type.

        Raises UsageError that names the option, the value and what is allowed.
        """
        if value is None and (self.optional or self.default is None):
            return None
        try:
            if self.many:
                return tuple(self._one(item) for item in _listed(value, self.kind))
            return self._one(value)
        except ValueError as error:
            raise UsageError(f"--{self.option}: {error}", self._hint()) from None

    def _one(self, value: Any) -> Any:
        converted = _CONVERT[self.kind](value)
        if self.choices and converted not in self.choices:
            raise ValueError(f"{converted!r} is not a choice, {nearest(str(converted), self.choices)}")
        low, high = self.opt.min, self.opt.max
        if low is not None and converted < low:
            raise ValueError(f"{converted} is too small, it must be {self.range}")
        if high is not None and converted > high:
            raise ValueError(f"{converted} is too large, it must be {self.range}")
        return self.opt.check(converted) if self.opt.check else converted

    def names_file(self, value: Any) -> bool:
        """Tell whether *value* names a file, and no ``@name``."""
        named = self.kind in ("picture", "tone") and isinstance(value, str) and value.startswith("@")
        return self.kind in FILES and isinstance(value, str) and not named

    @property
    def range(self) -> str:
        """The allowed range for people: ``0 to 1``, ``at least 1``, or nothing."""
        low, high = self.opt.min, self.opt.max
        if low is not None and high is not None:
            return f"{low:g} to {high:g}"
        return f"at least {low:g}" if low is not None else f"at most {high:g}" if high is not None else ""

    def _hint(self) -> str:
        if self.choices:
            return f"--{self.option} takes one of: {', '.join(self.choices)}"
        form = self.opt.help if self.kind == "str" else _FORMS[self.kind]
        return f"--{self.option}: {form}" + (f", {self.range}" if self.range else "")


def kind_of(hint: Any, where: str) -> dict[str, Any]:
    """Return kind, optional, many and choices for the type *hint* of a parameter."""
    optional = False
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        rest = [a for a in typing.get_args(hint) if a is not type(None)]
        optional = len(rest) < len(typing.get_args(hint))
        hint = rest[0]
    for known, kind in _KINDS:
        if hint == known:
            return {"kind": kind, "optional": optional}
    if typing.get_origin(hint) is Literal:
        return {"kind": "choice", "optional": optional, "choices": typing.get_args(hint)}
    if typing.get_origin(hint) is tuple and typing.get_args(hint)[1:] == (Ellipsis,):
        return {**kind_of(typing.get_args(hint)[0], where), "optional": optional, "many": True}
    raise TypeError(f"{where}: {hint} is no type that a parameter can have")


# --- conversions: one for each kind; text comes from a shell, the rest from YAML or Python ---------------


def _int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str | float):
        raise ValueError(f"{value!r} is not a whole number")
    try:
        number = int(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{value!r} is not a whole number") from None
    if isinstance(value, float) and number != value:
        raise ValueError(f"{value!r} is not a whole number")
    return number


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | str | float):
        raise ValueError(f"{value!r} is not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{value!r} is not a number") from None
    if number - number != 0:
        raise ValueError(f"{value!r} is not a finite number")
    return number


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "yes", "on", "1"):
        return True
    if isinstance(value, str) and value.lower() in ("false", "no", "off", "0"):
        return False
    raise ValueError(f"{value!r} is neither true nor false")


def _str(value: Any) -> str:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:  # of an argument that is not in the locale's encoding
            raise ValueError(f"{value!r} is not text in UTF-8") from None
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{value!r} is not text")


def _numbers(value: Any) -> list[float]:
    parts = re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise ValueError(f"{value!r} is not a list of numbers")
    return [_float(part) for part in parts]


def _rect(value: Any) -> Rect:
    numbers = [_int(n) for n in _numbers(value)]
    if len(numbers) != 4 or numbers[2] < 1 or numbers[3] < 1:
        raise ValueError(f"{value!r} is not x,y,width,height with a width and height of at least 1")
    return (numbers[0], numbers[1], numbers[2], numbers[3])


def _polygon(value: Any) -> Polygon:
    if isinstance(value, list | tuple) and all(isinstance(point, list | tuple) for point in value):
        value = [number for point in value for number in point]
    numbers = _numbers(value)
    if len(numbers) < 6 or len(numbers) % 2:
        raise ValueError(f"{value!r} is not x,y x,y x,y with at least three corners")
    return tuple(zip(numbers[::2], numbers[1::2]))


def _limits(value: Any) -> dict[str, float]:
    if isinstance(value, Mapping):
        return {str(name): _float(number) for name, number in value.items()}
    limits = {}
    if not isinstance(value, str | list | tuple):
        raise ValueError(f"{value!r} is not name=number")
    for item in [value] if isinstance(value, str) else value:
        name, equals, number = str(item).partition("=")
        if not equals:
            raise ValueError(f"{item!r} is not name=number")
        limits[name.strip()] = _float(number)
    return limits


def _tone(value: Any) -> Any:
    return value if isinstance(value, ToneStats) else _reference(value)


def _reference(value: Any) -> Any:
    if isinstance(value, Frame):
        return value
    if isinstance(value, str) and value:
        return value
    raise ValueError(f"{value!r} is neither a file nor a @name")


def _file(value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    raise ValueError(f"{value!r} is not the name of a file")


def _is_point(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and not any(isinstance(v, list | tuple) for v in value)


def _listed(value: Any, kind: Kind) -> Sequence[Any]:
    """Return *value* as a list of single values: one alone is a list of one."""
    if isinstance(value, str):
        return value.split(",") if kind in ("str", "choice") else [value]
    if not isinstance(value, list | tuple):
        return [value]
    if kind in ("str", "choice"):
        return [part for item in value for part in (item.split(",") if isinstance(item, str) else [item])]
    if not value:
        return value
    nested = isinstance(value[0], list | tuple | str)
    if kind == "rect" and not nested:
        return [value]
    if kind == "polygon" and all(_is_point(item) for item in value):
        return [value]
    return value


_CONVERT: dict[Kind, Callable[[Any], Any]] = {
    "int": _int,
    "float": _float,
    "bool": _bool,
    "str": _str,
    "choice": _str,
    "rect": _rect,
    "polygon": _polygon,
    "limits": _limits,
    "picture": _reference,
    "tone": _tone,
    "file": _file,
    "model": _file,
}

_FORMS: dict[Kind, str] = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "choice": "a word",
    "rect": "x,y,width,height in pixels",
    "polygon": 'corners in pixels: "10,10 90,10 50,60"',
    "limits": "name=number",
    "picture": "a picture file or @name",
    "tone": "a picture file or @name",
    "file": "a file",
    "model": "a Hub id, a folder or a file",
}
