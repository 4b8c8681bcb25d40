"""Lanczos-3 with back-projection: enlarges without a model, without overshoot, and can be reduced again."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from imgedit import spill
from imgedit.backends import memory
from imgedit.backends.upscale._sizes import check_larger
from imgedit.jobs import Enlarged, Resources
from imgedit.ops import enlarge

if TYPE_CHECKING:
    from imgedit.frame import Pixels

#: bytes that a tile in colour takes while it is worked on, and how many times that in 16 bits
_TILE, _DEEP = 34_000_000, 1.3


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
    tiled: ClassVar[bool] = True
    native_scale: ClassVar[int | None] = None
    bit_depths: ClassVar[tuple[int, ...]] = (8, 16)

    def upscale(
        self,
        pixels: Pixels,
        rows: int,
        columns: int,
        *,
        sharpen: float = 0.05,
        resources: Resources = Resources(),  # noqa: B008 - frozen
    ) -> Pixels | Enlarged:
        """Return *pixels* (rows, columns, 3 or 4) enlarged to *rows* × *columns*, same dtype, centre-aligned.

        A fourth channel is straight alpha: colours then count by their alpha, so that what a transparent
        pixel hides does not come through. *sharpen*: added contrast of the finest detail, 0…1. Of *resources* the
        memory target alone has a meaning: it says how many tiles are at work at once, and is then recorded. Raises
        UsageError where the result would be smaller than the input, OutOfMemory where a single tile is too much.
        """
        check_larger(pixels, rows, columns)
        result: Pixels = spill.empty((rows, columns, pixels.shape[2]), pixels.dtype)
        target = resources.memory_target_gb
        if target is None:
            enlarge.enlarge(pixels, result, sharpen)
            return result
        memory.give_back()
        held = spill.in_memory(result)
        left, each = memory.budget(target) - held, _bytes(pixels)
        threads = min(enlarge.most_threads(), left // each)
        if threads < 1:
            raise memory.too_little(left, memory.in_use() + held + each)
        planned = memory.in_use() + held + threads * each
        with memory.Watch() as watch:
            enlarge.enlarge(pixels, result, sharpen, threads)
        # what comes after has the same target
        memory.give_back()
        found = {"planned_gb": memory.as_gb(planned), "measured_gb": memory.as_gb(watch.peak)}
        return Enlarged(result, {"memory": {"target_gb": target, **found}})


def _bytes(pixels: Pixels) -> int:
    """Return how many bytes a tile at work takes: as measured at scales 2 to 8, where it takes most."""
    return int(_TILE * pixels.shape[2] / 3 * (_DEEP if pixels.dtype.itemsize > 1 else 1))
