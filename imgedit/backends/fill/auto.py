"""Fill backend: picks among the others for each hole, and says why."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from imgedit.backends.protocols import Filled

if TYPE_CHECKING:
    from imgedit.frame import Pixels, Plane

#: root mean square of the gradient round a hole, levels per pixel, below which the ground is even
EVEN = 1.0
#: pixels from the middle of a hole to its edge, beyond which a network has nothing in sight
DEEP = 80


class Auto:
    """Fills strokes by the network, wide holes smoothly with the texture of copied patches, even ground smoothly."""

    summary: ClassVar[str] = "what fits each hole: learned for strokes, patches over a smooth fill for wide holes"
    requires: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    extra: ClassVar[str] = ""
    deterministic: ClassVar[bool] = True
    bit_depths: ClassVar[tuple[int, ...]] = (8, 16)

    @property
    def fingerprint(self) -> dict[str, str]:
        """Digest of the network that may be used, for the record of the step."""
        from imgedit.backends.fill.learned import Learned

        return Learned().fingerprint

    def fill(self, pixels: Pixels, mask: Plane, *, seed: int) -> Filled:
        """Return *pixels* filled where *mask* > 0, each hole by the method that fits it; *why* says what was seen."""
        from imgedit.backends.fill.learned import Learned
        from imgedit.ops.choice import deeper, roughness
        from imgedit.ops.exemplar import exemplar, way
        from imgedit.ops.harmonic import harmonic
        from imgedit.ops.lively import lively

        rough = roughness(pixels, mask)
        ground = f"ground of {rough:.1f} levels per pixel"
        if rough < EVEN:
            return Filled(harmonic(pixels, mask), "harmonic", f"even {ground}", seamless=True)
        deep = deeper(mask, DEEP)
        if not deep.any():
            return Learned().fill(pixels, mask, seed=seed)._replace(why=f"strokes, {ground}")
        # what is deepest goes first, and counts as known for the strokes beside it
        method, why = "harmonic+patch", f"deeper than {DEEP} pixels, {ground}"
        if way(mask) == "reduced":
            done = exemplar(pixels, mask, seed, calm=True)
            why = f"{why}; very large: worked on at a reduced scale"
        else:
            done = lively(harmonic(pixels, mask), exemplar(pixels, mask, seed), deep)
        rest = np.where(deep, np.uint8(0), mask)
        if rest.any():
            strokes = Learned().fill(np.where(deep[..., None], done, pixels), rest, seed=seed)
            method, why = f"{method}, {strokes.method}", f"{why}; strokes beside it"
            done = np.where(rest[..., None] > 0, strokes.pixels, done)
        return Filled(done, method, why, seamless=True)
