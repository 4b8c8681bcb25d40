"""Bring a smooth fill's detail up to that of its surroundings: by its own, made stronger, or by another fill's."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]
Plane = NDArray[np.uint8]
Floats = NDArray[np.float32]

#: gradient energy that a fill shall have, as a share of that round the hole: from its own detail, and from another's,
#: where each tenth of it costs about .05 dB
OWN_SHARE, OTHER_SHARE = 0.8, 0.5
#: and on even ground, where all detail is noise and a fill errs by as much as it has
EVEN_SHARE = 0.3
#: there, the gradient energy of the ring is at most this times its median: noise has 1.4, edges do not count
EVEN_LIMIT = 3.0
#: pixels round the hole that are looked at, and those next to it that are not: they may be antialiased
RING, CLEAR = 12, 1
#: detail is what a Gaussian of this standard deviation takes away, pixels: a fill's own, and another's
OWN, OTHER = 2.0, 1.0
#: own detail is made stronger by at most this: what the fill got wrong grows too; another's is taken at most so often
OWN_MOST, OTHER_MOST = 0.4, 2.0
#: share of the other fill in the coarse shapes: the mean of two guesses errs less than either
MIXED = 0.5
#: the same where it is known how badly the other fits: one less so many times that, as a share of how far the two
#: differ, less the depth in the hole over so many pixels, within these limits; misfit and difference are means over a
#: Gaussian of this standard deviation, pixels. Against MIXED everywhere, squares in 28 photos were .3 dB better where
#: 64 pixels wide, .1 dB where 128; without the depth, those of 260 pixels were .4 dB worse
DOUBT, DEEP, LEAST, MOST, ABOUT = 3.0, 160.0, 0.3, 0.9, 12.0
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def sharpened(filled: Floats, mask: Plane) -> Floats:
    """Return *filled* (rows, columns, 3) float32 with its detail in the hole, *mask* > 0, made stronger where it lacks.

    Elsewhere nothing changes. The result may leave the range of the values by a little.
    """
    detail = filled - cv2.GaussianBlur(filled, (0, 0), OWN)
    return _with_detail(filled, detail, mask > 0, OWN_SHARE, OWN_MOST)


def lively(smooth: Pixels, other: Pixels, mask: Plane, *, even: bool = False, misfit: Floats | None = None) -> Pixels:
    """Return the mean of two fills with as much detail of *other* as brings its gradients up to those round the hole.

    *smooth*, *other*: (rows, columns, 3), both uint8 or both uint16, the same picture filled in two ways where *mask*
    (rows, columns) is above 0; elsewhere nothing changes. On *even* ground *smooth* is right but for its noise, and
    only the detail is taken. *misfit*: (rows, columns), mean squared difference, in levels of 0…255, between *other*
    and what it was made from, which says how much *other* counts.
    """
    out = smooth.copy()
    x, y, width, height = cv2.boundingRect(mask)
    room = RING + 2
    box = (slice(max(y - room, 0), y + height + room), slice(max(x - room, 0), x + width + room))
    hole = mask[box] > 0
    if width:
        first, second = smooth[box].astype(np.float32), other[box].astype(np.float32)
        away = second - first
        part: Any = np.float32(0 if even else MIXED)
        if misfit is not None:
            levels = away / np.float32(np.iinfo(smooth.dtype).max / 255)
            part = _trusted(misfit[box], np.square(levels).mean(axis=2), hole)[..., None]
        coarse = first + part * away
        detail = second - cv2.GaussianBlur(second, (0, 0), OTHER)
        share, limit = (EVEN_SHARE, EVEN_LIMIT) if even else (OTHER_SHARE, np.inf)
        result = _with_detail(coarse, detail, hole, share, OTHER_MOST, limit)[hole]
        out[box][hole] = np.rint(np.clip(result, 0, np.iinfo(smooth.dtype).max))
    return out


def _trusted(misfit: Floats, differ: Floats, hole: NDArray[np.bool_]) -> Floats:
    """Return the share, (rows, columns), that the other of two fills has where they *differ* by so much, squared.

    The errors of two guesses that know nothing of each other add up to that square, and those of the other grow with
    its *misfit*; with weights that are one over their errors the mean errs least. Deep in a hole pieces fit each other,
    whatever was there.
    """
    known = hole.astype(np.float32)
    own, both, near = (cv2.GaussianBlur(part * known, (0, 0), ABOUT) for part in (misfit, differ, known))
    depth = cv2.distanceTransform(hole.view(np.uint8), cv2.DIST_L2, 5)
    share = 1 - np.float32(DOUBT) * own / (both + near + np.float32(1e-6)) - depth / np.float32(DEEP)
    return np.asarray(np.clip(share, LEAST, MOST))


def _with_detail(
    coarse: Floats, detail: Floats, hole: NDArray[np.bool_], share: float, most: float, limit: float = np.inf
) -> Floats:
    """Return *coarse* with so much *detail* in the *hole* as gives it *share* of the gradients round it."""
    detail = np.where(hole[..., None], detail, np.float32(0))
    return np.asarray(coarse + _amount(coarse, detail, hole, share, most, limit) * detail)


def _amount(
    coarse: Floats, detail: Floats, hole: NDArray[np.bool_], share: float, most: float, limit: float
) -> np.float32:
    """Return t such that *coarse* + t·*detail* has *share* of the mean squared gradient round the *hole*, 0…*most*.

    Of squared gradients whose mean is above *limit* times their median, that counts instead.
    """
    ring = beside(hole, RING, CLEAR)
    if not ring.any():
        return np.float32(0)
    a, b = _gradient(coarse), _gradient(detail)
    energy = sum(np.square(part)[ring] for part in a)
    wanted = share * min(float(np.mean(energy)), limit * float(np.median(energy)) if limit < np.inf else np.inf)
    # a quadratic in t: the energy of detail, twice the product, and what is missing
    two, one, none = (float(sum((p * q)[hole].mean() for p, q in zip(*pair))) for pair in ((b, b), (a, b), (a, a)))
    if none >= wanted or two < 1e-6:
        return np.float32(0)
    return np.float32(min((-one + (one * one + two * (wanted - none)) ** 0.5) / two, most))


def _gradient(values: Floats) -> tuple[Floats, Floats]:
    luma = values @ _LUMA
    down, right = (np.gradient(luma, axis=axis) if luma.shape[axis] > 1 else np.zeros_like(luma) for axis in (0, 1))
    return down, right


def beside(hole: NDArray[np.bool_], reach: int, clear: int) -> NDArray[np.bool_]:
    """Return the pixels within *reach* of the *hole*, rows and columns alike, that are more than *clear* away."""
    square = hole.view(np.uint8)
    near, next_to = (cv2.dilate(square, np.ones((2 * far + 1, 2 * far + 1), np.uint8)) for far in (reach, clear))
    return np.asarray((near > 0) & (next_to == 0))
