"""How far from faithful to pleasing an enlarged picture may go, by one knob, and which step suits a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgedit.errors import UsageError
from imgedit.ops.depth import LEVEL
from imgedit.ops.gradients import distance, gradients
from imgedit.ops.residual import SCALES, reduction

Pixels = NDArray[Any]
Plane = NDArray[np.uint8]

#: added to the network's detail, which is taken once where all is faithful, where nothing is
MORE = 0.6
#: rounds of back-projection: a second brings clean photos nearer to the truth, more hardly do; each amplifies noise
ROUNDS = 2
#: values of the knob that are tried, most faithful first
STEPS = (1.0, 0.75, 0.5, 0.25, 0.0)
#: what pleases may cost against the most faithful, at most: decibels, and levels of 0…255 by which the result, reduced
#: again, misses what was enlarged more than that does (root mean square)
COST, MISSED = 0.25, 0.25
#: a picture is measured on its middle, at most this many pixels to a side, at least so many once it is reduced
MOST, LEAST = 512, 16


class Rung(NamedTuple):
    """What one step of the knob means, see :class:`imgedit.ops.refine.Beyond`; *texture*: share of what is lent."""

    detail: float
    texture: float
    rounds: int


class Calibrated(NamedTuple):
    """The knob that was chosen, and for each that was tried: *distance* of gradients, *psnr*, *missed*."""

    faithful: float
    table: list[dict[str, float]]


def rung(faithful: float, detail: float | None = None, texture: float | None = None, rounds: int | None = None) -> Rung:
    """Return what *faithful*, 0…1, means: detail that is known grows first, what lies beyond that later.

    What is given besides is taken as it is.
    """
    free = 1 - faithful
    return Rung(
        1 + MORE * free if detail is None else detail,
        free * free if texture is None else texture,
        ROUNDS if rounds is None else rounds,
    )


def calibrated(
    pixels: Pixels,
    ratio: float,
    hint: Plane | None,
    chosen: Mapping[str, Any],
    enlarge: Callable[[Pixels, int, int, Plane | None, Rung], Pixels],
) -> Calibrated:
    """Return the step at which *pixels* (rows, columns, 3 or 4), reduced, come back looking most like they are.

    The middle of the picture is reduced by *ratio*, or the nearest of the network's scales, and enlarged again by
    *enlarge* (small, rows, columns, hint, step) at each step. Of those that cost at most COST decibels against the most
    faithful, and miss the reduced picture, when reduced again, by at most MISSED levels more, the one whose gradients
    are distributed most like the picture's (:func:`imgedit.ops.gradients.distance`) is chosen. Only what *hint* (255
    photographed) says is photographed counts. Raises UsageError where that is too little.
    """
    scale = next((scale for scale in SCALES if scale >= ratio), SCALES[-1])
    truth, known = _middle(pixels[..., :3], hint, scale)
    rows, columns = (length // scale for length in truth.shape[:2])
    tiny = min(rows, columns) < LEAST
    if tiny or not known.any():
        raise UsageError(
            "the picture is too small to measure what suits it"
            if tiny
            else "nothing in the middle of the picture was photographed",
            "leave out --calibrate, and choose with --faithful",
        )
    small = _reduced(truth, scale)
    level = 1 if truth.dtype == np.uint8 else LEVEL
    wanted = gradients(truth, {"known": known})["known"]
    found = []
    for faithful in STEPS:
        photographed = np.ascontiguousarray(known[::scale, ::scale])
        result = enlarge(small, len(truth), truth.shape[1], photographed, rung(faithful, **chosen))
        error = np.square((result[known > 0].astype(np.float64) - truth[known > 0]) / level).mean()
        off = (_reduced(result, scale).astype(np.float64) - small) / level
        measured = {
            "faithful": faithful,
            "distance": distance(gradients(result, {"known": known})["known"], wanted),
            "psnr": float(10 * np.log10(255**2 / max(error, 1e-9))),
            "missed": float(np.sqrt(np.square(off).mean())),
        }
        found.append({name: round(value, 4) for name, value in measured.items()})
    first = found[0]
    allowed = [
        one for one in found if one["psnr"] >= first["psnr"] - COST and one["missed"] <= first["missed"] + MISSED
    ]
    best = min(allowed, key=lambda one: one["distance"])
    return Calibrated(best["faithful"], found)


def _middle(pixels: Pixels, hint: Plane | None, scale: int) -> tuple[Pixels, Plane]:
    """Return the middle of *pixels*, of a size that *scale* divides, and 255 where that was photographed."""
    sides = [min(length, MOST) // scale * scale for length in pixels.shape[:2]]
    place = tuple(slice((whole - side) // 2, (whole - side) // 2 + side) for whole, side in zip(pixels.shape, sides))
    crop = np.ascontiguousarray(pixels[place])
    if hint is None:
        return crop, np.full(crop.shape[:2], 255, np.uint8)
    return crop, np.where(hint[place] == 255, np.uint8(255), np.uint8(0))


def _reduced(pixels: Pixels, scale: int) -> Pixels:
    """Return (rows, columns, 3) *pixels* reduced by *scale* by Keys' cubic, widened against aliasing."""
    planes = pixels.transpose(2, 0, 1).astype(np.float32)
    rows, columns = (length // scale for length in pixels.shape[:2])
    small = reduction(rows, scale) @ planes @ reduction(columns, scale).T
    top = np.iinfo(pixels.dtype).max
    return np.ascontiguousarray(np.clip(np.rint(small), 0, top).astype(pixels.dtype).transpose(1, 2, 0))
