"""Names to objects, on demand: a folder lists them, nothing is imported before it is asked for."""

from __future__ import annotations

import importlib
import os
import sys
from functools import cache
from typing import Any

from imgedit.errors import ImgeditError, Unavailable, UsageError, nearest
from imgedit.stage import Stage

_ROOT = os.path.dirname(__file__)  # noqa: PTH120 - pathlib costs a third of the start-up
STAGE_GROUP = "imgedit.stages"
BACKEND_GROUP = "imgedit.backends"


def stage_names(*, plugins: bool = True) -> list[str]:
    """Return the names of all stages, sorted, as typed in a shell (``match-hist``)."""
    names = {_typed(name) for name in _modules("stages")}
    return sorted(names | {name for name, _ in _plugins(STAGE_GROUP)} if plugins else names)


def stage(name: str) -> Stage:
    """Return the stage called *name*. Raises UsageError with the nearest name where there is none."""
    module = _own("stages", name)
    if module:
        function = getattr(importlib.import_module(f"imgedit.stages.{module}"), module)
    else:
        found = dict(_plugins(STAGE_GROUP))
        if name not in found:
            raise UsageError(f"there is no stage {name!r}", nearest(name, stage_names()))
        function = _load(found[name], f"the stage {name!r}")
    declared = getattr(function, "stage", None)
    if not isinstance(declared, Stage):
        raise Unavailable(f"{name!r} is not a stage", "its package must decorate it with imgedit.stage.stage")
    return declared


def plugin_stages() -> dict[str, str]:
    """Return name → package of the stages that plugins bring, without importing them."""
    return {name: point.dist.name for name, point in _plugins(STAGE_GROUP)}


def backend_kinds() -> list[str]:
    """Return the kinds of backends: one folder each."""
    with os.scandir(os.path.join(_ROOT, "backends")) as entries:  # noqa: PTH118
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("_"))


def backend_names(kind: str) -> list[str]:
    """Return the names of the backends of *kind*, sorted, without importing any."""
    plugins = {name.partition(".")[2] for name, _ in _plugins(BACKEND_GROUP) if name.startswith(kind + ".")}
    return sorted({_typed(name) for name in _modules(f"backends/{kind}")} | plugins)


def backend_class(kind: str, given: str) -> Any:
    """Return the class of the backend *given*, ``NAME`` or ``NAME:FILE``; its heavy packages are not imported by this.

    Raises UsageError with the nearest name where there is none, or where it takes no file or lacks one.
    """
    name, colon, file = given.partition(":")
    found = _class(kind, name)
    takes = getattr(found, "takes_file", False)
    if takes and not file:
        raise UsageError(f"the {kind} backend {name!r} needs a file of weights", f"--backend {name}:FILE")
    if colon and not takes:
        raise UsageError(f"the {kind} backend {name!r} takes no file", f"--backend {name}")
    return found


def absolute(given: str, folder: str | os.PathLike[str]) -> str:
    """Return the backend *given* with its file, where it has one, found from *folder* instead of from here.

    What is no file there stays as it is: it may be the id of a model.
    """
    name, _, file = given.partition(":")
    path = os.path.join(folder, os.path.expanduser(file))  # noqa: PTH118, PTH111
    return f"{name}:{os.path.abspath(path)}" if file and os.path.exists(path) else given  # noqa: PTH100, PTH110


def _class(kind: str, name: str) -> Any:
    """Return the class of the backend called *name*; UsageError with the nearest name where there is none."""
    module = _own(f"backends/{kind}", name)
    if module:
        found = importlib.import_module(f"imgedit.backends.{kind}.{module}")
        return getattr(found, "".join(word.capitalize() for word in module.split("_")))
    plugins = dict(_plugins(BACKEND_GROUP))
    if f"{kind}.{name}" not in plugins:
        raise UsageError(f"there is no {kind} backend {name!r}", nearest(name, backend_names(kind)))
    return _load(plugins[f"{kind}.{name}"], f"the plugin backend {name!r}")


def missing(backend: Any) -> list[str]:
    """Return the packages that a backend class requires and this machine lacks."""
    from importlib.util import find_spec

    return [package for package in backend.requires if find_spec(package) is None]


def install_hint(backend: Any) -> str:
    """Return what to type to get the packages of a backend class."""
    extra = f"[{backend.extra}]" if backend.extra else ""
    return f"pip install 'imgedit{extra}'"


def listed_class(kind: str, name: str) -> Any:
    """Return the class of a backend for a list of all of them: one that needs a file comes without it."""
    return _class(kind, name)


def backend(kind: str, given: str, folder: str | os.PathLike[str] = "") -> Any:
    """Return the backend *given*, ``NAME`` or ``NAME:FILE``, adapted and ready to be called; one instance a process.

    A relative file is looked up from *folder*; there is one instance for each file. Raises Unavailable, naming what is
    missing and what to type, where a package is not installed.
    """
    return _backend(kind, absolute(given, folder))


@cache
def _backend(kind: str, given: str) -> Any:
    found = backend_class(kind, given)
    name, _, file = given.partition(":")
    lacking = missing(found)
    if lacking:
        raise Unavailable(
            f"the {kind} backend {name!r} needs {', '.join(lacking)}, not installed here", install_hint(found)
        )
    adapter = importlib.import_module("imgedit.backends.adapter")
    return adapter.adapt(kind, found(file) if file else found())


def _own(folder: str, name: str) -> str | None:
    """Return the module in *folder* that is called *name* in a shell, if there is one."""
    module = name.replace("-", "_")
    return module if _typed(module) == name and module in _modules(folder) else None


def _typed(module: str) -> str:
    return module.replace("_", "-")


@cache
def _modules(folder: str) -> frozenset[str]:
    with os.scandir(os.path.join(_ROOT, folder)) as entries:  # noqa: PTH118
        return frozenset(e.name[:-3] for e in entries if e.name.endswith(".py") and not e.name.startswith("_"))


@cache
def _plugins(group: str) -> list[tuple[str, Any]]:
    if not _any_plugin():
        return []
    from importlib.metadata import entry_points

    return [(point.name, point) for point in entry_points(group=group)]


@cache
def _any_plugin() -> bool:
    """Say whether any installed package names our groups: importlib.metadata costs half as much as click."""
    for folder in filter(os.path.isdir, sys.path):
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith((".dist-info", ".egg-info")):
                    try:
                        with open(os.path.join(entry.path, "entry_points.txt"), "rb") as file:  # noqa: PTH118, PTH123
                            if b"imgedit." in file.read().replace(b"imgedit.__main__", b""):
                                return True
                    except OSError:
                        continue
    return False


def _load(point: Any, what: str) -> Any:
    try:
        return point.load()
    except ImgeditError:
        raise
    except Exception as error:
        raise Unavailable(
            f"{what} could not be loaded: {error}", f"update or remove the package {point.dist.name}"
        ) from error
