"""The hint map: what was invented once is enlarged plainly, so that no upscaler sharpens it or invents upon it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgedit import spill
from imgedit.ops import enlarge
from imgedit.ops.bands import bands, extent
from imgedit.ops.resample import enlarge_plane

#: input pixels round what was invented that plain enlarging is shown
_MARGIN = 24
#: output pixels at a time
_BAND = 1 << 17


def plain(pixels: NDArray[Any], rows: int, columns: int, threads: int | None = None) -> NDArray[Any]:
    """Return *pixels* enlarged by Lanczos-3 within the local range, without sharpening: no contrast is added.

    *threads*: how many tiles are at work at once, by default as many as OpenCV may use.
    """
    result = spill.empty((rows, columns, pixels.shape[2]), pixels.dtype)
    enlarge.enlarge(pixels, result, 0.0, threads)
    return result


def obey(result: NDArray[Any], pixels: NDArray[Any], hint: NDArray[np.uint8], *, threads: int | None = None) -> float:
    """Change *result*, which *pixels* were enlarged to, in place: towards :func:`plain` where *hint* says invented.

    *hint*: (rows, columns) of *pixels*; 255 photographed, 0 invented, weights between. No pixel of the result whose
    ground was all photographed changes by a bit. Returns the share of the result that changed its source, 0…1.
    """
    rows, columns = result.shape[:2]
    box = extent((part < 255).view(np.uint8) for part in spill.parts(hint))
    if box is None:
        return 0.0
    down, across = rows // hint.shape[0], columns // hint.shape[1]
    if (rows, columns) == (hint.shape[0] * down, hint.shape[1] * across):
        # far from its edges a crop is enlarged as the whole is
        top, left = (max(0, part.start - _MARGIN) for part in box)
        pixels, hint = (array[top : box[0].stop + _MARGIN, left : box[1].stop + _MARGIN] for array in (pixels, hint))
        target = result[top * down :, left * across :][: hint.shape[0] * down, : hint.shape[1] * across]
    else:
        target = result
    calm = plain(pixels, target.shape[0], target.shape[1], threads)
    # the smallest of the hints that a pixel's ground belongs to
    weight = enlarge_plane(hint, target.shape[0], target.shape[1], "min")
    missing = 0
    for band in bands(target.shape[0], target.shape[1], _BAND):
        share = spill.fetch(weight[band])[..., None].astype(np.uint32)
        if share.min() < 255:
            mixed = spill.fetch(target[band]) * share + spill.fetch(calm[band]) * (255 - share)
            spill.store(target[band], ((mixed + 127) // 255).astype(target.dtype))
        missing += int((255 - share).sum(dtype=np.int64))
    return round(missing / int(255 * rows * columns), 6)
