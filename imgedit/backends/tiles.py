"""One way through a picture that is larger than a network can take at once: tiles, and what it takes to not see them.

A tile is shown to the network with context round it, the overlap, and only its middle is kept. Where pixels farther
away than the overlap do not matter, the result is that of the whole picture at once; :func:`measure` finds how far
they do. Where they matter at any distance (attention, statistics of the whole), tiles are blended along their lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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
#: overlaps that are tried; beyond the last a network is taken as one that sees everything
OVERLAPS = (8, 16, 32, 64)
#: what pixels beyond the overlap may change, of full scale 1: a fifth of what is promised for tiles
UNSEEN = 2e-6

#: the largest grid that tiles are laid on, in pixels
_COARSEST = 64
#: pixels beyond the overlap that are replaced, at least
_RING = 16

Floats = NDArray[np.float32]
#: (rows, columns) → (channels, rows, columns) float32, 0…1
Read = Callable[[slice, slice], Floats]
_HINT = "free some memory, give a larger --memory-target-gb, or a smaller picture"

_BUG = "this is a bug of the backend: choose another with --backend, and report it"


class Network(Protocol):
    """What is run on tiles. *scale*: output pixels per input pixel; *multiple*: rows and columns that it is given, and
    where its tiles begin, are multiples of this; *smallest*: the fewest rows and columns that it takes; *channels*. One
    that gives another number of channels than it takes says so by *made*."""

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


class Tiles:
    """The result of *network* on the picture of *size* (rows, columns) that *read* gives, part by part, row by row.

    Beyond its right and lower edge a picture is repeated up to a size that the network takes; the layout of a single
    tile is then the network on the whole picture, and an exact layout gives the same. Where memory runs out the tile is
    halved, for this place and all that follow; what is finished stays. Iterating raises OutOfMemory where the smallest
    tile is still too large. *halved*: how often that happened; *lines*: the rows and columns of the result at which
    tiles meet.
    """

    def __init__(
        self, network: Network, read: Read, size: tuple[int, int], layout: Layout, device: str = "cpu"
    ) -> None:
        self.network, self.device, self.layout = network, device, layout
        self._read, self._size = read, size
        self._padded = tuple(_up(max(side, network.smallest), network.multiple) for side in size)
        self._step = math.lcm(network.multiple, layout.step)
        self._limit = _up(layout.tile, self._step)
        # blended stripes reach to both sides of a line, but never to the next one
        self._half = min(-(-layout.ramp // 2), self._limit // 2)
        self._tops, self._lefts = ([*self._starts(size), size] for size in self._size)
        self.halved = 0

    @property
    def lines(self) -> tuple[list[int], list[int]]:
        scale = self.network.scale
        return [at * scale for at in self._tops[1:-1]], [at * scale for at in self._lefts[1:-1]]

    def _starts(self, size: int) -> list[int]:
        """Return where tiles begin: evenly, so that the last is no sliver."""
        count = max(1, -(-size // self._limit))
        tile = _up(-(-size // count), self._step)
        return list(range(0, size, tile))

    def __iter__(self) -> Iterator[Finished]:
        scale, half = self.network.scale, self._half
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
        if max(len(rows), len(columns)) <= self._limit + 2 * self._half:
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
        middle = whole.start + len(whole) // 2
        first, second = range(whole.start, middle + self._half), range(middle - self._half, whole.stop)
        parts = [self._region(*((part, columns) if axis == 0 else (rows, part))) for part in (first, second)]
        stripe = len(range(second.start, first.stop)) * self.network.scale
        if stripe:
            keep = parts[0].shape[axis + 1] - stripe
            start, edge = np.split(parts[0], [keep], axis=axis + 1)
            _blend(edge, parts[1], axis + 1)
            parts[0] = start
        return np.concatenate(parts, axis=axis + 1)

    def _halve(self, side: int, why: str) -> None:
        limit = _up(min(self._limit, max(side - 2 * self._half, 1)) // 2, self._step)
        if limit < SMALLEST or limit >= self._limit:
            raise OutOfMemory(f"not enough memory even for a tile of {side}×{side} pixels: {why:.200}", _HINT)
        memory.give_back(self.device)
        self._limit = limit
        self.halved += 1

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
        stop = min(size, _up(part.stop + self.layout.overlap, step))
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


def checked(network: Network, window: Floats) -> Floats:
    """Return what *network* makes of *window*. Raises BrokenPromise for a result of another size."""
    result = network(window)
    wanted = (getattr(network, "made", len(window)), window.shape[1] * network.scale, window.shape[2] * network.scale)
    if result.shape != wanted:
        raise BrokenPromise(f"a network of scale {network.scale} made {result.shape} of {window.shape}", _BUG)
    return result


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a network. *reach*: the overlap beyond which pixels do not matter, None where they always
    do; *step*: tiles must begin at multiples of this: networks that attend in windows lay these out from the corner."""

    reach: int | None
    step: int


def measure(network: Network) -> Measured:
    """Return the smallest of OVERLAPS that *network* needs, and the grid that its tiles must lie on.

    Of a fixed picture all pixels farther than the overlap from the middle are replaced by others, and what that changes
    in the middle is looked at. Not to matter means to change nothing by more than UNSEEN. Overlaps that fail on a small
    picture are not tried on the large one, of :func:`probe_side`. Then the picture is cut on the left and above: the
    grid is the finest on which that changes nothing.
    """
    large = probe_side(network)
    picture = _pictures(network, large)[0]
    base = _middle(network, picture)
    for overlap in OVERLAPS:
        near = max(_up(2 * (overlap + _RING) + network.multiple, network.multiple), network.smallest)
        if near < large:
            small, changed = _pictures(network, near, overlap)
            if not _same(_middle(network, small), _middle(network, changed)):
                continue
        if _same(base, _middle(network, _pictures(network, large, overlap)[1])):
            step = _grid(network, picture, base)
            return Measured(None, network.multiple) if step is None else Measured(overlap, step)
    return Measured(None, network.multiple)


def _grid(network: Network, picture: Floats, base: Floats) -> int | None:
    """Return how much must be cut from *picture* so that its middle stays *base*, or None where that never is so."""
    step, cell = network.multiple, _cell(network, picture.shape[1])
    while step <= _COARSEST:
        cut = np.ascontiguousarray(picture[:, step:, step:])
        inner = slice((cell.start - step) * network.scale, (cell.stop - step) * network.scale)
        if cut.shape[1] >= network.smallest and _same(checked(network, cut)[:, inner, inner], base):
            return step
        step *= 2
    return None


def probe_side(network: Network) -> int:
    """Return the side of the pictures that :func:`measure` runs *network* on, in pixels."""
    return _up(max(2 * (OVERLAPS[-1] + _RING) + network.multiple, network.smallest), network.multiple)


def _pictures(network: Network, side: int, overlap: int | None = None) -> tuple[Floats, Floats]:
    """Return two pictures with flat parts, edges and noise, equal within *overlap* of the cell in the middle alone."""
    random = np.random.default_rng(0)
    coarse = random.random((2, network.channels, side // 8 + 1, side // 8 + 1)).repeat(8, axis=2).repeat(8, axis=3)
    fine = random.random((2, network.channels, side, side))
    base, other = (0.7 * coarse[..., :side, :side] + 0.3 * fine).astype(np.float32)
    if overlap is not None:
        cell = _cell(network, side)
        near = slice(max(0, cell.start - overlap), cell.stop + overlap)
        other[:, near, near] = base[:, near, near]
    return base, other


def _cell(network: Network, side: int) -> slice:
    """Return where the cell in the middle lies, on both axes: *multiple* pixels."""
    start = (side - network.multiple) // 2 // network.multiple * network.multiple
    return slice(start, start + network.multiple)


def _middle(network: Network, picture: Floats) -> Floats:
    """Return what *network* makes of the cell in the middle of *picture*."""
    cell, scale = _cell(network, picture.shape[1]), network.scale
    inner = slice(cell.start * scale, cell.stop * scale)
    return checked(network, picture)[:, inner, inner].copy()


def _same(one: Floats, other: Floats) -> bool:
    return bool(np.abs(one - other).max() <= UNSEEN)


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


def _up(number: int, step: int) -> int:
    """Return *number* rounded up to a multiple of *step*."""
    return -(-number // step) * step
