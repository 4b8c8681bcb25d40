"""One way through a picture that is larger than a network can take at once: tiles, and what it takes to not see them.

A tile is shown to the network with context round it, the overlap, and only its middle is kept. Where pixels farther
away than the overlap do not matter, the result is that of the whole picture at once; `reach.measure` finds how far they
do. Where they matter at any distance (attention, statistics of the whole), tiles are blended along their lines.
"""

from __future__ import annotations

import logging
import math
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imgedit.backends import memory
from imgedit.errors import BrokenPromise, OutOfMemory

#: no tile becomes smaller than this, in input pixels: the context would be nearly all of the work
SMALLEST = 16
#: above this larger tiles save no time worth speaking of
LARGEST = 512

Floats = NDArray[np.float32]
#: (rows, columns) → (channels, rows, columns) float32, 0…1
Read = Callable[[slice, slice], Floats]
_HINT = "free some memory, give a larger --memory-target-gb, or a smaller picture"

log = logging.getLogger("imgedit")

_BUG = "this is a bug of the backend: choose another with --backend, and report it"


class Network(Protocol):
    """What is run on tiles. *scale*: output pixels per input pixel; *multiple*: rows and columns that it is given, and
    where its tiles begin, are multiples of this; *smallest*: the fewest rows and columns that it takes; *channels*. One
    that gives another number of channels than it takes says so by *made*; one that holds on to memory that it took, to
    use it again, how many bytes that are by *kept*."""

    scale: int
    multiple: int
    smallest: int
    channels: int

    def __call__(self, window: Floats) -> Floats:
        """Return (channels, rows · scale, columns · scale) for a (channels, rows, columns) *window*."""
        ...


@dataclass(frozen=True, slots=True)
class Layout:
    """How a picture is cut, in input pixels: the side of a *tile*, the context on each side of it, *overlap*, and the
    width of the stripes along the lines between tiles in which both are blended, *ramp*; 0: exact, nothing is blended.
    What is shown of the picture begins at multiples of *step*.
    """

    tile: int
    overlap: int
    ramp: int = 0
    step: int = 1


@dataclass(frozen=True, slots=True)
class Finished:
    """A part of the result that will not change any more: (channels, rows, columns) *values* from *top*, *left* on."""

    top: int
    left: int
    values: Floats


class Parts(ABC):
    """A result of *size* (rows, columns), times *scale*, that is made part by part, row by row.

    Parts are *tile* pixels large and begin at multiples of *step*; along their lines they are blended over *ramp*. As
    many *workers* make one each at the same time where nothing is blended. Where memory runs out the tile is halved,
    for this place and all that follow; what is finished stays. Iterating raises OutOfMemory where a tile of *least* is
    still too large. *halved*: how often that happened; *lines*: the rows and columns of the result at which tiles meet.
    """

    def __init__(
        self,
        size: tuple[int, int],
        tile: int,
        *,
        step: int = 1,
        ramp: int = 0,
        scale: int = 1,
        least: int = SMALLEST,
        device: str = "cpu",
        workers: int = 1,
    ) -> None:
        self.device, self.scale = device, scale
        self._size, self._step, self._least = size, step, least
        self._limit = up(tile, step)
        # blended stripes reach to both sides of a line, but never to the next one
        self._half = min(-(-ramp // 2), self._limit // 2)
        self._workers = 1 if self._half else workers
        self._tops, self._lefts = ([*self._starts(side), side] for side in size)
        self._halving = threading.Lock()
        self.halved = 0

    @property
    def lines(self) -> tuple[list[int], list[int]]:
        return [at * self.scale for at in self._tops[1:-1]], [at * self.scale for at in self._lefts[1:-1]]

    def _starts(self, size: int) -> list[int]:
        """Return where tiles begin: evenly, so that the last is no sliver."""
        count = max(1, -(-size // self._limit))
        tile = up(-(-size // count), self._step)
        return list(range(0, size, tile))

    @abstractmethod
    def _once(self, rows: range, columns: range) -> Floats:
        """Return the result for *rows* and *columns*, (channels, rows · scale, columns · scale), in one run."""

    def __iter__(self) -> Iterator[Finished]:
        return self._one_by_one() if self._workers == 1 else self._side_by_side()

    def _side_by_side(self) -> Iterator[Finished]:
        waiting: deque[tuple[range, range, Future[Floats]]] = deque()

        def oldest() -> Finished:
            rows, columns, future = waiting.popleft()
            return Finished(rows.start * self.scale, columns.start * self.scale, future.result())

        with ThreadPoolExecutor(self._workers) as pool:
            try:
                for top, bottom in pairwise(self._tops):
                    for left, right in pairwise(self._lefts):
                        place = range(top, bottom), range(left, right)
                        waiting.append((*place, self._begun(pool, *place)))
                        if len(waiting) > self._workers:
                            yield oldest()
                while waiting:
                    yield oldest()
            finally:
                for *_, future in waiting:
                    future.cancel()

    def _begun(self, pool: ThreadPoolExecutor, rows: range, columns: range) -> Future[Floats]:
        try:
            return pool.submit(self._region, rows, columns)
        except RuntimeError as error:
            if not memory.is_lack(error):
                raise
            raise OutOfMemory(f"not enough memory for another thread: {error}", _HINT) from None

    def _one_by_one(self) -> Iterator[Finished]:
        scale, half = self.scale, self._half
        tops, lefts = self._tops, self._lefts
        height, width = self._size
        above: list[Floats] = []  # for each tile of the row before, what reaches into this one
        for top, bottom in pairwise(tops):
            rows = range(max(0, top - half), min(height, bottom + half))
            beside: Floats | None = None
            below: list[Floats] = []
            for number, (left, right) in enumerate(pairwise(lefts)):
                columns = range(max(0, left - half), min(width, right + half))
                values = self._region(rows, columns)
                if beside is not None:
                    _blend(beside, values, 2)
                done = columns.stop if right == width else right - half
                split = (done - columns.start) * scale
                beside, values = values[:, :, split:], values[:, :, :split]
                if above:
                    _blend(above[number], values, 1)
                lasts = rows.stop if bottom == height else bottom - half
                split = (lasts - rows.start) * scale
                if half and bottom < height:
                    below.append(values[:, split:].copy())
                yield Finished(rows.start * scale, columns.start * scale, values[:, :split])
            above = below

    def _region(self, rows: range, columns: range) -> Floats:
        """Return the result for *rows* and *columns* of the input, in as many pieces as memory asks for."""
        # more than once: a sliver is no larger than half a tile
        while max(len(rows), len(columns)) <= self._limit + 2 * self._half:
            try:
                return self._once(rows, columns)
            except Exception as error:
                if not memory.is_lack(error):
                    raise
                why = str(error)
            # only here: the error holds on to everything that was at work when it was raised
            self._halve(max(len(rows), len(columns)), why)
        axis = 0 if len(rows) >= len(columns) else 1
        whole = (rows, columns)[axis]
        middle = whole.start + up(len(whole) // 2, self._step)
        first, second = range(whole.start, middle + self._half), range(middle - self._half, whole.stop)
        parts = [self._region(*((part, columns) if axis == 0 else (rows, part))) for part in (first, second)]
        stripe = len(range(second.start, first.stop)) * self.scale
        if stripe:
            keep = parts[0].shape[axis + 1] - stripe
            start, edge = np.split(parts[0], [keep], axis=axis + 1)
            _blend(edge, parts[1], axis + 1)
            parts[0] = start
        return np.concatenate(parts, axis=axis + 1)

    def _halve(self, side: int, why: str) -> None:
        with self._halving:
            if self._limit + 2 * self._half < side:
                return  # another worker met the same
            limit = up(min(self._limit, max(side - 2 * self._half, 1)) // 2, self._step)
            if limit < self._least:
                limit = up(self._limit // 2, self._step)
            if limit < self._least or limit >= self._limit:
                raise OutOfMemory(f"not enough memory even for a tile of {side}×{side} pixels: {why:.200}", _HINT)
            memory.give_back(self.device)
            self._limit = limit
            self.halved += 1


class Tiles(Parts):
    """The result of *network* on the picture of *size* (rows, columns) that *read* gives.

    Beyond its right and lower edge a picture is repeated up to a size that the network takes; the layout of a single
    tile is then the network on the whole picture, and an exact layout gives the same.
    """

    def __init__(
        self, network: Network, read: Read, size: tuple[int, int], layout: Layout, device: str = "cpu"
    ) -> None:
        step = math.lcm(network.multiple, layout.step)
        super().__init__(size, layout.tile, step=step, ramp=layout.ramp, scale=network.scale, device=device)
        self.network, self.layout = network, layout
        self._read = read
        self._padded = tuple(up(max(side, network.smallest), network.multiple) for side in size)

    def _once(self, rows: range, columns: range) -> Floats:
        """Return the result for *rows* and *columns* in one run."""
        spans = [self._window(part, size) for part, size in zip((rows, columns), self._padded)]
        result = checked(self.network, self._shown(*spans))
        scale = self.network.scale
        down, across = (
            slice((part.start - span.start) * scale, (part.stop - span.start) * scale)
            for part, span in zip((rows, columns), spans)
        )
        return result[:, down, across].copy()

    def _window(self, part: range, size: int) -> slice:
        """Return what is shown of an axis of *size* pixels so that *part* comes out right."""
        step = self._step
        start = max(0, part.start - self.layout.overlap) // step * step
        stop = min(size, up(part.stop + self.layout.overlap, step))
        if stop - start < self.network.smallest:
            stop = min(size, start + self.network.smallest)
            start = max(0, stop - self.network.smallest) // step * step
        return slice(start, stop)

    def _shown(self, rows: slice, columns: slice) -> Floats:
        """Return the picture at *rows* and *columns*, its last row and column repeated beyond them."""
        inside = [slice(part.start, min(part.stop, size)) for part, size in zip((rows, columns), self._size)]
        values = self._read(inside[0], inside[1])
        missing = [(0, part.stop - kept.stop) for part, kept in zip((rows, columns), inside)]
        if missing != [(0, 0), (0, 0)]:
            values = np.pad(values, [(0, 0), *missing], mode="edge")
        return np.ascontiguousarray(values, np.float32)


def warn_of(overlap: int, needed: int) -> None:
    """Warn of an *overlap*, in pixels, that was asked for and is less than *needed* for tiles that equal the whole."""
    log.warning("an overlap of %d pixels is less than the %d that matter: tiles are only blended", overlap, needed)


def checked(network: Network, window: Floats) -> Floats:
    """Return what *network* makes of *window*. Raises BrokenPromise for a result of another size."""
    result = network(window)
    wanted = (getattr(network, "made", len(window)), window.shape[1] * network.scale, window.shape[2] * network.scale)
    if result.shape != wanted:
        raise BrokenPromise(f"a network of scale {network.scale} made {result.shape} of {window.shape}", _BUG)
    return result


def _blend(first: Floats, second: Floats, axis: int) -> None:
    """Let the beginning of *second* along *axis* become that of *first*, which is as long as the stripe, gradually."""
    count = first.shape[axis]
    if not count:
        return
    shape: list[int] = [1, 1, 1]
    shape[axis] = count
    weight = ((np.arange(count) + 0.5) / count).astype(np.float32).reshape(shape)
    part: list[Any] = [slice(None)] * 3
    part[axis] = slice(0, count)
    stripe = second[tuple(part)]
    stripe *= weight
    stripe += (1 - weight) * first


def up(number: int, step: int) -> int:
    """Return *number* rounded up to a multiple of *step*."""
    return -(-number // step) * step
