"""Choose a fill by rehearsal: the same shape is filled beside the hole, where the truth is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.ops.depth import to8
from imgedit.ops.fill import flat, march
from imgedit.ops.harmonic import harmonic

Pixels = NDArray[Any]
Plane = NDArray[np.uint8]

FILLS: Mapping[str, Callable[[Pixels, Plane], Pixels]] = {
    "harmonic": harmonic,
    "flat": lambda pixels, mask: flat(pixels, mask)[0],
    "telea": lambda pixels, mask: march(pixels, mask, "telea"),
    "ns": lambda pixels, mask: march(pixels, mask, "ns"),
}
WINDOW = 256  # largest window that is rehearsed in, pixels: the time for large holes stays bounded
CLEAR = 2  # pixels round the hole that no rehearsal uses: antialiasing may have reached them
TRIALS = 2  # more cost time and chose no better
ENOUGH = 0.5  # share of the shape that must fall on known pixels
ADVANTAGE = 0.97  # another fill must be this much better than the harmonic one, which is best on average
SAME = 0.25  # levels: where errors differ by less, rounding may decide


def rehearse(pixels: Pixels, mask: Plane) -> dict[str, float]:
    """Return method → root mean square error, in levels, of filling the same shape beside the hole.

    *pixels*: (rows, columns, 3) uint8 or uint16; *mask*: (rows, columns) uint8, hole = above 0. Only pixels
    outside the hole count or matter. Empty where the shape fits nowhere beside itself.
    """
    window = _window(mask)
    part, hole = to8(pixels[window]), mask[window] > 0
    squares = dict.fromkeys(FILLS, 0.0)
    count = 0
    for trial in _trials(hole):
        unknown = (hole | trial).view(np.uint8) * 255
        truth = part[trial].astype(np.float32)
        count += truth.size
        for name, fill in FILLS.items():
            squares[name] += float(np.square(fill(part, unknown)[trial] - truth).sum(dtype=np.float64))
    return {name: (total / count) ** 0.5 for name, total in squares.items()} if count else {}


def choose(errors: Mapping[str, float]) -> tuple[str, str]:
    """Return the method to use after a rehearsal with these *errors*, and why."""
    if not errors:
        return "harmonic", "no room to try the shape beside the hole; harmonic is best on average"
    best = min(errors, key=errors.__getitem__)
    listed = ", ".join(f"{name} {error:.1f}" for name, error in sorted(errors.items(), key=lambda item: item[1]))
    if errors[best] > ADVANTAGE * errors["harmonic"] or errors["harmonic"] - errors[best] < SAME:
        best = "harmonic"
    return best, f"errors on the same shape beside the hole, levels: {listed}"


def _window(mask: Plane) -> tuple[slice, slice]:
    """Return the window to rehearse in: round the middle of the masked pixels, at most WINDOW pixels wide."""
    slices = []
    for axis, size in enumerate(mask.shape):
        filled = np.flatnonzero(mask.any(axis=1 - axis))
        middle = int(filled[0] + filled[-1]) // 2 if len(filled) else 0
        start = int(np.clip(middle - WINDOW // 2, 0, max(size - WINDOW, 0)))
        slices.append(slice(start, start + WINDOW))
    return slices[0], slices[1]


def _trials(hole: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """Yield the hole's shape moved down, up, right or left beside itself, as far as it falls on known pixels."""
    shape = hole.view(np.uint8)
    _, _, width, height = cv2.boundingRect(shape)
    near = cv2.dilate(shape, np.ones((2 * CLEAR + 1, 2 * CLEAR + 1), np.uint8)) > 0
    total = int(np.count_nonzero(hole))
    # strokes too wide spread to be moved past themselves are moved by their own thickness
    thin = 2 * int(np.ceil(cv2.distanceTransform(shape, cv2.DIST_L2, 3).max())) + 2 * CLEAR
    far = ((height + CLEAR + 1, width + CLEAR + 1), (thin, thin))
    for down, right in far:
        found = 0
        for dy, dx in ((down, 0), (-down, 0), (0, right), (0, -right)):
            trial = _moved(hole, dy, dx) & ~near
            if found < TRIALS and np.count_nonzero(trial) >= ENOUGH * total:
                found += 1
                yield trial
        if found:
            return


def _moved(hole: NDArray[np.bool_], dy: int, dx: int) -> NDArray[np.bool_]:
    rows, columns = hole.shape
    out = np.zeros_like(hole)
    if abs(dy) < rows and abs(dx) < columns:
        source = hole[max(-dy, 0) : rows - max(dy, 0), max(-dx, 0) : columns - max(dx, 0)]
        out[max(dy, 0) : rows - max(-dy, 0), max(dx, 0) : columns - max(-dx, 0)] = source
    return out
