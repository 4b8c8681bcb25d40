"""Checks of the pixels round a hole: blur, blocks, noise, clipping, and edges that cross the hole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.preflight.record import Box, Record, percent, record
from imgedit.ops.preflight.view import View, quantile

Map = NDArray[np.float32]
Flags = NDArray[np.bool_]

BLOCKY = 1.3  # steps on the 8×8 grid against steps elsewhere; photos at JPEG quality 88 stay below 1.25
BLURRED = 1.15  # pixels: standard deviation of the blur of the sharpest edges; sharp photos stay below 1
REBLUR = 1.5  # pixels: standard deviation of the blur it is measured by
SHARPEST = 0.05  # share of the pixels whose gradients count as edges
FAINT = 3.0  # levels per pixel: less is no edge
NOISY = 9.5  # levels; photos without visible noise stay below 9, textures included
WHITE = 0.35  # noise at full size against half size; 1 for white noise, textures stay below
CALM = 0.2  # share of the blocks that noise is measured in, the calmest
CLIPPED = 0.35  # share of the surroundings

LARGE = 26.0  # pixels across: smaller holes are bridged well enough
CROSSING = 48.0  # levels of a step at both ends, in a hole that is WIDE; in a smaller one more, in proportion
WIDE = 60.0  # pixels across
REACHES = (5, 10)  # pixels along the rim that a step is taken over
ENDS = 8  # steps along the rim that are paired
FAR = 0.7  # widths of the hole between the ends of one edge, at least
ALIKE = 0.6  # cosine between the colour steps of both ends
STRAIGHT = 0.4  # product over both ends: share of the gradient energy that lies across the line between them


def look(view: View, where: Box) -> Iterable[Record]:
    """Yield what the surroundings are like."""
    clear = view.clear
    near = clear & (view.away <= 26)
    count = np.count_nonzero(near)
    if not count:
        return
    black, white = (cv2.inRange(view.rgb, (end,) * 3, (end,) * 3) for end in (0, 255))
    clipped = np.count_nonzero(near & (cv2.max(black, white) > 0)) / count
    if clipped > CLIPPED:
        yield record("IE120", where, share=percent(clipped))
    sigma, whiteness = noise(view.luma, clear)
    if sigma > NOISY and whiteness > WHITE:
        yield record("IE121", where, sigma=sigma)
    if grid_strength(view.luma, clear) > BLOCKY:
        yield record("IE111", where)
    elif blur(view.luma, clear) > BLURRED:
        yield record("IE110", where)


def grid_strength(luma: Map, clear: Flags) -> float:
    """Return how much larger steps are on the most striking of eight grids of period 8 than on the others.

    About 1 without blocks. Second differences |a − 2b + c| are used, so that gradients do not count
    (after Wang, Bovik, Evans, "Blind measurement of blocking artifacts in images", 2000). *clear* says
    which pixels count. The metric blockiness of `compare` is another number: what a reference has is no block there.
    """
    ratios = []
    for values, use in ((luma, clear), (np.ascontiguousarray(luma.T), np.ascontiguousarray(clear.T))):
        if values.shape[1] < 32:
            continue
        first = np.abs(np.diff(values, axis=1))
        step = first[:, 1:-1] - np.float32(0.5) * (first[:, :-2] + first[:, 2:])
        whole = (use[:, :-3] & use[:, 1:-2] & use[:, 2:-1] & use[:, 3:]).astype(np.float32)
        counts = whole.sum(axis=0)
        if counts.sum() < 2000:
            continue
        # a level more: on smooth ground the slightest step would count
        typical = float((first[:, 1:-1] * whole).sum() / counts.sum()) + 1
        phase = np.arange(len(counts)) % 8
        sums = np.bincount(phase, weights=(step * whole).sum(axis=0), minlength=8)
        means = sums / np.maximum(np.bincount(phase, weights=counts, minlength=8), 1)
        ratios.append(1 + float(means.max() - np.median(means)) / typical)
    return min(ratios) if ratios else 1.0


def blur(luma: Map, clear: Flags) -> float:
    """Return the standard deviation, pixels, of the Gaussian that the sharpest edges are blurred by; 0 without edges.

    From the ratio R of the gradients before and after another blur of σ₀: σ = σ₀ / √(R² − 1) (Zhuo and Sim,
    "Defocus map estimation from a single image", 2011). *clear* says which pixels count.
    """
    if np.count_nonzero(clear) < 500:
        return 0.0
    gradient = _gradient(luma)
    edge = max(quantile(gradient[clear], 1 - SHARPEST), FAINT)
    edges = clear & (gradient >= edge)
    if np.count_nonzero(edges) < 30:
        return 0.0
    again = _gradient(np.asarray(cv2.GaussianBlur(luma, (0, 0), REBLUR), np.float32))
    ratio = quantile(gradient[edges] / np.maximum(again[edges], 1e-3), 0.75)
    return float(REBLUR / max(ratio**2 - 1, 1e-3) ** 0.5)


def _gradient(luma: Map) -> Map:
    """Return the length of the gradient, levels per pixel."""
    gx, gy = cv2.Sobel(luma, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(luma, cv2.CV_32F, 0, 1, scale=1 / 8)
    return np.asarray(cv2.magnitude(gx, gy))


def noise(luma: Map, clear: Flags) -> tuple[float, float]:
    """Return the standard deviation of the noise in levels, and how white it is: 1 for noise, less for texture.

    Diagonal details of the Haar wavelet in blocks of 16 pixels, the calmest of them: their mean absolute value
    times √(π/2), at full size (Donoho and Johnstone, 1994, of the finest scale), and against that at half size,
    where white noise has the same and texture has more. (0, 0) where too little is clear.
    """
    fine, half = _diagonal(luma)
    coarse, _ = _diagonal(half)
    known = _blocks(clear.astype(np.float32), 16)
    rows, columns = known.shape
    use = known > 0.75
    if np.count_nonzero(use) < 4:
        return 0.0, 0.0
    first, second = (_blocks(np.abs(part), n)[:rows, :columns][use] for part, n in ((fine, 8), (coarse, 4)))
    calm = np.argsort(first)[: max(2, round(CALM * len(first)))]
    scale = (np.pi / 2) ** 0.5
    sigma, later = float(first[calm].mean()) * scale, float(second[calm].mean()) * scale
    return sigma, sigma / max(later, 1e-3)


def _diagonal(values: Map) -> tuple[Map, Map]:
    """Return the diagonal details and the sums, halved, of blocks of 2×2: noise keeps its deviation in both."""
    rows, columns = (n // 2 * 2 for n in values.shape)
    a, b = values[:rows:2, :columns:2], values[:rows:2, 1:columns:2]
    c, d = values[1:rows:2, :columns:2], values[1:rows:2, 1:columns:2]
    return np.asarray((a - b - c + d) / 2, np.float32), np.asarray((a + b + c + d) / 2, np.float32)


def _blocks(values: Map, size: int) -> Map:
    """Return the means of whole blocks of *size* pixels."""
    rows, columns = (n // size for n in values.shape)
    blocks = values[: rows * size, : columns * size].reshape(rows, size, columns, size)
    return np.asarray(blocks.mean(axis=(1, 3)))


def crossing(view: View, where: Box) -> Iterable[Record]:
    """Yield IE112 where a strong step of colour enters the hole on one side and leaves it on the other."""
    if view.width < LARGE:
        return
    places, colours, gradients = _along_rim(view)
    least = CROSSING / min(1, view.width / WIDE)
    for reach in REACHES:
        if len(places) >= 6 * reach and _paired(places, colours, gradients, reach, view.width) > least:
            yield record("IE112", where, width=view.width * view.scale)
            return


def _along_rim(view: View) -> tuple[Map, Map, Map]:
    """Return for each pixel of the line 6 pixels outside the largest hole: (x, y), mean colour, and gradients.

    Shapes (n, 2), (n, 3) and (n, 4, 2): taken at four distances along the normal, so that what does not run into the
    hole averages out.
    """
    smooth = np.asarray(cv2.GaussianBlur(view.rgb, (0, 0), 1.5), np.float32)
    luma = cv2.cvtColor(smooth, cv2.COLOR_RGB2GRAY)
    slopes = [cv2.Sobel(luma, cv2.CV_32F, *d, scale=1 / 8) for d in ((1, 0), (0, 1))]
    normals = [cv2.blur(cv2.Sobel(view.away, cv2.CV_32F, *d, scale=1 / 8), (5, 5)) for d in ((1, 0), (0, 1))]
    grown = np.pad((view.away < 6).view(np.uint8), 1)
    lines, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    line = max(lines, key=len)[:, 0, :] - 1
    x, y = line[:, 0], line[:, 1]
    away = np.stack([each[y, x] for each in normals], axis=1)
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)
    rows, columns = view.inside.shape
    colours, gradients = [], []
    for far in (-1, 1, 3, 5):
        column = np.clip(np.rint(x + far * away[:, 0]).astype(np.intp), 0, columns - 1)
        row = np.clip(np.rint(y + far * away[:, 1]).astype(np.intp), 0, rows - 1)
        colours.append(smooth[row, column])
        gradients.append(np.stack([each[row, column] for each in slopes], axis=1))
    return line.astype(np.float32), np.mean(colours, axis=0), np.stack(gradients, axis=1)


def _paired(places: Map, colours: Map, gradients: Map, reach: int, width: float) -> float:
    """Return the strength in levels of the strongest pair of steps over *reach* that may be ends of one edge, or 0."""
    count = len(places)
    around = np.concatenate([colours[-reach:], colours, colours[:reach]])
    sums = np.concatenate([np.zeros((1, 3)), np.cumsum(around, axis=0, dtype=np.float64)])
    means = (sums[reach:] - sums[:-reach]) / reach
    steps = means[reach : reach + count] - means[:count]
    strength = np.linalg.norm(steps, axis=1) / 3**0.5
    ends = np.array(_peaks(strength, reach))
    tensors = np.stack([_tensor(gradients, end) for end in ends])
    first, second = np.tril_indices(len(ends), -1)
    one, other = ends[first], ends[second]
    lines = places[other] - places[one]
    lengths = np.maximum(np.linalg.norm(lines, axis=1), 1e-6)
    lines /= lengths[:, None]
    sizes = np.linalg.norm(steps, axis=1)
    # along the rim, what goes up where an edge enters goes down where it leaves
    alike = -(steps[one] * steps[other]).sum(axis=1) / np.maximum(sizes[one] * sizes[other], 1e-6)
    straight = _across(lines, tensors[first]) * _across(lines, tensors[second])
    paired = (lengths >= FAR * width + 10) & (alike >= ALIKE) & (straight > STRAIGHT)
    found = np.minimum(strength[one], strength[other])[paired] * alike[paired] * straight[paired] ** 0.5
    return float(found.max(initial=0))


def _across(lines: Map, tensors: Map) -> Map:
    """Return which share of the energy of each structure tensor (n, 2, 2) lies across its line (n, 2), of length 1."""
    along = np.einsum("ni,nij,nj->n", lines, tensors, lines)
    return np.asarray(1 - along / np.maximum(np.trace(tensors, axis1=1, axis2=2), 1e-6))


def _peaks(strength: NDArray[Any], reach: int) -> list[int]:
    """Return the places of the largest values on a closed line, more than *reach* apart, at most ENDS."""
    left = strength.copy()
    found: list[int] = []
    while len(found) < ENDS and left.max() >= 0:
        place = int(left.argmax())
        found.append(place)
        left[np.arange(place - reach, place + reach + 1) % len(left)] = -1
    return found


def _tensor(gradients: Map, place: int) -> Map:
    """Return the structure tensor (2, 2) near a place of the line."""
    near = gradients[np.arange(place - 4, place + 5) % len(gradients)].reshape(-1, 2)
    tensor: Map = near.T @ near
    return tensor
