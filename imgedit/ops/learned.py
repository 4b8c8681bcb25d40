"""Fill strokes by a small network that mixes several fills, pixel by pixel, and adds what they lack.

The network itself is handed in as a function, so that nothing here knows what runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.errors import starting_threads
from imgedit.ops.depth import LEVEL
from imgedit.ops.harmonic import harmonic
from imgedit.ops.lively import sharpened
from imgedit.ops.nearest import STRIDE, estimates
from imgedit.ops.spectral import BLOCK, spectral

Pixels = NDArray[Any]
Plane = NDArray[np.uint8]
Floats = NDArray[np.float32]
Box = tuple[slice, slice]
#: (1, channels, rows, columns) float32 in −1…1 → (1, 6, rows, columns): the likeliest fill, and one with texture
Network = Callable[[Floats], Floats]

#: rows and columns of what the network is given are multiples of this
MULTIPLE = 8
#: no pixel of the network's result depends on anything further away, in pixels: the overlap of tiles
REACH = 80
#: tiles of the network without their overlap, pixels
TILE = 512
#: pixels round all holes that the network is shown: more made 99 fills no better
SHOWN = 16
#: masked pixels in a crop from which on less care is taken: the network looks once, fills go in larger steps, pixels
LARGE, WIDE_BLOCK, WIDE_STRIDE = 20_000, 12, 4
#: pixels over which the fills are compared
AGREE = 7
#: pieces of a picture that are worked on at once, pixels, and what is shown round them to the fills as well: both
#: multiples of the tiles of the nearest patches, of all strides, and of all blocks of waves, which so lie alike
PIECE, ROUND = 480, 144
#: pixels of a picture up to which all pieces are kept in floats, 50 MB
KEPT = 4_000_000


def learned(pixels: Pixels, mask: Plane, network: Network) -> Pixels:
    """Return *pixels* with the network's fill where *mask* > 0.

    *pixels*: (rows, columns, 3) uint8 or uint16; *mask*: (rows, columns) uint8. 16 bits are filled in floats. Memory
    is bounded whatever the size; what is grey stays grey. Raises DataError when the mask leaves no pixel outside.
    """
    out = pixels.copy()
    scale = np.float32(1 if pixels.dtype == np.uint8 else LEVEL)
    grey = _is_grey(pixels, mask)
    deep: Pixels | None = None
    # pieces that are sharpened by one amount join without a seam
    kept = pixels.astype(np.float32) / scale if mask.size <= KEPT else None
    near = _near(mask)
    # one answer for all pieces: their fills lie alike on both sides of a join
    large = bool(np.count_nonzero(mask) >= LARGE)
    for piece, around, own in _around(mask, PIECE, ROUND):
        hole, unknown = mask[piece] > 0, mask[around]
        if (unknown > 0).all():
            # so deep in a hole that nothing known is in sight
            deep = harmonic(pixels, mask) if deep is None else deep
            filled = deep[around].astype(np.float32) / scale
        else:
            given = fills(pixels[around], unknown, large=large)
            filled = mixed(given, unknown, network, _common(near, around), large=large)
            if kept is None:
                filled = sharpened(filled, unknown)
        if kept is None:
            _put(out[piece], filled[own], hole, scale, grey)
        else:
            kept[piece][hole] = filled[own][hole]
    if kept is not None:
        _put(out, sharpened(kept, mask), mask > 0, scale, grey)
    return out


def _put(out: Pixels, filled: Floats, hole: NDArray[np.bool_], scale: np.float32, grey: bool) -> None:
    """Write the levels *filled* to *out* in the *hole*, in whole numbers."""
    values = filled[hole]
    if grey:
        values = values.mean(axis=1, keepdims=True)
    out[hole] = np.rint(np.clip(values, 0, 255) * scale)


def _is_grey(pixels: Pixels, mask: Plane) -> bool:
    """Return whether every pixel outside the hole has three equal channels."""
    colour = (pixels[..., 0] != pixels[..., 1]) | (pixels[..., 1] != pixels[..., 2])
    return not (colour & (mask == 0)).any()


def fills(pixels: Pixels, mask: Plane, *, large: bool = False) -> tuple[Floats, ...]:
    """Return the fills that the network mixes, each (rows, columns, 3) float32 in levels of 0…255.

    Smooth (harmonic), periodic (spectral), the mean of the nearest patches, and the nearest patch. *large*: in larger
    steps.
    """
    scale = np.float32(1 if pixels.dtype == np.uint8 else LEVEL)
    guess = harmonic(pixels, mask).astype(np.float32)
    smooth = guess / scale
    with starting_threads(), ThreadPoolExecutor(1) as beside:
        waves = beside.submit(spectral, smooth, mask, WIDE_BLOCK if large else BLOCK)
        copied = estimates(pixels, mask, guess, stride=WIDE_STRIDE if large else STRIDE)
        return smooth, waves.result(), copied.mean / scale, copied.texture / scale


def mixed(
    given: tuple[Floats, ...],
    mask: Plane,
    network: Network,
    shown: Box = (slice(None), slice(None)),
    *,
    large: bool = False,
) -> Floats:
    """Return (rows, columns, 3) float32 levels: the network's result where *mask* > 0, *given*[0] elsewhere.

    *shown*: rows and columns that the network sees; all of the hole lies within. Unless the hole is *large*, the
    mean of what it makes of the picture and of the picture turned by half, whose errors differ.
    """
    hole = mask[shown]
    rows, columns = hole.shape
    edge = ((0, -rows % MULTIPLE), (0, -columns % MULTIPLE), (0, 0))
    stack = np.pad(np.dstack([*(fill[shown] for fill in given), hole]).astype(np.float32), edge, mode="edge")
    unknown = np.pad(hole, edge[:2])
    result = _once(stack, unknown, network)
    if not large:
        back = _once(np.ascontiguousarray(stack[::-1, ::-1]), np.ascontiguousarray(unknown[::-1, ::-1]), network)
        result = np.asarray((result + back[::-1, ::-1]) / 2, np.float32)
    out = given[0].copy()
    out[shown] = _within(result[:rows, :columns], tuple(fill[shown] for fill in given))
    return out


def _within(result: Floats, given: tuple[Floats, ...]) -> Floats:
    """Return *result* within what the fills say, as far beyond as they differ nearby: where all agree, it stays."""
    least, most = np.minimum.reduce(given), np.maximum.reduce(given)
    room = cv2.dilate(most - least, np.ones((AGREE, AGREE), np.uint8))
    return np.clip(result, least - room, most + room)


def _once(stack: Floats, mask: Plane, network: Network) -> Floats:
    """Return the network's result, worked out in tiles that overlap by its reach: it is that of the whole.

    *stack*: (rows, columns, channels), all fills and the mask, in levels; rows and columns are multiples of MULTIPLE.
    """
    whole = np.ascontiguousarray((stack / np.float32(127.5) - 1).transpose(2, 0, 1))[None]
    out = stack[..., :3].copy()
    for tile, (y, x), own in _around(mask, TILE, REACH):
        hole = mask[tile] > 0
        result = network(np.ascontiguousarray(whole[..., y, x]))
        # of the two results, the one that was taught texture too
        out[tile][hole] = (result[0, 3:, *own].transpose(1, 2, 0)[hole] + 1) * np.float32(127.5)
    return out


def _around(mask: Plane, size: int, reach: int) -> Iterator[tuple[Box, Box, Box]]:
    """Yield the tiles that have a hole, what is within *reach* of each, and the tile's place in that.

    With what is round it a tile has at most *size* + 2 *reach* rows and columns; where fewer are round it, at the
    picture's edge, it has more of its own.
    """
    for top, bottom in _cuts(mask.shape[0], size, reach):
        for left, right in _cuts(mask.shape[1], size, reach):
            tile = (slice(top, bottom), slice(left, right))
            if mask[tile].any():
                y, x = max(top - reach, 0), max(left - reach, 0)
                around = (slice(y, min(bottom + reach, mask.shape[0])), slice(x, min(right + reach, mask.shape[1])))
                yield tile, around, (slice(top - y, bottom - y), slice(left - x, right - x))


def _cuts(length: int, size: int, reach: int) -> Iterator[tuple[int, int]]:
    inner = range(size + reach, length - reach, size)
    return zip((0, *inner), (*inner, length))


def _near(mask: Plane) -> Box:
    """Return what is within SHOWN pixels of the hole, *mask* > 0, from multiples of MULTIPLE on."""
    x, y, width, height = cv2.boundingRect(mask)
    top, left = (max(start - SHOWN, 0) // MULTIPLE * MULTIPLE for start in (y, x))
    return slice(top, y + height + SHOWN), slice(left, x + width + SHOWN)


def _common(box: Box, around: Box) -> Box:
    """Return the part of *box* within *around*, in its coordinates."""
    rows, columns = (
        slice(max(own.start - part.start, 0), min(own.stop, part.stop) - part.start) for own, part in zip(box, around)
    )
    return rows, columns
