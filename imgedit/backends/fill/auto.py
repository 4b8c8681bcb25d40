"""Fill backend: picks among the others for each hole, and says why."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from imgedit.backends.protocols import Filled

if TYPE_CHECKING:
    from imgedit.frame import Pixels, Plane


class Auto:
    """Fills the same shape beside the hole with every method, and the hole with the one that came closest."""

    summary: ClassVar[str] = "tries the others beside the hole and takes what came closest there"
    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    deterministic: ClassVar[bool] = True
    bit_depths: ClassVar[tuple[int, ...]] = (8, 16)

    def fill(self, pixels: Pixels, mask: Plane, *, seed: int) -> Filled:
        """Return *pixels* filled where *mask* > 0 by flat, harmonic, telea or ns; *why* lists their errors."""
        from imgedit.backends.adapter import adapt
        from imgedit.backends.fill.flat import Flat
        from imgedit.backends.fill.harmonic import Harmonic
        from imgedit.backends.fill.ns import Ns
        from imgedit.backends.fill.telea import Telea
        from imgedit.ops.rehearse import choose, rehearse

        method, why = choose(rehearse(pixels, mask))
        backend = {"flat": Flat, "harmonic": Harmonic, "telea": Telea, "ns": Ns}[method]()
        return Filled(adapt("fill", backend).fill(pixels, mask, seed=seed).pixels, method, why)
