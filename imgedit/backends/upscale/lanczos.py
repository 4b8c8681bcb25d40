"""Lanczos-3 with back-projection: enlarges without a model, without overshoot, and can be reduced again."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from imgedit import spill
from imgedit.backends.upscale._sizes import check_larger
from imgedit.ops import enlarge

if TYPE_CHECKING:
    from imgedit.frame import Pixels


class Lanczos:
    """Enlarges to any size with two limits that hold at every pixel.

    Nothing leaves the least and greatest value of the 3×3 input pixels round the one in which the output
    pixel's centre lies. Where the scale is whole, the mean over each input pixel's cell is the input within
    1/255 of full scale; at fractional scales an output pixel can belong to two inputs and the two limits
    exclude each other, so the range is kept and the mean comes as close as two rounds bring it. Both limits
    together need a peak of the input that is much higher than its neighbours to become a nearly flat cell.
    """

    summary: ClassVar[str] = "Lanczos-3, back-projection, no overshoot; any scale, no model"
    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    deterministic: ClassVar[bool] = True
    #: but for what *sharpen* adds
    invents: ClassVar[bool] = False
    native_scale: ClassVar[int | None] = None
    bit_depths: ClassVar[tuple[int, ...]] = (8, 16)

    def upscale(self, pixels: Pixels, rows: int, columns: int, *, sharpen: float = 0.05) -> Pixels:
        """Return *pixels* (rows, columns, 3 or 4) enlarged to *rows* × *columns*, same dtype, centre-aligned.

        A fourth channel is straight alpha: colours then count by their alpha, so that what a transparent
        pixel hides does not come through. *sharpen*: added contrast of the finest detail, 0…1. Raises
        UsageError where the result would be smaller than the input.
        """
        check_larger(pixels, rows, columns)
        result: Pixels = spill.empty((rows, columns, pixels.shape[2]), pixels.dtype)
        enlarge.enlarge(pixels, result, sharpen)
        return result
