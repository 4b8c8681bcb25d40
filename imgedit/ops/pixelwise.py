"""What two pictures differ by, pixel by pixel: squares, largest, changed, colour, and a picture of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.bands import bands, each, scratch
from imgedit.ops.color import lab_planes
from imgedit.ops.difference import BUFFERS, delta_e

Plane = NDArray[np.uint8]
Planes = NDArray[Any]
#: name → (rows, columns) uint8, 255 in the region; None is the whole picture
Regions = Mapping[str, Plane | None]
#: alpha of the picture and of the reference, or None where both are opaque
Alphas = tuple[Planes, Planes] | None

_BAND = 1 << 15
_COLOUR_BAND = 1 << 16
#: CIEDE2000 is counted in steps of 1/64 for its quantiles; no two colours of sRGB are 128 apart
_STEPS, _BINS = 64, 64 * 128 + 1


@dataclass(slots=True)
class Tally:
    """Counts over one region. *squares*: sum of squared differences of all *channels*; *largest*: in levels;
    *changed*: pixels that differ in any channel, alpha included."""

    pixels: int = 0
    channels: int = 3
    squares: int = 0
    largest: int = 0
    changed: int = 0


@dataclass(slots=True)
class Colours:
    """CIEDE2000 over one region: sum, largest, and how many pixels fall into each step of 1/64 (rounded up)."""

    pixels: int
    total: float
    largest: float
    steps: NDArray[np.int64]

    def quantile(self, share: float) -> float:
        """Return the difference that *share* of the pixels do not exceed, rounded up to 1/64."""
        return float(np.searchsorted(np.cumsum(self.steps), share * self.pixels)) / _STEPS


def tally(picture: Planes, reference: Planes, regions: Regions, alphas: Alphas = None) -> dict[str, Tally]:
    """Count differences of two (rows, columns, 3) pictures of one dtype in each of *regions*; exact integers."""

    def band(rows: slice) -> dict[str, Tally]:
        layers = [cv2.absdiff(picture[rows], reference[rows])]
        if alphas:
            layers.append(cv2.absdiff(alphas[0][rows], alphas[1][rows]))
        worst = _largest(layers)
        found: dict[str, Tally] = {}
        for name, region in regions.items():
            inside = None if region is None else region[rows]
            count = worst.size if inside is None else cv2.countNonZero(inside)
            if count and count < worst.size:
                chosen = cv2.bitwise_and(worst, worst, mask=inside)
                squares = sum(_squares(layer, inside) for layer in layers)
            elif count:
                chosen = worst
                squares = sum(_squares(layer, None) for layer in layers)
            else:
                continue
            found[name] = Tally(count, 3, squares, int(chosen.max()), cv2.countNonZero(chosen))
        return found

    total = {name: Tally(channels=4 if alphas else 3) for name in regions}
    for found in each(band, bands(picture.shape[0], picture.shape[1], _BAND)):
        for name, part in found.items():
            whole = total[name]
            whole.pixels += part.pixels
            whole.squares += part.squares
            whole.largest = max(whole.largest, part.largest)
            whole.changed += part.changed
    return total


def colours(picture: Planes, reference: Planes, regions: Regions, *, steps: bool) -> dict[str, Colours]:
    """Sum up CIEDE2000 of two (rows, columns, 3) sRGB pictures in each of *regions*; *steps*: for quantiles as well.

    Pixels that are equal cost next to nothing.
    """

    def band(rows: slice) -> dict[str, Colours]:
        first, second = picture[rows].reshape(-1, 3), reference[rows].reshape(-1, 3)
        differs = _largest([cv2.absdiff(picture[rows], reference[rows])]).ravel()
        changed = cv2.countNonZero(differs)
        at: Any = slice(None)
        if changed < len(differs) // 2:
            at = np.flatnonzero(differs)
            first, second = first[at], second[at]
        values = _delta_e(first, second) if changed else np.zeros(0, np.float32)
        found = {}
        for name, region in regions.items():
            inside = None if region is None else region[rows].ravel()
            count = len(differs) if inside is None else cv2.countNonZero(inside)
            if count:
                chosen = values if count == len(differs) or inside is None else values[inside[at] > 0]
                found[name] = _sum(chosen, count, steps)
        return found

    total = {name: Colours(0, 0.0, 0.0, np.zeros(_BINS, np.int64)) for name in regions}
    for found in each(band, bands(picture.shape[0], picture.shape[1], _COLOUR_BAND)):
        for name, part in found.items():
            whole = total[name]
            whole.pixels += part.pixels
            whole.total += part.total
            whole.largest = max(whole.largest, part.largest)
            if steps:
                whole.steps += part.steps
    return total


def difference(picture: Planes, reference: Planes, alphas: Alphas = None) -> Plane:
    """Return a picture of the differences, (rows, columns) uint8: 0 where equal, else ceil(255·sqrt(d)).

    d: the largest difference of any channel, alpha included, as a share of full scale. The root shows one level of 8
    bits as 16, and full scale as 255.
    """
    levels = 256**picture.dtype.itemsize
    table = np.ceil(255 * np.sqrt(np.arange(levels) / (levels - 1))).astype(np.uint8)
    rows, columns = picture.shape[:2]
    result = np.empty((rows, columns), np.uint8)

    def band(part: slice) -> None:
        layers = [cv2.absdiff(picture[part], reference[part])]
        if alphas:
            layers.append(cv2.absdiff(alphas[0][part], alphas[1][part]))
        np.take(table, _largest(layers), out=result[part], mode="clip")

    each(band, bands(rows, columns, _BAND))
    return result


def _largest(layers: list[Planes]) -> Planes:
    """Return the largest value of all channels of all *layers*, (rows, columns)."""
    red, green, blue = cv2.split(layers[0])
    worst: Any = cv2.max(cv2.max(red, green), blue)
    for layer in layers[1:]:
        worst = cv2.max(worst, layer)
    return np.asarray(worst)


def _squares(layer: Planes, inside: Plane | None) -> int:
    """Return the sum of squares, exactly: OpenCV hands back the square of a root, less than 0.5 off for one band."""
    return round(cv2.norm(layer, cv2.NORM_L2SQR, inside))


def _delta_e(first: Planes, second: Planes) -> NDArray[np.float32]:
    buffers = scratch("delta_e", 6 + BUFFERS, len(first))
    values: NDArray[np.float32] = delta_e(lab_planes(first, buffers[:3]), lab_planes(second, buffers[3:6]), buffers[6:])
    return values


def _sum(values: NDArray[np.float32], count: int, steps: bool) -> Colours:
    """Return the sums of *values*; the *count* pixels that are not among them differ by 0."""
    if not len(values):
        values = np.zeros(1, np.float32)
    if steps:
        places = np.minimum(np.ceil(values * _STEPS), _BINS - 1).astype(np.int64)
        spread = np.bincount(places, minlength=_BINS)
        spread[0] += count - len(values)
    else:
        spread = np.zeros(0, np.int64)
    return Colours(count, cv2.sumElems(values[None])[0], float(values.max()), spread)
