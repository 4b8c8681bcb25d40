"""sRGB to CIELAB: the one place where colours become numbers that a difference may be taken of."""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.bands import scratch

# linear sRGB to CIE XYZ (IEC 61966-2-1), each row divided by its sum, the white point: greys have a* = b* = 0
_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_XYZ /= _XYZ.sum(axis=1, keepdims=True)
# CIE 15: below the knee the cube root is replaced by its tangent
_KNEE = (6 / 29) ** 3
_SLOPE = (29 / 6) ** 2 / 3
_CHUNK = 1 << 14


def lab(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Return CIELAB (D65, 2° observer) of sRGB *pixels*.

    *pixels*: (…, 3), uint8 or uint16 at full scale, or floats where 1 is white. Returns (…, 3) float32: L* 0…100,
    a* and b* about -110…110; within 1e-3 of the same computed in float64. Works in chunks: needs little more memory
    than the result. IEC 61966-2-1 for the transfer curve and the matrix, CIE 15 for L*a*b*.
    """
    flat = pixels.reshape(-1, 3)
    result = np.empty(flat.shape, np.float32)
    planes = np.empty((3, min(_CHUNK, len(flat))), np.float32)
    for start in range(0, len(flat), _CHUNK):
        chunk = flat[start : start + _CHUNK]
        filled = lab_planes(chunk, planes[:, : len(chunk)])
        cv2.merge([plane[None] for plane in filled], result[None, start : start + _CHUNK])
    return result.reshape(pixels.shape)


def lab_planes(pixels: NDArray[Any], out: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fill *out*, (3, n) float32, with L*, a* and b* of (n, 3) *pixels* as :func:`lab` takes them, and return it."""
    buffers = scratch("lab", 7, len(pixels))[:, None]  # each (1, n): OpenCV wants rows
    linear, f, term = buffers[:3], buffers[3:6], buffers[6]
    _linear_planes(pixels, linear[:, 0])
    for (red, green, blue), plane in zip(_XYZ, f):
        cv2.addWeighted(linear[0], red, linear[1], green, 0, plane)
        cv2.scaleAdd(linear[2], blue, plane, plane)
        # cbrt(max(x, knee)) + slope · min(x, knee): the cube root above the knee, its tangent below, plus 2/29
        cv2.threshold(plane, _KNEE, 0, cv2.THRESH_TRUNC, term)
        cv2.addWeighted(plane, 1, term, -1, _KNEE, plane)
        cv2.scaleAdd(term, _SLOPE, np.cbrt(plane, out=plane), plane)
    f = f[:, 0]
    np.subtract(np.multiply(f[1], 116, out=out[0]), 16 + 116 * 2 / 29, out=out[0])
    np.multiply(np.subtract(f[0], f[1], out=out[1]), 500, out=out[1])
    np.multiply(np.subtract(f[1], f[2], out=out[2]), 200, out=out[2])
    return out


def _linear_planes(pixels: NDArray[Any], out: NDArray[np.float32]) -> None:
    """Fill *out*, (3, n), with linear light, 1 for white."""
    planes = np.empty((3, len(pixels)), pixels.dtype)
    cv2.split(np.ascontiguousarray(pixels)[None], [plane[None] for plane in planes])
    if planes.dtype == np.uint8:
        cv2.LUT(planes, _table(1), out)
    elif planes.dtype == np.uint16:
        np.take(_table(2), planes, out=out, mode="clip")  # "raise" would buffer the output
    else:
        out[...] = _linear(planes.astype(np.float32, copy=False))


@cache
def _table(itemsize: int) -> NDArray[np.float32]:
    """Return the transfer curve at each value of an unsigned integer of *itemsize* bytes."""
    levels = 256**itemsize
    return _linear(np.arange(levels) / (levels - 1)).astype(np.float32)


def _linear(values: NDArray[Any]) -> NDArray[Any]:
    curve = ((np.maximum(values, 0) + 0.055) / 1.055) ** 2.4
    return np.where(values <= 0.04045, values / 12.92, curve)
