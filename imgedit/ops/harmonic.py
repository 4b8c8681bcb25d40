"""The Laplace equation in a hole: conjugate gradients, preconditioned by multigrid on the hole's pixels alone.

Unknowns are listed, not laid out on a grid, so that a scratch across a large picture costs what the scratch
costs. Rows of four values (RGB and one spare) are gathered faster than rows of three.

Sources: the discrete Dirichlet problem, Pérez, Gangnet, Blake, "Poisson Image Editing" (2003), eq. 7 with zero
guidance; multigrid as preconditioner, Tatebe, "The multigrid preconditioned conjugate gradient method" (1993);
coarse grids from blocks of pixels with rescaled weights, Braess, "Towards algebraic multigrid for elliptic
problems of second order" (1995).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.errors import DataError

Pixels = NDArray[Any]
Plane = NDArray[np.uint8]
Rows = NDArray[Any]  # (unknowns + 1, 4) float; the last row is 0 and stands for whatever is no unknown
Index = NDArray[np.intp]

DAMPING = 0.8  # of the Jacobi smoother; 4/5 is optimal for the five-point stencil in two dimensions
RESCALE = 1.4  # constants on blocks are too stiff by up to 2; 1.4 took the fewest rounds on squares, text and noise
SMALL = 96  # unknowns that are solved directly
TOLERANCE = 0.05  # levels, of the estimated error; 0.25 is promised
MAX_ROUNDS = 300

_STEPS = ((-1, 0), (0, -1), (0, 1), (1, 0))


def harmonic(pixels: Pixels, mask: Plane) -> Pixels:
    """Return *pixels* with the solution of the Laplace equation where *mask* > 0, within 0.25 level.

    *pixels*: (rows, columns, 3) uint8 or uint16; *mask*: (rows, columns) uint8. The pixels round the hole are
    the boundary values; at the picture's border nothing flows. No value lies outside the range of the pixels
    round its hole. Raises DataError when the mask leaves no pixel outside.
    """
    out = pixels.copy()
    x, y, width, height = cv2.boundingRect(mask)
    if width == 0:
        return out
    top, left = max(y - 1, 0), max(x - 1, 0)
    box = (slice(top, y + height + 1), slice(left, x + width + 1))
    hole = mask[box] > 0
    if hole.all():
        raise DataError("the mask covers everything: there is nothing to fill from", "mask less of the picture")
    kind = np.dtype(np.float32 if pixels.dtype.itemsize == 1 else np.float64)
    finest, mean, right = _problem(pixels[box], hole, kind)
    solution = mean + _solve(_levels(finest), right)[:-1, :3]
    out[box][hole] = np.rint(solution).astype(pixels.dtype)
    return out


@dataclass(slots=True)
class _Level:
    """One grid of unknowns and its operator: the sum of weight·(own value − neighbour's), plus loss·(own value)."""

    y: Index
    x: Index
    #: (rows + 2, columns + 2): the unknown at each place, or the number of unknowns where there is none
    place: NDArray[np.int32]
    #: (4, unknowns), in the order of _STEPS
    near: Index
    weight: Rows
    #: weight towards known pixels
    loss: Rows
    #: (4, coarse unknowns) the finer unknowns in each block, and (fine unknowns,) the block of each
    children: Index | None = None
    parent: Index | None = None
    inverse: Rows | None = None
    diagonal: Rows = field(init=False)

    def __post_init__(self) -> None:
        self.diagonal = (self.weight.sum(axis=0) + self.loss)[:, None]


def _place(hole: NDArray[np.bool_]) -> tuple[Index, Index, NDArray[np.int32], Index]:
    """Return y and x of each unknown, the map back, and the neighbours of each."""
    rows, columns = hole.shape
    y, x = np.nonzero(hole)
    place = np.full((rows + 2, columns + 2), len(y), np.int32)
    place[1:-1, 1:-1][hole] = np.arange(len(y), dtype=np.int32)
    near = np.stack([place[y + 1 + dy, x + 1 + dx] for dy, dx in _STEPS]).astype(np.intp)
    return y, x, place, near


def _problem(crop: Pixels, hole: NDArray[np.bool_], kind: np.dtype[Any]) -> tuple[_Level, Rows, Rows]:
    """Return the finest grid, the mean of the boundary, and the right-hand side for values less that mean."""
    rows, columns = hole.shape
    y, x, place, near = _place(hole)
    total = np.zeros((len(y) + 1, 4), kind)
    known = np.zeros(len(y), kind)
    for dy, dx in _STEPS:
        ny, nx = y + dy, x + dx
        inside = np.flatnonzero((ny >= 0) & (ny < rows) & (nx >= 0) & (nx < columns))
        use = inside[~hole[ny[inside], nx[inside]]]
        total[use, :3] += crop[ny[use], nx[use]]
        known[use] += 1
    mean = total.sum(axis=0, dtype=np.float64) / known.sum(dtype=np.float64)
    total[:-1] -= known[:, None] * mean.astype(kind)
    weight = (near < len(y)).astype(kind)
    return _Level(y, x, place, near, weight, known), mean[:3].astype(kind), total


def _levels(finest: _Level) -> list[_Level]:
    """Return the grids from fine to coarse, each of blocks of 2×2 of the one before."""
    levels = [finest]
    while len(levels[-1].y) > SMALL and max(levels[-1].place.shape) > 3:
        levels.append(_coarser(levels[-1]))
    last = levels[-1]
    count = len(last.y)
    if count <= SMALL:
        every = np.arange(count)
        matrix = np.zeros((count + 1, count + 1))
        for near, weight in zip(last.near, last.weight):
            matrix[every, near] -= weight
        matrix[every, every] += last.diagonal[:, 0]
        last.inverse = np.linalg.inv(matrix[:-1, :-1]).astype(last.weight.dtype)
    return levels


def _coarser(fine: _Level) -> _Level:
    by, bx = fine.y // 2, fine.x // 2
    hole = np.zeros(((fine.place.shape[0] - 1) // 2, (fine.place.shape[1] - 1) // 2), bool)
    hole[by, bx] = True
    y, x, place, near = _place(hole)
    count = len(y)
    parent = place[by + 1, bx + 1].astype(np.intp)
    weight = np.zeros((4, count), fine.weight.dtype)
    for i, (dy, dx) in enumerate(_STEPS):
        # an edge of the finer grid counts when it leaves the block in this direction
        leaves = (fine.y + dy) // 2 != by if dy else (fine.x + dx) // 2 != bx
        weight[i] = np.bincount(parent, weights=fine.weight[i] * leaves, minlength=count) / RESCALE
    loss = (np.bincount(parent, weights=fine.loss, minlength=count) / RESCALE).astype(fine.weight.dtype)
    rows, columns = fine.place.shape
    children = np.stack(
        [
            fine.place[np.minimum(2 * y + 1 + dy, rows - 1), np.minimum(2 * x + 1 + dx, columns - 1)]
            for dy in (0, 1)
            for dx in (0, 1)
        ]
    ).astype(np.intp)
    return _Level(y, x, place, near, weight, loss, children, parent)


def _applied(level: _Level, x: Rows) -> Rows:
    """Return the operator of *level* applied to *x*."""
    out = np.empty_like(x)
    np.multiply(level.diagonal, x[:-1], out=out[:-1])
    out[-1] = 0
    gathered = np.empty_like(x[:-1])
    for near, weight in zip(level.near, level.weight):
        np.take(x, near, axis=0, out=gathered, mode="clip")  # with "raise" numpy would buffer
        if level.parent is not None:  # on the finest grid all weights are 1, and 0 comes from the last row
            gathered *= weight[:, None]
        out[:-1] -= gathered
    return out


def _cycle(levels: list[_Level], depth: int, b: Rows) -> Rows:
    """Return one symmetric V-cycle's approximation to the solution for right-hand side *b*."""
    level = levels[depth]
    x = np.zeros_like(b)
    if level.inverse is not None:
        x[:-1] = level.inverse @ b[:-1]
        return x
    scale = b.dtype.type(DAMPING) / level.diagonal
    x[:-1] = scale * b[:-1]
    if depth + 1 < len(levels):
        coarse = levels[depth + 1]
        assert coarse.children is not None and coarse.parent is not None
        residual = b - _applied(level, x)
        restricted = np.zeros((len(coarse.y) + 1, 4), b.dtype)
        for children in coarse.children:
            restricted[:-1] += residual.take(children, axis=0)
        x[:-1] += _cycle(levels, depth + 1, restricted).take(coarse.parent, axis=0)
    x[:-1] += scale * (b - _applied(level, x))[:-1]
    return x


def _solve(levels: list[_Level], b: Rows) -> Rows:
    """Return x with A x = *b* by conjugate gradients, each of the four columns by itself."""
    tiny = np.finfo(b.dtype).tiny
    x = np.zeros_like(b)
    residual = b.copy()
    z = _cycle(levels, 0, residual)
    direction = z.copy()
    product = _dots(residual, z)
    for _ in range(MAX_ROUNDS):
        # a V-cycle maps the residual nearly to the error, so its size tells when to stop
        if float(np.abs(z).max()) <= TOLERANCE:
            break
        applied = _applied(levels[0], direction)
        step = product / np.maximum(_dots(direction, applied), tiny)
        x += step * direction
        residual -= step * applied
        z = _cycle(levels, 0, residual)
        new = _dots(residual, z)
        direction = z + (new / np.maximum(product, tiny)) * direction
        product = new
    return np.asarray(x + z)


def _dots(a: Rows, b: Rows) -> Rows:
    return np.asarray(np.einsum("nc,nc->c", a, b))
