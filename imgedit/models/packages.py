"""What is said of packages that are installed and cannot be imported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib import metadata

from imgedit.errors import Unavailable

_AGAIN = "pip install --force-reinstall 'imgedit[models]'"
#: torch 2.n goes with torchvision 0.(n + 15)
_APART = 15
_CPU = " --index-url https://download.pytorch.org/whl/cpu"


@contextlib.contextmanager
def importing(what: str) -> Iterator[None]:
    """Turn what is raised where *what* is installed and cannot be imported into one error of ours: Unavailable.

    transformers and diffusers import their parts when these are first named, and say so in errors of several kinds.
    """
    try:
        yield
    except (ImportError, RuntimeError) as error:
        if not isinstance(error, ImportError) and "Failed to import" not in str(error):
            raise
        raise broken(error, what) from error


def broken(error: BaseException, what: str) -> Unavailable:
    """Return the error for *what*, whose import ended with *error*: the first cause, and what mends it.

    Most often it is torchvision: its operators load beside the one torch that it was built for, and transformers and
    spandrel import it wherever it is installed.
    """
    reasons = [" ".join(str(each).split()) for each in _chain(error)]
    if any("torchvision" in reason for reason in reasons):
        torch, vision = _version("torch"), _version("torchvision")
        return Unavailable(
            f"{what} cannot be imported here: torchvision {vision} was not built for torch {torch}", _fitting(torch)
        )
    reason = reasons[0].rpartition("traceback): ")[2] or type(error).__name__
    return Unavailable(f"{what} cannot be imported here: {reason:.200}", _AGAIN)


def _fitting(torch: str) -> str:
    """Return what installs the torchvision for a version of torch, and leaves that torch as it is."""
    number, _, build = torch.partition("+")
    major, minor = (*number.split("."), "", "")[:2]
    if major != "2" or not minor.isdigit():
        return _AGAIN
    index = _CPU if build == "cpu" else ""
    return f"pip install --force-reinstall --no-deps 'torchvision==0.{int(minor) + _APART}.*'{index}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "?"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield *error*, and what led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
