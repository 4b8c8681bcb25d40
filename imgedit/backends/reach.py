"""How far pixels matter to a network: found by changing what lies farther away and looking whether that is seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgedit.backends.tiles import Floats, Network, checked, up

#: overlaps that are tried; beyond the last a network is taken as one that sees everything
OVERLAPS = (8, 16, 32, 64)
#: what pixels beyond the overlap may change, of full scale 1: a fifth of what is promised for tiles
UNSEEN = 2e-6

#: the largest grid that tiles are laid on, in pixels
_COARSEST = 64
#: pixels beyond the overlap that are replaced, at least
_RING = 16


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
        near = max(up(2 * (overlap + _RING) + network.multiple, network.multiple), network.smallest)
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
    return up(max(2 * (OVERLAPS[-1] + _RING) + network.multiple, network.smallest), network.multiple)


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
