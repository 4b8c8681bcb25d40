"""Fill backend: Navier-Stokes transport of edges into the hole (Bertalmio 2001), OpenCV."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from imgedit.backends.protocols import Filled

if TYPE_CHECKING:
    from imgedit.frame import Pixels, Plane


class Ns:
    """Carries lines of equal brightness into the hole."""

    summary: ClassVar[str] = "Navier-Stokes transport of edges into the hole (Bertalmio 2001), OpenCV"
    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    deterministic: ClassVar[bool] = True
    bit_depths: ClassVar[tuple[int, ...]] = (8,)

    def fill(self, pixels: Pixels, mask: Plane, *, seed: int) -> Filled:
        """Return uint8 *pixels* filled where *mask* > 0, from a neighbourhood of 3 pixels."""
        from imgedit.ops.fill import march

        return Filled(march(pixels, mask, "ns"), "ns", "asked for")
