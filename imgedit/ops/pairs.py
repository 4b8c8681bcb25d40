"""Bring two pictures together for a comparison: one size, one depth, one idea of alpha, and the regions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from imgedit.errors import DataError
from imgedit.ops import gradients
from imgedit.ops.depth import to16

Plane = NDArray[np.uint8]
Planes = NDArray[Any]
Size = tuple[int, int]
#: two pictures as they look, (rows, columns, 3)
Look = tuple[Planes, Planes]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures of one size and dtype, and the regions to look at.

    *picture*, *reference*: (rows, columns, 3) as stored. *alphas*: both alphas, (rows, columns), or None where both are
    opaque. *regions*: name → (rows, columns) uint8, 255 in the region; None for the whole. *reach*: of the ring.
    """

    picture: Planes
    reference: Planes
    alphas: tuple[Planes, Planes] | None
    regions: Mapping[str, Plane | None]
    reach: int

    def looks(self) -> list[Look]:
        """Both pictures as they look: as stored or, with an alpha that shows, laid over black and over white."""
        if self.alphas is None:
            return [(self.picture, self.reference)]
        sides = ((self.picture, self.alphas[0]), (self.reference, self.alphas[1]))
        return [(_over(*sides[0], white=white), _over(*sides[1], white=white)) for white in (False, True)]


def pair(
    picture: Planes,
    reference: Planes,
    *,
    alpha: Planes | None = None,
    reference_alpha: Planes | None = None,
    mask: Plane | None = None,
    ring: int = 4,
    scale: Literal["down", "up"] | None = None,
) -> Pair:
    """Return both pictures at one size and depth.

    8 bits beside 16 are taken times 257. An alpha that is missing is opaque. *scale*: for different sizes; ``down``
    reduces the larger by area averaging, ``up`` enlarges the smaller by cubic interpolation. *mask*: of *picture*;
    gives the regions ``inside`` (mask > 0), ``outside`` and ``ring`` (within *ring* pixels of the mask's edge, on both
    sides; the border of the picture is no edge). Raises DataError for sizes that cannot be compared.
    """
    size = _common_size(picture.shape[:2], reference.shape[:2], scale)
    deep = max(picture.dtype.itemsize, reference.dtype.itemsize) > 1
    first, second = (_at(_deepened(pixels, deep), size) for pixels in (picture, reference))
    alphas = None
    if not (_opaque(alpha) and _opaque(reference_alpha)):
        alphas = (
            _at(_deepened(_alpha_of(picture, alpha), deep), size),
            _at(_deepened(_alpha_of(reference, reference_alpha), deep), size),
        )
    regions: dict[str, Plane | None] = {"whole": None}
    if mask is not None:
        inside = _at(np.where(mask > 0, np.uint8(255), np.uint8(0)), size, widest=True)
        regions |= {"inside": inside, "ring": gradients.edge_ring(inside, ring), "outside": cv2.bitwise_not(inside)}
    return Pair(first, second, alphas, regions, ring)


def fitted(plane: Plane, size: Size) -> Plane:
    """Return *plane* at *size* (rows, columns): enlarged by repetition, reduced by the largest value."""
    return np.asarray(_at(plane, size, widest=True), np.uint8)


def _common_size(size: Size, other: Size, scale: Literal["down", "up"] | None) -> Size:
    if size == other:
        return size
    sizes = f"the picture is {size[1]}×{size[0]}, the reference {other[1]}×{other[0]}"
    small, large = sorted((size, other), key=lambda one: one[0] * one[1])
    # the smaller may have been rounded to whole pixels in either direction
    rounded = abs(small[0] - large[0] * small[1] / large[1]) < 1 or abs(small[1] - large[1] * small[0] / large[0]) < 1
    if small[0] > large[0] or small[1] > large[1] or not rounded:
        raise DataError(f"{sizes}: they are not of the same shape", "crop one of them to the other's aspect ratio")
    if scale is None:
        raise DataError(
            f"{sizes}: different sizes have no common pixels to compare",
            "say how to bring them together: --scale down reduces the larger, --scale up enlarges the smaller",
        )
    return small if scale == "down" else large


def _at(values: Any, size: Size, *, widest: bool = False) -> Any:
    """Return *values* at *size*; *widest*: what is above 0 anywhere stays so, for masks and maps."""
    rows, columns = values.shape[:2]
    if (rows, columns) == size:
        return values
    reduces = rows > size[0] or columns > size[1]
    if not widest:
        how = cv2.INTER_AREA if reduces else cv2.INTER_CUBIC
        return np.asarray(cv2.resize(values, size[::-1], interpolation=how))
    if reduces:
        reach = (-(-rows // size[0]), -(-columns // size[1]))
        values = cv2.dilate(values, np.ones(reach, np.uint8))
    return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT))


def _deepened(values: Planes, deep: bool) -> Planes:
    return to16(values) if deep else values


def _opaque(alpha: Planes | None) -> bool:
    return alpha is None or int(alpha.min()) == 256**alpha.dtype.itemsize - 1


def _alpha_of(pixels: Planes, alpha: Planes | None) -> Planes:
    return np.full(pixels.shape[:2], np.iinfo(pixels.dtype).max, pixels.dtype) if alpha is None else alpha


def _over(pixels: Planes, alpha: Planes, *, white: bool) -> Planes:
    """Return *pixels* with straight *alpha* laid over black or white, rounded."""
    full = np.uint32(np.iinfo(pixels.dtype).max)
    result = np.empty_like(pixels)
    for row, opacity, laid in zip(pixels, alpha, result):  # by rows: the products need 32 bits
        weight = opacity[:, None].astype(np.uint32)
        seen = (row * weight + full // 2) // full
        laid[...] = seen + (full - weight) if white else seen
    return result
