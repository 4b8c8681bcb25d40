"""What the refiner network is given and what becomes of its result, in training as in use.

It works on the grid of the small picture, where its planes are the places within a pixel: far cheaper than on the
grid of the large one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.resample import cubic

Floats = NDArray[np.float32]

#: scales that the network knows
SCALES = (2, 3, 4)
#: levels of 0…255 that are 1 to the network
UNIT = 32
#: added contrast of the finest detail in the deterministic result that the network is given
SEED = 0.05
#: small pixels over which the mean is taken that the network does not see
_MEAN = 5


def channels(scale: int) -> int:
    """Return how many planes :func:`given` has."""
    return 4 * scale * scale + 3


def given(small: Floats, large: Floats, scale: int) -> Floats:
    """Return what the network is given: (channels(scale), rows, columns) float32, around 0.

    *small*: (rows, columns, 3); *large*: the same enlarged by *scale*; both in levels of 0…255. First the colours of
    *large*, then its edges (the length of Sobel's gradient of the grey picture, levels a pixel), each as one plane
    for each place in a small pixel; last *small*. Of all colours the mean of *small* nearby is taken off: what the
    network adds does not depend on brightness.
    """
    mean = cv2.blur(small, (_MEAN, _MEAN), borderType=cv2.BORDER_REPLICATE).transpose(2, 0, 1)
    colours = apart(large.transpose(2, 0, 1), scale).reshape(3, scale * scale, *small.shape[:2]) - mean[:, None]
    edge = apart(edges(large)[None], scale)
    planes = (colours.reshape(-1, *small.shape[:2]), edge, small.transpose(2, 0, 1) - mean)
    return np.concatenate(planes) * np.float32(1 / UNIT)


def edges(picture: Floats) -> Floats:
    """Return the length of the gradient of (rows, columns, 3) *picture*'s mean over colours, by Sobel's filters."""
    grey = cv2.transform(picture, np.full((1, 3), 1 / 3, np.float32))
    down, across = (
        cv2.Sobel(grey, cv2.CV_32F, x, y, scale=1 / 8, borderType=cv2.BORDER_REPLICATE) for x, y in ((0, 1), (1, 0))
    )
    # not cv2.magnitude, whose last bit depends on where in memory the arrays lie
    return np.sqrt(down * down + across * across)


def apart(planes: NDArray[Any], scale: int) -> NDArray[Any]:
    """Return (n, rows · *scale*, columns · *scale*) *planes* as one for each place: (n · *scale*², rows, columns)."""
    count, rows, columns = len(planes), planes.shape[1] // scale, planes.shape[2] // scale
    parts = planes.reshape(count, rows, scale, columns, scale).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(parts).reshape(-1, rows, columns)


def together(planes: NDArray[Any], scale: int) -> NDArray[Any]:
    """Undo :func:`apart`."""
    count, (rows, columns) = len(planes) // scale**2, planes.shape[1:]
    parts = planes.reshape(count, scale, scale, rows, columns).transpose(0, 3, 1, 4, 2)
    return np.ascontiguousarray(parts).reshape(count, rows * scale, columns * scale)


@lru_cache(maxsize=64)
def reduction(size: int, scale: int) -> Floats:
    """Return the matrix (size, size · *scale*) that reduces: Keys' cubic (1981, a = −½), widened against aliasing.

    Weights beyond the edges are left out and the others add up to 1, as Pillow's bicubic does it.
    """
    centres = (np.arange(size)[:, None] + 0.5) * scale
    weights = cubic((np.arange(size * scale) + 0.5 - centres) / scale)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


@lru_cache(maxsize=64)
def expansion(size: int, scale: int) -> Floats:
    """Return the matrix (size · *scale*, size) that interpolates by Keys' cubic; the weights add up to 1."""
    places = (np.arange(size * scale)[:, None] + 0.5) / scale
    weights = cubic(places - np.arange(size) - 0.5)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def projected(planes: Floats, small: Floats, scale: int) -> Floats:
    """Return *planes* (3, rows · *scale*, columns · *scale*) with what they lack to give *small* when reduced.

    One round of back-projection (Irani and Peleg 1991); *small*: (3, rows, columns).
    """
    rows, columns = small.shape[1:]
    lacking = small - reduction(rows, scale) @ planes @ reduction(columns, scale).T
    return np.asarray(planes + expansion(rows, scale) @ lacking @ expansion(columns, scale).T, np.float32)
