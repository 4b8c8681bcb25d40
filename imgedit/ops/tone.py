"""The tone of a picture in a few numbers, and moving one picture's tone onto another's."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit import spill
from imgedit.ops.bands import extent
from imgedit.ops.color import lab

#: quantiles are taken at this many equally spaced probabilities, 0 and 1 included
PROBABILITIES = 65
#: CIELAB statistics are taken from at most this many pixels of a regular lattice
SAMPLE = 1 << 18
_BAND = 1 << 20
_CHUNK = 1 << 15
# CIE XYZ, 1 at the white point D65, to linear sRGB: IEC 61966-2-1, the inverse of the matrix in color.lab
_RGB_OF_XYZ = np.array(
    [
        [3.2404542 * 0.95047, -1.5371385, -0.4985314 * 1.08883],
        [-0.9692660 * 0.95047, 1.8760108, 0.0415560 * 1.08883],
        [0.0556434 * 0.95047, -0.2040259, 1.0572252 * 1.08883],
    ],
    np.float32,
)
_RGB_OF_XYZ /= _RGB_OF_XYZ.sum(axis=1, keepdims=True)  # greys stay grey

Mode = Literal["quantile", "mean-std", "lab"]
Numbers = tuple[float, ...]


class Tone(Protocol):
    """What :func:`match` reads of a tone, as :func:`measure` gives it."""

    @property
    def quantiles(self) -> tuple[Numbers, ...]: ...
    @property
    def mean(self) -> Numbers: ...
    @property
    def std(self) -> Numbers: ...
    @property
    def lab_mean(self) -> Numbers: ...
    @property
    def lab_std(self) -> Numbers: ...


def measure(pixels: NDArray[Any], mask: NDArray[np.uint8] | None = None) -> dict[str, Any]:
    """Return the tone of (rows, columns, 3) uint8 or uint16 *pixels* where *mask* is 0.

    Where the mask leaves nothing, all pixels count. *quantiles*: for each channel at 65 equally spaced
    probabilities from 0 to 1; a level v stands for the values v ± ½ (as far as there are any), so that
    quantiles of few levels are not all ties. *mean*, *std* per channel. Those are exact, from histograms, as
    shares of full scale. *lab_mean*, *lab_std*: CIELAB, of a regular lattice of at most 262144 pixels.
    Rounded to 6 decimals.
    """
    box = None if mask is None else extent(spill.parts(mask))
    if mask is None or box is None or all(part.all() for part in spill.parts(mask)):
        mask = None
    # of a picture in a file, all that is touched at once would be in memory at once: one way through it
    taken: list[NDArray[Any]] = []
    counts = _histograms(pixels, taken=taken)
    if mask is not None and box is not None:
        counts -= _histograms(pixels[box], mask[box])
    sample = np.concatenate(taken) if mask is None else _lattice(pixels, mask)
    full = counts.shape[1] - 1
    levels = np.arange(full + 1, dtype=np.float64)
    total = counts.sum(axis=1)
    mean = counts @ levels / total
    std = np.sqrt(np.maximum(counts @ levels**2 / total - mean**2, 0))
    lab_mean, lab_std = (np.ravel(v).astype(np.float64) for v in cv2.meanStdDev(lab(sample)[None]))
    return {
        "quantiles": tuple(_rounded(_quantiles(channel) / full) for channel in counts),
        "mean": _rounded(mean / full),
        "std": _rounded(std / full),
        "lab_mean": _rounded(lab_mean),
        "lab_std": _rounded(lab_std),
    }


def match(pixels: NDArray[Any], source: Tone, target: Tone, mode: Mode, strength: float = 1.0) -> NDArray[Any]:
    """Return *pixels* with their tone moved from *source* to *target*; exactly *pixels* where the two are equal.

    *pixels*: (rows, columns, 3) uint8 or uint16; the result has the same type, rounded to the nearest level.
    *mode*: ``quantile`` maps each channel by the monotone curve through the paired quantiles; ``mean-std``
    shifts and scales each channel; ``lab`` shifts and scales CIELAB (Reinhard et al. 2001, Color transfer
    between images, in CIELAB instead of lαβ). *strength*: 0 leaves all as it is, 1 goes the whole way.
    """
    if strength == 0:
        return pixels
    if mode == "lab":
        return _match_lab(pixels, source, target, strength)
    full = 255 if pixels.dtype.itemsize == 1 else 65535
    levels = np.arange(full + 1, dtype=np.float64)
    tables = np.empty((3, full + 1), pixels.dtype)
    for channel in range(3):
        if mode == "quantile":
            shift = _quantile_shift(levels, np.array(source.quantiles[channel]), np.array(target.quantiles[channel]))
        else:
            gain = target.std[channel] / source.std[channel] if source.std[channel] > 0 else 1.0
            shift = (gain - 1) * levels + (target.mean[channel] - gain * source.mean[channel]) * full
        tables[channel] = np.clip(np.rint(levels + strength * shift), 0, full)
    if (tables == levels).all():
        return pixels
    return _look_up(pixels, tables)


def _histograms(
    pixels: NDArray[Any], mask: NDArray[np.uint8] | None = None, taken: list[NDArray[Any]] | None = None
) -> NDArray[np.int64]:
    """Return how often each level occurs per channel, (3, 256 or 65536), of all pixels or where *mask* > 0.

    *taken*: gets the pixels of the lattice, in order.
    """
    levels = 256**pixels.itemsize
    grid = _grid(*pixels.shape[:2])
    counts = np.zeros((3, levels), np.int64)
    # OpenCV counts in float32: exact only below 2²⁴, so take bands
    step = max(1, _BAND // pixels.shape[1])
    for top in range(0, len(pixels), step):
        whole = spill.fetch(pixels[top : top + step])
        where = None if mask is None else spill.fetch(mask[top : top + step])
        for left in range(0, pixels.shape[1], _BAND):
            part = slice(left, left + _BAND)
            band = np.ascontiguousarray(whole[:, part])
            for channel in range(3):
                within = None if where is None else np.ascontiguousarray(where[:, part])
                found = cv2.calcHist([band], [channel], within, [levels], [0, levels])
                counts[channel] += found.ravel().astype(np.int64)
        if taken is not None:
            first = grid[0].start + max(0, -(-(top - grid[0].start) // grid[0].step)) * grid[0].step
            # a copy: a view would keep the whole band
            taken.append(whole[first - top :: grid[0].step, grid[1]].copy().reshape(-1, 3))
    return counts


def _grid(rows: int, columns: int) -> tuple[slice, slice]:
    """Return the rows and columns of a regular lattice of at most SAMPLE pixels."""
    step = 1
    while -(-rows // step) * -(-columns // step) > SAMPLE:
        step += 1
    return slice(min(step // 2, rows - 1), None, step), slice(min(step // 2, columns - 1), None, step)


def _quantiles(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the levels at the probabilities, with each level's pixels spread evenly over level ± ½."""
    used = np.flatnonzero(counts)
    below = np.concatenate(([0], np.cumsum(counts[used]))).astype(np.float64)
    wanted = np.linspace(0, below[-1], PROBABILITIES)
    # the level in which each wanted count lies; where one level ends and the next begins, the lower
    at = np.clip(np.searchsorted(below, wanted, side="left") - 1, 0, len(used) - 1)
    within = (wanted - below[at]) / counts[used[at]]
    values = used[at] - 0.5 + within
    # black and white have half the room of the others: their values are drawn into it
    full = len(counts) - 1
    return np.where(values < 0.5, values / 2 + 0.25, np.where(values > full - 0.5, (values + full) / 2 - 0.25, values))


def _quantile_shift(
    levels: NDArray[np.float64], source: NDArray[np.float64], target: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return by how much each of *levels* moves, piecewise linear between the paired quantiles.

    Shifts are interpolated, not values: equal quantiles give a shift of exactly 0. Beyond the source's
    range the shift fades to 0 at black and white, so that nothing there clips.
    """
    full = levels[-1]
    source, target = _spread(source * full, full), _spread(target * full, full)
    knots, which = np.unique(source, return_inverse=True)
    shifts = np.bincount(which, target - source) / np.bincount(which)
    if knots[0] > 0:
        knots, shifts = np.append(0.0, knots), np.append(0.0, shifts)
    if knots[-1] < full:
        knots, shifts = np.append(knots, full), np.append(shifts, 0.0)
    return np.asarray(np.interp(levels, knots, shifts))


def _spread(values: NDArray[np.float64], full: float) -> NDArray[np.float64]:
    """Return quantiles in levels with black and white spread over level ± ½ like the others."""
    return np.where(values < 0.5, 2 * values - 0.5, np.where(values > full - 0.5, 2 * values - full + 0.5, values))


def _look_up(pixels: NDArray[Any], tables: NDArray[Any]) -> NDArray[Any]:
    if pixels.itemsize == 1:
        return np.asarray(cv2.LUT(np.ascontiguousarray(pixels), np.ascontiguousarray(tables.T)[None]))
    result = np.empty_like(pixels)
    for row, out in zip(pixels, result):
        for channel, table in enumerate(tables):
            out[:, channel] = table[row[:, channel]]
    return result


def _lattice(pixels: NDArray[Any], mask: NDArray[np.uint8]) -> NDArray[Any]:
    """Return (n, 3) pixels of a regular lattice where *mask* is 0; all there are where the lattice meets none."""
    rows, columns = _grid(*pixels.shape[:2])
    taken = []
    for row in range(len(pixels))[rows]:
        line, over = (spill.fetch(array[row : row + 1])[0, columns] for array in (pixels, mask))
        taken.append(line[over == 0])
    if not any(map(len, taken)):
        step = spill.rows_of(pixels)
        for top in range(0, len(pixels), step):
            part, over = (spill.fetch(array[top : top + step]) for array in (pixels, mask))
            taken.append(part[over == 0])
            if sum(map(len, taken)) >= SAMPLE:
                break
    return np.concatenate(taken)[:SAMPLE]


def _match_lab(pixels: NDArray[Any], source: Tone, target: Tone, strength: float) -> NDArray[Any]:
    if source.lab_mean == target.lab_mean and source.lab_std == target.lab_std:
        return pixels
    gains = [t / s if s > 0 else 1.0 for s, t in zip(source.lab_std, target.lab_std)]
    gain = np.array([1 + strength * (g - 1) for g in gains], np.float32)[:, None]
    centre = np.array(source.lab_mean, np.float32)[:, None]
    shift = strength * (np.array(target.lab_mean, np.float32)[:, None] - centre)
    full = 255 if pixels.dtype.itemsize == 1 else 65535
    result = np.empty_like(pixels)
    flat, out = pixels.reshape(-1, 3), result.reshape(-1, 3)
    for start in range(0, len(flat), _CHUNK):
        part = slice(start, start + _CHUNK)
        moved = (lab(flat[part]).T - centre) * gain + centre + shift
        out[part] = np.rint(np.clip(_rgb(moved), 0, 1) * full)
    return result


def _rgb(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return sRGB (n, 3), 1 is white, not clipped, of CIELAB *planes* (3, n): the inverse of color.lab."""
    f = np.empty_like(planes)
    f[1] = (planes[0] + 16) / 116
    f[0] = f[1] + planes[1] / 500
    f[2] = f[1] - planes[2] / 200
    # CIE 15: below the knee the cube is replaced by its tangent
    xyz = np.where(f > 6 / 29, f * f * f, (f - np.float32(4 / 29)) * np.float32(3 * (6 / 29) ** 2))
    linear = np.maximum(_RGB_OF_XYZ @ xyz, 0)
    return np.where(
        linear > 0.0031308, np.float32(1.055) * linear ** np.float32(1 / 2.4) - np.float32(0.055), 12.92 * linear
    ).T


def _rounded(values: NDArray[np.float64]) -> Numbers:
    return tuple(round(float(value), 6) + 0.0 for value in values)
