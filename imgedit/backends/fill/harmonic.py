"""Fill backend: the smoothest surface between the edges of the hole."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from imgedit.backends.protocols import Filled

if TYPE_CHECKING:
    from imgedit.frame import Pixels, Plane


class Harmonic:
    """Solves the Laplace equation in the hole: no value outside the range found on its edge."""

    summary: ClassVar[str] = "the Laplace equation in the hole: smooth, never overshoots"
    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    deterministic: ClassVar[bool] = True
    bit_depths: ClassVar[tuple[int, ...]] = (8, 16)

    def fill(self, pixels: Pixels, mask: Plane, *, seed: int) -> Filled:
        """Return *pixels* with the harmonic surface where *mask* > 0."""
        from imgedit.ops.harmonic import harmonic

        return Filled(harmonic(pixels, mask), "harmonic", "asked for", seamless=True)
