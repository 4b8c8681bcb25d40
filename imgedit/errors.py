"""Every error class of imgedit: what is wrong, what to type next, and the exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imgedit.frame import Frame

EXIT_GATE = 1
EXIT_USAGE = 2
EXIT_PARTIAL = 3
EXIT_DATA = 65
EXIT_UNAVAILABLE = 69
EXIT_BUG = 70
EXIT_IO = 74
EXIT_MEMORY = 75
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141
EXIT_TERMINATED = 143


class ImgeditError(Exception):
    """An error for the person who must act: a message in their words, a hint they can type."""

    exit_code = EXIT_BUG

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class GateFailed(ImgeditError):
    """A gate said no. Carries the frame with its findings and metrics; it is a verdict, not a fault."""

    exit_code = EXIT_GATE

    def __init__(self, message: str, hint: str, frame: Frame | None = None) -> None:
        super().__init__(message, hint)
        self.frame = frame


class UsageError(ImgeditError):
    """An unknown option, a wrong value, a bad pipeline file."""

    exit_code = EXIT_USAGE


class PartialFailure(ImgeditError):
    """Some frames failed, the others are done."""

    exit_code = EXIT_PARTIAL


class DataError(ImgeditError):
    """The input is not what it should be: damaged, too large, of another size."""

    exit_code = EXIT_DATA


class Unavailable(ImgeditError):
    """A backend, model or device that is not available on this machine."""

    exit_code = EXIT_UNAVAILABLE


class BrokenPromise(ImgeditError):
    """Our bug: a stage or backend did not keep what it declares."""

    exit_code = EXIT_BUG


class FileError(ImgeditError):
    """A file that could not be read or written."""

    exit_code = EXIT_IO


class OutOfMemory(ImgeditError):
    """Not enough memory, even at the smallest tile."""

    exit_code = EXIT_MEMORY


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known name closest to a mistyped *word*, or the list of all known names, as a hint."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(names) if names else "nothing of the kind is known here"


def no_thread(error: BaseException) -> bool:
    """Return whether *error* is what Python says where the system has no memory for another thread."""
    return isinstance(error, RuntimeError) and "start new thread" in str(error)


@contextmanager
def starting_threads() -> Iterator[None]:
    """Raise MemoryError, which it is, where the system has no memory for another thread."""
    try:
        yield
    except RuntimeError as error:
        if not no_thread(error):
            raise
        raise MemoryError(str(error)) from None
