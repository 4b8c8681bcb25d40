"""Work on a few small pictures at once, and read and write beside that; order and results are those of one by one."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

from imgedit.errors import starting_threads

#: pictures under way at once, at most
AT_ONCE = 4
#: and no further one is taken in once they have so many pixels together: larger ones are worked on one by one
PIXELS = 4 << 20


class Sized(Protocol):
    """What has a number of pixels."""

    @property
    def pixels(self) -> int: ...


Item = TypeVar("Item", bound=Sized)
Result = TypeVar("Result")


def cores() -> int:
    """Return how many cores this process may use."""
    # not every system can say which these are
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered(
    items: Iterator[Item], run: Callable[[Item], Result], workers: int, most: int = PIXELS
) -> Iterator[tuple[Item, Result]]:
    """Yield (item, *run* of it) for each of *items*, in their order; up to *workers* are run at once.

    A further item is taken in only while those under way, and those done and not yet handed on, are at most *workers*
    with at most *most* pixels in all. What *run* raises is raised in its turn. The first is run alone: what it loads,
    the others find.
    """
    waiting: deque[tuple[Item, Future[Result]]] = deque()

    def oldest() -> tuple[Item, Result]:
        item, future = waiting.popleft()
        return item, future.result()

    first = next(items, None)
    if first is None:
        return
    yield first, run(first)
    del first
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                while waiting and sum(one.pixels for one, _ in waiting) + item.pixels > most:
                    yield oldest()
                with starting_threads():
                    waiting.append((item, pool.submit(run, item)))
                del item  # not kept while the next is read
                while len(waiting) > workers or sum(one.pixels for one, _ in waiting) >= most:
                    yield oldest()
            while waiting:
                yield oldest()
        finally:
            for _, future in waiting:
                future.cancel()
