"""Limits on an enlarged picture: within the local range, and the input again when it is reduced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_ROUNDS = 4
#: rounds of :func:`approach`; each looks one input and one output pixel further
APPROACH_ROUNDS = 2
_SQUARE = np.ones((3, 3), np.uint8)


def local_range(picture: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the least and the greatest value over 3×3 pixels of (rows, columns, channels) *picture*."""
    low, high = cv2.erode(picture, _SQUARE), cv2.dilate(picture, _SQUARE)
    return low.reshape(picture.shape), high.reshape(picture.shape)


def visible_range(picture: NDArray[Any], alpha: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return :func:`local_range` of the pixels whose *alpha* is above 0; where there are none, (∞, −∞)."""
    hidden = (alpha == 0)[..., None]
    low = cv2.erode(np.where(hidden, np.inf, picture), _SQUARE)
    return low, cv2.dilate(np.where(hidden, -np.inf, picture), _SQUARE)


def settle(cells: NDArray[Any], wanted: NDArray[Any], low: NDArray[Any], high: NDArray[Any], slack: int) -> None:
    """Change *cells* in place until each value is within its range and each cell has the wanted mean, nearly.

    *cells*: (n, …) integers, the n output pixels of each input pixel; *wanted*, *low*, *high*: (…), with
    low ≤ wanted ≤ high. Afterwards low ≤ cells ≤ high and |mean − wanted| ≤ slack + 1. Each round moves a
    cell by what its mean is off and cuts it to its range; what is still off then (nearly all its pixels have
    reached a limit) is drawn towards *wanted*, which is within the range.
    """
    _cut(cells, low, high)
    for _ in range(_ROUNDS):
        off = _off(cells, wanted)
        move = np.rint(_beyond(off, slack)).astype(cells.dtype)
        if not move.any():
            return
        cells += move
        _cut(cells, low, high)
    off = _off(cells, wanted)
    bad = np.abs(off) > slack + 1
    if bad.any():
        away = cells[:, bad] - wanted[bad]
        cells[:, bad] = wanted[bad] + np.trunc(away * (slack / np.abs(off[bad]))).astype(cells.dtype)


def approach(
    values: NDArray[Any],
    wanted: NDArray[Any],
    low: NDArray[Any],
    high: NDArray[Any],
    slack: int,
    reduce: Callable[[NDArray[Any]], NDArray[np.float64]],
    spread: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> None:
    """Change *values* in place to within *low* … *high*, and nearer to what *reduce* turns into *wanted*.

    For output pixels that lie in two inputs, where :func:`settle` cannot work: *reduce* gives the mean over
    each input pixel, *spread* takes corrections of inputs to outputs. All arrays but the means hold integers.
    """
    _cut(values, low, high)
    for _ in range(APPROACH_ROUNDS):
        correction = spread(np.rint(_beyond(wanted - reduce(values), slack)))
        values += np.rint(correction, out=correction).astype(values.dtype)
        _cut(values, low, high)


def _off(cells: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.float32]:
    """Return by how much the mean of each cell is below *wanted*."""
    total = wanted.astype(np.int32) * len(cells) - np.add.reduce(cells, axis=0, dtype=np.int32)
    return np.asarray(total.astype(np.float32) / np.float32(len(cells)))


def _beyond(off: NDArray[Any], slack: int) -> NDArray[Any]:
    """Return the part of *off* that exceeds ± *slack*."""
    return np.asarray(off - np.clip(off, -slack, slack))


def _cut(values: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> None:
    np.maximum(values, low, out=values)
    np.minimum(values, high, out=values)
