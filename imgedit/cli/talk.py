"""Everything that is said on stderr: errors, hints, warnings, progress."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

import click

from imgedit.errors import ImgeditError

IO_HINT = "check that the place exists, may be written to, and has space left"
_COLOURS = {"error": "red", "warning": "yellow", "hint": "cyan"}


def say(kind: str, text: str) -> None:
    """Print ``kind: text`` on stderr; coloured on a terminal, unless NO_COLOR is set."""
    with contextlib.suppress(OSError):
        click.echo(click.style(f"{kind}:", fg=_COLOURS.get(kind)) + " " + printable(text), err=True, color=_colour())


def printable(text: str) -> str:
    """Return *text* without control characters: file names and sidecars come from anywhere."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def error(fault: ImgeditError, name: str | None = None) -> None:
    """Print an error and its hint; *name* of the picture in front, when there are several."""
    say("error", f"{name}: {fault.message}" if name else fault.message)
    say("hint", fault.hint)


def _colour() -> bool | None:
    import os

    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def listen(*, quiet: bool, verbose: bool) -> None:
    """Send warnings to stderr (none with *quiet*), and with *verbose* what is being done."""
    import logging

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(record.levelname.lower(), record.getMessage())

    log = logging.getLogger("imgedit")
    log.handlers = [Handler()]
    log.propagate = False
    log.setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING)


@contextlib.contextmanager
def progress(total: int | None, *, quiet: bool, steps: bool = False) -> Iterator[Progress]:
    """Yield an object to be advanced; it shows a bar on a terminal only, and only for several pictures.

    *steps*: also for the steps within a picture, as they are told.
    """
    if quiet or sys.stderr is None or not sys.stderr.isatty() or (total == 1 and not steps):
        yield Progress(lambda: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        # an interrupt may end the process at once, and the cursor would stay hidden
        bar.console.show_cursor(True)
        task = bar.add_task("pictures", total=total, visible=total != 1)
        within = bar.add_task("steps", total=None, visible=False)

        def step(done: int, of: int) -> None:
            bar.update(within, completed=done, total=of, visible=done < of)

        yield Progress(lambda: bar.advance(task), step)


class Progress:
    """Counts finished pictures; *step*, where there is a bar, shows how many steps of one are done, of how many."""

    def __init__(self, advance: Callable[[], None], step: Callable[[int, int], None] | None = None) -> None:
        self.advance = advance
        self.step = step
