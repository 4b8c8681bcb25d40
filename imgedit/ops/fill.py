"""Fills of a hole from the picture itself: a plane, marching inwards; the Laplace equation is in `harmonic`."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.errors import DataError

Pixels = NDArray[Any]
Plane = NDArray[np.uint8]

RING = 8  # pixels round the hole that the plane goes through
MARCH_RADIUS = 3
MARCH_ROOM = 8  # known pixels round the hole that marching is shown: more than it reads
MOST_SAMPLES = 20_000

_METHODS = {"telea": cv2.INPAINT_TELEA, "ns": cv2.INPAINT_NS}


def around(mask: Plane, reach: int) -> NDArray[np.bool_]:
    """Return the ring: pixels with *mask* 0 at most *reach* pixels (diagonals count as one) from one above 0.

    Raises DataError when the mask leaves no pixel outside.
    """
    wide = cv2.dilate(mask, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    ring: NDArray[np.bool_] = (wide > 0) & (mask == 0)
    if not ring.any() and mask.any():
        raise DataError("the mask covers everything: there is nothing to fill from", "mask less of the picture")
    return ring


def flat(pixels: Pixels, mask: Plane) -> tuple[Pixels, float]:
    """Return *pixels* with one plane per channel where *mask* > 0, and how far the ring is from it.

    *pixels*: (rows, columns, 3) uint8 or uint16; *mask*: (rows, columns) uint8. Least squares over the ring
    of 8 pixels, reweighted by Tukey's biweight, so that a leaf on the wall does not tilt the wall. The residual
    is the root mean square over ring and channels in 8-bit levels, nothing left out. Values are clipped to
    full scale. Raises DataError when the mask leaves no pixel outside.
    """
    out = pixels.copy()
    x, y, width, height = cv2.boundingRect(mask)
    if width == 0:
        return out, 0.0
    box = (slice(max(y - RING, 0), y + height + RING), slice(max(x - RING, 0), x + width + RING))
    part, hole = pixels[box], mask[box]
    rows, columns = np.nonzero(around(hole, RING))
    values = part[rows, columns].astype(np.float64)
    full, unit = (255, 1) if pixels.dtype.itemsize == 1 else (65535, 257)
    centre = (rows.mean(), columns.mean())
    scale = max(hole.shape)
    places = plane_terms(rows, columns, centre, scale)
    # a large ring says no more than an even sample of it
    sample = slice(None, None, len(rows) // MOST_SAMPLES + 1)
    planes = np.stack([robust(places[sample], values[sample, c], 0.5 * unit) for c in range(3)], axis=1)
    residual = float(np.sqrt(np.mean(np.square(values - places @ planes)))) / unit
    inside = np.nonzero(hole)
    surface = plane_terms(inside[0], inside[1], centre, scale) @ planes
    out[box][inside] = np.rint(np.clip(surface, 0, full)).astype(pixels.dtype)
    return out, residual


def plane_terms(rows: Any, columns: Any, centre: tuple[float, float], scale: int) -> NDArray[np.float64]:
    """Return (n, 3): what the three coefficients of a plane are multiplied by at *rows* and *columns*."""
    return np.stack([np.ones(len(rows)), (rows - centre[0]) / scale, (columns - centre[1]) / scale], axis=1)


def robust(places: NDArray[np.float64], values: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Fit *values* by *places* with Tukey's biweight (tuning 4.685; Huber, "Robust Statistics", 1981, chapter 7)."""
    fit = np.linalg.lstsq(places, values, rcond=None)[0]
    for _ in range(5):
        distance = np.abs(values - places @ fit)
        spread = max(1.4826 * float(np.median(distance)), least)
        weight = np.square(np.clip(1 - np.square(distance / (4.685 * spread)), 0, None))
        # the least ridge: a ring in one line leaves a slope open, which then is 0
        normal = (places * weight[:, None]).T @ places + 1e-9 * len(values) * np.eye(3)
        fit = np.linalg.solve(normal, (places * weight[:, None]).T @ values)
    return np.asarray(fit)


def march(pixels: Pixels, mask: Plane, method: str) -> Pixels:
    """Return uint8 *pixels* (rows, columns, 3) filled inwards where *mask* > 0 by OpenCV's ``telea`` or ``ns``.

    Telea, "An image inpainting technique based on the fast marching method" (2004); Bertalmio, Bertozzi,
    Sapiro, "Navier-Stokes, fluid dynamics, and image and video inpainting" (2001). Radius 3 pixels. Raises
    DataError when the mask leaves no pixel outside.
    """
    out = pixels.copy()
    x, y, width, height = cv2.boundingRect(mask)
    if width == 0:
        return out
    room = MARCH_ROOM
    box = (slice(max(y - room, 0), y + height + room), slice(max(x - room, 0), x + width + room))
    hole = (mask[box] > 0).view(np.uint8)
    if hole.all():
        raise DataError("the mask covers everything: there is nothing to fill from", "mask less of the picture")
    rows, columns = hole.shape
    part = pixels[box].copy()
    part[hole > 0] = 0  # what the hole held must not matter
    # OpenCV reads beyond pictures of one row or column
    more = (0, max(3 - rows, 0), 0, max(3 - columns, 0), cv2.BORDER_REPLICATE)
    filled = cv2.inpaint(
        cv2.copyMakeBorder(part, *more), cv2.copyMakeBorder(hole, *more), MARCH_RADIUS, _METHODS[method]
    )[:rows, :columns]
    out[box][hole > 0] = filled[hole > 0]
    return out
