"""The contract: what a stage needs, makes and keeps, and its parameters, declared once in its signature."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from imgedit.errors import UsageError, nearest
from imgedit.frame import Frame, Region
from imgedit.param import File, Limits, Model, Opt, Param, Polygon, Rect, kind_of

__all__ = [
    "Again",
    "Around",
    "Expect",
    "File",
    "Limits",
    "Model",
    "Opt",
    "Param",
    "Polygon",
    "Rect",
    "Round",
    "Stage",
    "stage",
]

NEEDS = ("mask", "regions", "tone")
KEEPS = ("pixels", "size", "outside-mask", "alpha")


@dataclass(frozen=True, slots=True)
class Expect:
    """How far latent statistics may move in a stage: in units of the standard deviation before it."""

    mean: float
    std: float


Finds = Sequence[Region]


@dataclass(frozen=True, slots=True)
class Round:
    """One round of a loop: the *number* from 1, the *first* frame, the one *given* to this round, the *params* that it
    was done with (name → value), and what it gave: *done*."""

    number: int
    first: Frame
    given: Frame
    params: Mapping[str, Any]
    done: Frame


@dataclass(frozen=True, slots=True)
class Again:
    """How a stage is done again until its result is clean of text: from the same pixels, with a larger mask each time.

    *look*: the stage whose regions say what is found in a picture. *left*: (first frame, what is found in a result,
    what is found in the first frame) → which of it remains of what was to go. *tighten*: (round, what remains, what is
    found in the first frame) → the frame for the next round, and the parameters that change from this one on. The same
    mask and parameters again end the loop.
    """

    look: str
    left: Callable[[Frame, Finds, Callable[[], Finds]], Finds]
    tighten: Callable[[Round, Finds, Finds], tuple[Frame, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Around:
    """What the engine hands to a stage that declares a further backend: *other* opens that one, when it is called.

    *strict*: what may be off between stages is refused, and not only said.
    """

    other: Callable[[], Any]
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """A pure function Frame → Frame with its declarations. Made by :func:`stage`; called by the engine alone.

    *crops*: the function is a generator: it yields :class:`imgedit.jobs.Ask`, is sent a list of
    :class:`imgedit.jobs.Synthesized`, and returns the frame. Crops of several frames then share forward passes.
    """

    name: str
    function: Callable[..., Any]
    params: Mapping[str, Param]
    needs: tuple[str, ...]
    makes: tuple[str, ...]
    keeps: tuple[str, ...]
    backend: tuple[str, str] | None
    guard: str | None
    grows: str | None
    latents: Expect | None
    again: Again | None = None
    explain: Callable[[str], str] | None = None
    crops: bool = False
    also: tuple[str, str] | None = None
    spares: Callable[[Mapping[str, Any]], Collection[str]] | None = None

    @property
    def help(self) -> str:
        """The docstring: its first line is the summary."""
        return inspect.getdoc(self.function) or ""

    def param(self, option: str) -> Param:
        """Return the parameter of an option's name (with - or _). Raises UsageError with the nearest one."""
        by_option = {param.option: param for param in self.params.values()}
        found = by_option.get(option.replace("_", "-").strip("-"))
        if found is None:
            raise UsageError(f"{self.name} has no option {option!r}", nearest(option, by_option))
        return found

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all parameters, defaults filled in, from *given* (option → value); UsageError if one is off."""
        values = {name: param.default for name, param in self.params.items()}
        for option, value in given.items():
            param = self.param(str(option))
            values[param.name] = param.check(value)
        return values


F = TypeVar("F", bound=Callable[..., Any])
_ROUNDS = Opt(
    "Look for text in the result; where some remains, enlarge the mask there and fill again from the input: at most so "
    "many rounds. Fails (exit 1) if text is left.",
    min=1,
    max=10,
)


def stage(
    *,
    needs: Sequence[str] = (),
    makes: Sequence[str] = (),
    keeps: Sequence[str] = (),
    backend: str | None = None,
    guard: str | None = None,
    grows: str | None = None,
    latents: Expect | None = None,
    again: Again | None = None,
    explain: Callable[[str], str] | None = None,
    also: str | None = None,
    spares: Callable[[Mapping[str, Any]], Collection[str]] | None = None,
) -> Callable[[F], F]:
    """Declare a stage: the keyword-only parameters of the function are its options.

    *needs*: mask, regions, tone: refused before any work where the frame lacks one. *makes*: must be there
    afterwards. *keeps*: pixels, size, outside-mask, alpha: compared bit for bit after each call.
    *backend*: ``kind:default``; adds ``--backend`` and hands an instance as second argument. *guard*: a stage
    with ``fail_on`` that looks at the frame first and may refuse it; adds ``--force``. *grows*: the parameter
    that rows and columns are multiplied by, so that a result beyond the limits is refused beforehand.
    *latents*: how far latent statistics may move. *again*: how it is done again where text remains; adds
    ``--until-clean``. *explain*: returns the documentation of a code that its findings have, or the list of all
    codes for an empty one; adds ``--explain`` in a shell. *also*: ``kind:name`` of a further backend; the stage is
    handed an :class:`Around` as third argument. *spares*: parameters → codes of the guard that are no errors with them.

    A stage that is a generator hands its crops to the engine, see :class:`Stage`.
    """

    def decorate(function: F) -> F:
        for word in (*needs, *makes, *keeps):
            if word not in (*NEEDS, *KEEPS):
                raise ValueError(f"{function.__name__}: {word!r} is nothing a stage can declare")
        params = _params(function)
        if pair := _pair(backend):
            opt = Opt("Method or model that does the work; `imgedit backends` lists them.")
            params["backend"] = Param("backend", "str", pair[1], opt)
        if guard:
            params["force"] = Param("force", "bool", False, Opt(f"Go on where {guard} finds an error."))
        if again:
            params["until_clean"] = Param("until_clean", "int", None, _ROUNDS, optional=True)
        declared = Stage(
            name=function.__name__.rstrip("_").replace("_", "-"),
            function=function,
            params=types.MappingProxyType(params),
            needs=tuple(needs),
            makes=tuple(makes),
            keeps=tuple(keeps),
            backend=pair,
            guard=guard,
            grows=grows,
            latents=latents,
            again=again,
            explain=explain,
            crops=inspect.isgeneratorfunction(function),
            also=_pair(also),
            spares=spares,
        )
        function.stage = declared  # type: ignore[attr-defined]
        return function

    return decorate


def _pair(backend: str | None) -> tuple[str, str] | None:
    """Return (kind, name) of ``kind:name``."""
    kind, _, name = (backend or "").partition(":")
    return (kind, name) if backend else None


def _params(function: Callable[..., Any]) -> dict[str, Param]:
    hints = typing.get_type_hints(function, include_extras=True)
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        hint = hints[name]
        if typing.get_origin(hint) is not Annotated:
            raise TypeError(f"{function.__name__}({name}): annotate it as Annotated[type, Opt(help)]")
        kind, opt = typing.get_args(hint)[:2]
        default = None if parameter.default is inspect.Parameter.empty else parameter.default
        found[name] = Param(name, default=default, opt=opt, **kind_of(kind, f"{function.__name__}({name})"))
    return found
