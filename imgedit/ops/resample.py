"""Interpolation weights and scaled planes: where an enlarged picture's pixels come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from imgedit import spill

# weights are whole multiples of this: with whole pixel values every sum is exact in float64, so that no
# result depends on the order of summation, the tiling, or the machine
_WEIGHT = 2.0**-18
#: input pixels that an output pixel can depend on, on either side of the one it lies in
REACH = 9
#: input pixels to whose outputs one small matrix leads
BAND = 16
#: multiplications at most in one product of matrices: above this OpenBLAS starts threads that cost more than they do
MOST = 1 << 18
_LOBES = 3
_FILTER = REACH - _LOBES
_ROUNDS = 3
_PHASES = 64


def taps(source: int, result: int, sharpen: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return first input index (result,) and weights (result, 18) that enlarge *source* to *result* pixels.

    Centre-aligned: output j lies at (j + ½) · source / result − ½. The weights of each output add up to 1
    and are whole multiples of 2⁻¹⁸. They are Lanczos-3 (Duchon 1979) after :func:`prefilter`, so that one
    pass does the interpolation, the back-projection and the sharpening. Indices reach beyond the edges by
    up to REACH.
    """
    number = (2 * np.arange(result, dtype=np.int64) + 1) * source - result
    first, rest = np.divmod(number, 2 * result)
    fraction = rest / (2 * result)
    offsets = np.arange(1 - _LOBES, _LOBES + 1)
    weights = lanczos(offsets - fraction[:, None])
    weights /= weights.sum(axis=1, keepdims=True)
    filtered = np.zeros((result, weights.shape[1] + 2 * _FILTER))
    for at, factor in enumerate(prefilter(source, result, sharpen)):
        filtered[:, at : at + weights.shape[1]] += factor * weights
    return first - (_LOBES - 1) - _FILTER, _exact(filtered, fraction)


def prefilter(source: int, result: int, sharpen: float) -> NDArray[np.float64]:
    """Return the symmetric filter (13,) on the input that stands for back-projection and sharpening.

    Back-projection (Irani and Peleg 1991) adds the enlarged difference between the input and the reduced
    result, x ← x + U (y − D x); U is Lanczos-3, D the antialiased bicubic reduction (Keys 1981, a = −½).
    From x = U y, three rounds give U (1 + M + M² + M³) y with M = 1 − D U: a filter on the input.
    D U differs from pixel to pixel at fractional scales; its mean is taken. *sharpen* then adds to the
    finest detail of the input: that share of its contrast, 0…1.
    """
    reach = 4 * _FILTER
    there_and_back = np.zeros(2 * reach + 1)
    scale = result / source
    count = min(source, _PHASES)
    inputs = np.arange(-reach, reach + 1)
    for at in range(count):
        centre = (at + 0.5) * scale - 0.5
        outputs = np.arange(np.ceil(centre - 2 * scale), np.floor(centre + 2 * scale) + 1)
        down = cubic((outputs - centre) / scale)
        up = lanczos((outputs[:, None] + 0.5) / scale - 0.5 - at - inputs)
        up /= up.sum(axis=1, keepdims=True)
        there_and_back += (down / down.sum()) @ up / count
    missing = -(there_and_back + there_and_back[::-1]) / 2
    missing[reach] += 1
    term = np.zeros_like(missing)
    term[reach] = 1
    total = term.copy()
    for _ in range(_ROUNDS):
        term = np.convolve(term, missing, "same")
        total += term
    total += sharpen * np.convolve(total, [-0.25, 0.5, -0.25], "same")
    kept = total[reach - _FILTER : reach + _FILTER + 1]
    symmetric: NDArray[np.float64] = kept + kept[::-1]
    symmetric /= symmetric.sum()
    return symmetric


def dense(first: NDArray[np.int64], weights: NDArray[np.float64], start: int, width: int) -> NDArray[np.float64]:
    """Return the weights of some outputs as a matrix (outputs, *width*) on the inputs from *start* on."""
    matrix = np.zeros((len(first), width))
    columns = first[:, None] - start + np.arange(weights.shape[1])
    np.put_along_axis(matrix, columns, weights, axis=1)
    return matrix


def shares(source: int, result: int, inputs: range, outputs: range) -> NDArray[np.float64]:
    """Return how much ground each of *inputs* and *outputs* share: (inputs, outputs), whole numbers.

    The unit is 1 / (source · result) of the picture's length: over all outputs an input's add up to
    *result*, over all inputs an output's add up to *source*.
    """
    low = np.arange(inputs.start, inputs.stop, dtype=np.int64)[:, None] * result
    left = np.arange(outputs.start, outputs.stop, dtype=np.int64) * source
    common: NDArray[np.int64] = np.minimum(low + result, left + source) - np.maximum(low, left)
    return np.where(common > 0, common, 0).astype(np.float64)


def tents(source: int, result: int, inputs: range, outputs: range) -> NDArray[np.float64]:
    """Return the weights that interpolate *inputs* linearly at *outputs*: (inputs, outputs), whole numbers.

    For each output they add up to 2 · *result*; beyond the first and last input these count for their neighbours.
    """
    places = 2 * result * np.arange(inputs.start, inputs.stop, dtype=np.int64)[:, None]
    centres = (2 * np.arange(outputs.start, outputs.stop, dtype=np.int64) + 1) * source - result
    centres = np.clip(centres, places[0], places[-1])
    weights: NDArray[np.int64] = np.maximum(2 * result - np.abs(places - centres), 0)
    return weights.astype(np.float64)


@dataclass(frozen=True)
class Part:
    """One axis of a tile: its input pixels, the output pixels whose centres lie in them, and what links them.

    *keep* of *outputs* are the tile's own, the rest is context; they go to *target*. *within*: for each output
    the one of *inputs* in which its centre lies; *depth*: how far in, 0 … 2 · *result*. *bands*: pieces of
    outputs with the inputs they depend on, the weights, the inputs they share ground with, how much, and the
    weights of :meth:`spread`.
    """

    source: int
    result: int
    inputs: range
    outputs: range
    keep: slice
    target: slice
    within: NDArray[np.int64]
    depth: NDArray[np.int64]
    bands: list[tuple[slice, slice, NDArray[np.float64], slice, NDArray[np.float64], NDArray[np.float64]]]

    def enlarge(self, lines: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return *lines* (planes, n, inputs with REACH on each side) interpolated: (planes, n, outputs), whole."""
        values = np.empty((*lines.shape[:-1], len(self.outputs)))
        for outputs, inputs, weights, *_ in self.bands:
            for part, product in _products(lines[..., inputs], weights):
                np.rint(product, out=values[:, part, outputs])
        return values

    def reduce(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return, for each input, *result* times the mean of *values* (planes, n, outputs) over its ground."""
        sums = np.zeros((*values.shape[:-1], len(self.inputs)))
        for outputs, _, _, inputs, common, _ in self.bands:
            for part, product in _products(values[..., outputs], common.T):
                sums[:, part, inputs] += product
        return sums

    def spread(self, lines: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return, for each output, 2 · *result* times *lines* (planes, n, inputs), interpolated linearly."""
        values = np.empty((*lines.shape[:-1], len(self.outputs)))
        for outputs, _, _, inputs, _, weights in self.bands:
            for part, product in _products(lines[..., inputs], weights):
                values[:, part, outputs] = product
        return values


def _products(lines: NDArray[Any], weights: NDArray[np.float64]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield *lines* (planes, n, inputs) @ *weights*, some of the n at a time."""
    step = max(1, MOST // weights.size)
    for start in range(0, lines.shape[1], step):
        part = slice(start, start + step)
        yield part, lines[:, part].astype(np.float64, copy=False) @ weights


class Axis:
    """One axis of a picture that is enlarged from *source* to *result* pixels."""

    def __init__(self, source: int, result: int, sharpen: float) -> None:
        self.source, self.result = source, result
        self._first, self._weights = taps(source, result, sharpen)

    def part(self, pixels: range, context: int) -> Part:
        """Return the tile of the input *pixels*, with *context* on each side, as far as there is any."""
        inputs = range(max(pixels.start - context, 0), min(pixels.stop + context, self.source))
        outputs, own = self._outputs(inputs), self._outputs(pixels)
        centres = (2 * np.arange(outputs.start, outputs.stop, dtype=np.int64) + 1) * self.source
        return Part(
            source=self.source,
            result=self.result,
            inputs=inputs,
            outputs=outputs,
            keep=slice(own.start - outputs.start, own.stop - outputs.start),
            target=slice(own.start, own.stop),
            within=centres // (2 * self.result) - inputs.start,
            depth=centres % (2 * self.result),
            bands=[self._band(range(at, min(at + BAND, inputs.stop)), inputs, outputs) for at in inputs[::BAND]],
        )

    def _outputs(self, inputs: range) -> range:
        """Return the outputs whose centres lie in *inputs*."""
        edges = inputs.start, inputs.stop
        return range(*(-((self.source - 2 * self.result * edge) // (2 * self.source)) for edge in edges))

    def _band(self, band: range, inputs: range, outputs: range) -> tuple[Any, ...]:
        own = self._outputs(band)
        first, weights = self._first[own.start : own.stop], self._weights[own.start : own.stop]
        near = range(max(band.start - 1, inputs.start), min(band.stop + 1, inputs.stop))
        return (
            slice(own.start - outputs.start, own.stop - outputs.start),
            slice(band.start - inputs.start, band.stop - inputs.start + 2 * REACH),
            np.ascontiguousarray(dense(first, weights, band.start - REACH, len(band) + 2 * REACH).T),
            slice(near.start - inputs.start, near.stop - inputs.start),
            shares(self.source, self.result, near, own),
            tents(self.source, self.result, near, own),
        )


def enlarge_plane(plane: NDArray[Any], rows: int, columns: int, rule: Literal["max", "min", "nearest"]) -> NDArray[Any]:
    """Return (h, w) *plane* enlarged to *rows* × *columns* (at least h × w) without new values.

    ``max`` and ``min`` take the extreme of all input pixels that an output pixel covers, so that no pixel
    of a mask vanishes, whatever the scale; ``nearest`` takes the one in which its centre lies.
    """
    result = spill.empty((rows, columns), plane.dtype)
    step = spill.rows_of(result)
    for top in range(0, rows, step):
        down = np.arange(top, min(top + step, rows))
        first, last = down[0] * len(plane) // rows, ((down[-1] + 1) * len(plane) - 1) // rows
        lines = spill.fetch(plane[first : last + 1])
        spill.store(result[top : top + step], _plane_rows(lines, first, down, plane.shape, (rows, columns), rule))
    return result


def _plane_rows(
    lines: NDArray[Any], first: int, down: NDArray[Any], shape: tuple[int, ...], size: tuple[int, int], rule: str
) -> NDArray[Any]:
    """Return the rows *down* of a plane of *shape* enlarged to *size*; *lines*: those that they need, from *first*."""
    (height, width), (rows, columns), across = shape, size, np.arange(size[1])
    if rule == "nearest":
        taken: NDArray[Any] = lines[(2 * down + 1) * height // (2 * rows) - first]
        return taken[:, (2 * across + 1) * width // (2 * columns)]
    extreme = np.maximum if rule == "max" else np.minimum
    tall: NDArray[Any] = extreme(lines[down * height // rows - first], lines[((down + 1) * height - 1) // rows - first])
    enlarged: NDArray[Any] = extreme(tall[:, across * width // columns], tall[:, ((across + 1) * width - 1) // columns])
    return enlarged


def _exact(weights: NDArray[np.float64], fraction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return *weights* as whole multiples of 2⁻¹⁸ that add up to 1; what rounding leaves goes to the nearest tap."""
    exact = np.rint(weights / _WEIGHT) * _WEIGHT
    rest = 1 - exact.sum(axis=1)
    # half way between two pixels both are nearest: half each, or the picture would not mirror
    half = np.where(fraction == 0.5, rest / 2, 0.0)
    index = np.arange(len(exact))
    nearest = REACH - 1 + (fraction > 0.5)
    exact[index, nearest] += rest - half
    exact[index, np.minimum(nearest + 1, 2 * REACH - 1)] += half
    return exact


def lanczos(t: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(t) < _LOBES, np.sinc(t) * np.sinc(t / _LOBES), 0.0)


def cubic(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Keys' cubic (1981, a = −½) at *t* pixels from its middle."""
    t = np.abs(t)
    return np.where(t < 1, (1.5 * t - 2.5) * t * t + 1, np.where(t < 2, ((2.5 - 0.5 * t) * t - 4) * t + 2, 0.0))


def join_alpha(pixels: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """Return (rows, columns, 4): *pixels* (rows, columns, 3) with *alpha* (rows, columns) as fourth channel."""

    def joined(colours: NDArray[Any], seen: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate((colours, seen[..., None]), axis=2)

    return spill.made(joined, (*alpha.shape, 4), pixels.dtype, pixels, alpha)


def split_alpha(joined: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return pixels (rows, columns, 3) and alpha (rows, columns) of *joined* (rows, columns, 4)."""
    size, kind = joined.shape[:2], joined.dtype
    pixels = spill.made(lambda part: part[..., :3], (*size, 3), kind, joined)
    return pixels, spill.made(lambda part: part[..., 3], size, kind, joined)
