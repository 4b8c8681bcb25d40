"""Fill backend: pieces of the surroundings, coarse to fine (PatchMatch with votes)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from imgedit.backends.protocols import Filled

if TYPE_CHECKING:
    from imgedit.frame import Pixels, Plane

_WHY = {
    "strokes": "asked for; a thin hole: the best of the nearest patches",
    "scales": "asked for; from coarse to fine",
    "reduced": "asked for; very large: worked on at a reduced scale, with its finest detail copied",
    "harmonic": "no whole patch of known pixels beside the hole",
}


class Patch:
    """Copies patches that continue what is known round the hole."""

    summary: ClassVar[str] = "patches of the surroundings, coarse to fine: keeps texture and structure"
    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    deterministic: ClassVar[bool] = True
    bit_depths: ClassVar[tuple[int, ...]] = (8, 16)

    def fill(self, pixels: Pixels, mask: Plane, *, seed: int) -> Filled:
        """Return *pixels* with patches where *mask* > 0; harmonic, and *why* says so, where there are none."""
        from imgedit.ops.exemplar import exemplar, way

        kind = way(mask)
        return Filled(exemplar(pixels, mask, seed), "harmonic" if kind == "harmonic" else "patch", _WHY[kind])
