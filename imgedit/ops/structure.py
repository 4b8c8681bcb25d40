"""Structural similarity: SSIM, MS-SSIM and GMSD, on luma (R'G'B' weighted 0.299, 0.587, 0.114)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.bands import bands, each, scratch

Plane = NDArray[np.uint8]
Planes = NDArray[Any]
Luma = NDArray[np.float32]
Regions = Mapping[str, Plane | None]

#: SSIM looks at 11×11 pixels at once
WINDOW = 11
#: weights of the five scales, finest first (Wang, Simoncelli, Bovik 2003)
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

_REACH = WINDOW // 2
_GAUSSIAN = cv2.getGaussianKernel(WINDOW, 1.5, cv2.CV_32F)
_C1, _C2 = 0.01**2, 0.03**2
_GMSD_C = 170 / 255**2
_BAND = 1 << 18


def luma(pixels: Planes) -> Luma:
    """Return luma, (rows, columns) float32 with 1 for white, of (rows, columns, 3) uint8 or uint16 *pixels*.

    What is luma already, (rows, columns) float32, is returned as it is.
    """
    if pixels.ndim == 2:
        return pixels
    full = 256**pixels.dtype.itemsize - 1
    grey: Any = cv2.cvtColor(pixels.astype(np.float32), cv2.COLOR_RGB2GRAY)
    grey *= np.float32(1 / full)
    return np.asarray(grey)


def half(pixels: Planes) -> Luma:
    """Return luma at half the size, (rows // 2, columns // 2) float32: means of 2×2 pixels; an odd edge is left out.

    *pixels*: (rows, columns, 3) integers, or (rows, columns) luma.
    """
    rows, columns = pixels.shape[0] // 2, pixels.shape[1] // 2
    result = np.empty((rows, columns), np.float32)

    def band(part: slice) -> None:
        grey = luma(pixels[2 * part.start : 2 * part.stop, : 2 * columns])
        result[part] = cv2.resize(grey, (columns, part.stop - part.start), interpolation=cv2.INTER_AREA)

    each(band, bands(rows, columns, _BAND >> 2))
    return result


def ssim(picture: Planes, reference: Planes, regions: Regions) -> dict[str, tuple[float, float]]:
    """Return the mean SSIM, and the mean of its contrast and structure terms alone, for each of *regions*.

    Wang, Bovik, Sheikh, Simoncelli 2004: Gaussian window of 11×11, σ = 1.5, K1 = 0.01, K2 = 0.03. Only windows that lie
    in the picture count, at their centres; regions without any are left out. Pictures: as for :func:`half`, from 11×11.
    """
    rows, columns = picture.shape[0] - 2 * _REACH, picture.shape[1] - 2 * _REACH

    def band(part: slice) -> dict[str, tuple[int, float, float]]:
        with_reach = slice(part.start, part.stop + 2 * _REACH)
        maps = _ssim_maps(luma(picture[with_reach]), luma(reference[with_reach]))
        sums = {}
        for name, region in regions.items():
            inside = None
            if region is not None:
                inside = region[part.start + _REACH : part.stop + _REACH, _REACH : columns + _REACH]
            count = maps[0].size if inside is None else cv2.countNonZero(np.ascontiguousarray(inside))
            if count:
                means = [cv2.mean(values, inside)[0] for values in maps]
                sums[name] = (count, means[0] * count, means[1] * count)
        return sums

    total = {name: np.zeros(3) for name in regions}
    for sums in each(band, bands(rows, columns, _BAND)):
        for name, part in sums.items():
            total[name] += part
    return {name: (1 - float(s[1] / s[0]), 1 - float(s[2] / s[0])) for name, s in total.items() if s[0]}


def _ssim_maps(x: Luma, y: Luma) -> tuple[Luma, Luma]:
    """Return what SSIM and its contrast-structure part lack to 1, at every pixel whose window lies within *x* and *y*.

    The lack, and not the value: it is exactly 0 for equal pictures, and so are sums of it.
    """
    xy, squares, mean_x, mean_y, mean_xy, mean_squares = scratch("ssim", 6, x.size).reshape(6, *x.shape)
    np.multiply(x, y, out=xy)
    np.multiply(x, x, out=squares)
    squares += np.multiply(y, y, out=mean_x)
    for source, blurred in ((x, mean_x), (y, mean_y), (xy, mean_xy), (squares, mean_squares)):
        cv2.sepFilter2D(source, cv2.CV_32F, _GAUSSIAN, _GAUSSIAN, blurred)
    valid = (slice(_REACH, -_REACH), slice(_REACH, -_REACH))
    mean_x, mean_y, mean_xy, mean_squares = mean_x[valid], mean_y[valid], mean_xy[valid], mean_squares[valid]
    product, power = xy[valid], squares[valid]  # no longer needed as they were
    np.multiply(mean_x, mean_y, out=product)
    mean_x *= mean_x
    mean_y *= mean_y
    np.add(mean_x, mean_y, out=power)
    mean_xy -= product  # covariance
    mean_xy *= 2
    mean_xy += _C2
    mean_squares -= power  # sum of both variances
    mean_squares += _C2
    mean_xy /= mean_squares
    product *= 2
    product += _C1
    power += _C1
    product /= power
    product *= mean_xy
    return np.subtract(1, product, out=product), np.subtract(1, mean_xy, out=mean_xy)


def smallest_ms_ssim() -> int:
    """Return the rows and columns that MS-SSIM needs at least: a window must fit at the coarsest scale."""
    return WINDOW << (len(SCALES) - 1)


def ms_ssim(picture: Planes, reference: Planes) -> float:
    """Return MS-SSIM of two pictures of at least 176×176.

    Wang, Simoncelli, Bovik 2003: five scales, each half the one before (means of 2×2). A scale whose mean contrast
    and structure is negative counts as 0, since a power of a negative number has no meaning.
    """
    result = 1.0
    for scale, weight in enumerate(SCALES):
        if scale:
            picture, reference = half(picture), half(reference)
        both, contrast = ssim(picture, reference, {"whole": None})["whole"]
        last = scale == len(SCALES) - 1
        result *= max(0.0, both if last else contrast) ** weight
    return result


def gmsd(picture: Planes, reference: Planes, regions: Regions) -> dict[str, float]:
    """Return the gradient magnitude similarity deviation for each of *regions*: 0 for equal structure, worse upwards.

    Xue, Zhang, Mou, Bovik 2014: at half size, Prewitt gradients, c = 170 on a scale of 255; the standard deviation of
    the similarity. Edges of the picture are repeated outwards. A region holds every half-size pixel that it touches.
    Pictures: at least 6×6, (rows, columns, 3) integers.
    """
    small, small_reference = half(picture), half(reference)
    similarity = np.empty_like(small)
    rows, columns = small.shape

    def band(part: slice) -> None:
        around = slice(max(0, part.start - 1), min(rows, part.stop + 1))
        keep = slice(part.start - around.start, part.stop - around.start)
        first, second = _prewitt(small[around])[keep], _prewitt(small_reference[around])[keep]
        np.divide(
            2 * np.sqrt(first * second) + np.float32(_GMSD_C),
            first + second + np.float32(_GMSD_C),
            out=similarity[part],
        )

    each(band, bands(rows, columns, _BAND >> 2))
    found = {}
    for name, region in regions.items():
        inside = None if region is None else _touched(region, rows, columns)
        if inside is None or inside.any():
            found[name] = float(cv2.meanStdDev(similarity, mask=inside)[1][0, 0])
    return found


def _prewitt(grey: Luma) -> Luma:
    """Return squared gradient magnitudes."""
    smooth, step = np.full(3, 1 / 3, np.float32), np.array([-1, 0, 1], np.float32)
    across: Any = cv2.sepFilter2D(grey, cv2.CV_32F, step, smooth, borderType=cv2.BORDER_REPLICATE)
    down: Any = cv2.sepFilter2D(grey, cv2.CV_32F, smooth, step, borderType=cv2.BORDER_REPLICATE)
    across *= across
    down *= down
    across += down
    result: Luma = across
    return result


def _touched(region: Plane, rows: int, columns: int) -> Plane:
    quads = region[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)
    touched: Plane = quads.max(axis=(1, 3))
    return touched
