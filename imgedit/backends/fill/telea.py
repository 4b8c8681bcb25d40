"""Fill backend: fast marching from the edge inwards (Telea 2004), OpenCV."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from imgedit.backends.protocols import Filled

if TYPE_CHECKING:
    from imgedit.frame import Pixels, Plane


class Telea:
    """Marches inwards from the edge, weighting known pixels by direction and distance."""

    summary: ClassVar[str] = "fast marching from the edge inwards (Telea 2004), OpenCV"
    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    deterministic: ClassVar[bool] = True
    bit_depths: ClassVar[tuple[int, ...]] = (8,)

    def fill(self, pixels: Pixels, mask: Plane, *, seed: int) -> Filled:
        """Return uint8 *pixels* filled where *mask* > 0, from a neighbourhood of 3 pixels."""
        from imgedit.ops.fill import march

        return Filled(march(pixels, mask, "telea"), "telea", "asked for")
