"""Fill backend: one plane through the surroundings of the hole."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from imgedit.backends.protocols import Filled

if TYPE_CHECKING:
    from imgedit.frame import Pixels, Plane


class Flat:
    """Fits a plane to the ring round the hole: for paper, sky, walls, studio ground."""

    summary: ClassVar[str] = "a robust plane through the surroundings, for uniform ground"
    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    deterministic: ClassVar[bool] = True
    bit_depths: ClassVar[tuple[int, ...]] = (8, 16)

    def fill(self, pixels: Pixels, mask: Plane, *, seed: int) -> Filled:
        """Return *pixels* with the plane where *mask* > 0; *why* gives the residual of the fit in levels."""
        from imgedit.ops.fill import flat

        filled, residual = flat(pixels, mask)
        return Filled(filled, "flat", f"plane fit, residual {residual:.1f} levels")
