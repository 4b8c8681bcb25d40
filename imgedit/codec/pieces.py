"""Pictures that Pillow decodes, without all of them in memory at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from imgedit import spill

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from PIL.Image import Image

    #: pixels and alpha
    Made = tuple[NDArray[Any], NDArray[Any] | None]

#: formats whose decoders are given a little of the file at a time, and write row after row
_BY_PIECES = {"JPEG", "MPO", "TIFF", "PPM", "BMP"}
#: bytes that Pillow keeps of a pixel
_MODE_BYTES = {"L": 1, "P": 1, "RGB": 4, "RGBA": 4, "RGBX": 4, "CMYK": 4, "YCbCr": 4}


def load(image: Image, kind: str) -> NDArray[Any] | None:
    """Decode *image*; a large one, where Pillow can, into an array in a file, which is returned.

    Pillow keeps what it decodes in memory of its own, unless it is given some. A decoder that asks for a little of the
    file at a time lets go of what it has written whenever it does.
    """
    from PIL import Image as PillowImage

    place = None
    if kind in _BY_PIECES and image.mode in _MODE_BYTES and _fits(image):
        shape = (image.height, image.width, _MODE_BYTES[image.mode])
        place = spill.empty(shape, np.uint8) if spill.is_large(math.prod(shape)) else None
    if place is None:
        image.load()
        return None
    file = image.fp  # type: ignore[attr-defined]
    try:
        # what frombuffer() does for modes without padding
        core: Any = PillowImage.core  # type: ignore[attr-defined]
        mapped = core.map_buffer(place.data, image.size, "raw", 0, (image.mode, 0, 1))
        image.im = mapped
        image.fp = _Passing(file, place)  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError):  # another Pillow keeps it in memory
        image.load()
        return None
    image.load()
    if isinstance(image.fp, _Passing):  # type: ignore[attr-defined]
        image.fp = file  # type: ignore[attr-defined]
    spill.let_go(place)
    return place if image.im is mapped else None


def _fits(image: Image) -> bool:
    """Tell whether all that is decoded lies in *image*: a TIFF to be turned is said to be of its later size."""
    extents = [tile[1] for tile in image.tile]  # type: ignore[attr-defined]
    return all(right <= image.width and bottom <= image.height for _, _, right, bottom in extents)


class _Passing:
    """A file that lets go of *place* whenever it is read."""

    def __init__(self, file: Any, place: NDArray[Any]) -> None:
        self._file, self._place = file, place

    def read(self, count: int = -1) -> bytes:
        spill.let_go(self._place)
        data: bytes = self._file.read(count)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def gathered(rows: int, parts: Iterator[tuple[int, int, Made]]) -> Made:
    """Return pixels and alpha of a picture whose *parts* are given, from the first row of each to the last."""
    results: list[NDArray[Any]] = []
    for top, bottom, made in parts:
        found = [values for values in made if values is not None]
        results = results or [spill.empty((rows, *values.shape[1:]), values.dtype) for values in found]
        for result, values in zip(results, found, strict=True):
            spill.store(result[top:bottom], values)
    return results[0], results[1] if len(results) > 1 else None
