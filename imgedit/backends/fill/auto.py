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
#: pixels from the middle of a hole to its edge, from which a plane is looked for round it: in strokes all fills agree
WIDE = 24


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
        from imgedit.ops.choice import deeper, pieces, roughness, shaded
        from imgedit.ops.harmonic import harmonic

        rough = roughness(pixels, mask)
        ground = f"ground of {rough:.1f} levels per pixel"
        if rough < EVEN:
            return Filled(harmonic(pixels, mask), "harmonic", f"even {ground}", seamless=True)
        flat = [piece for piece in pieces(deeper(mask, WIDE)) if shaded(pixels, piece, mask)]
        if not flat:
            return self._uneven(pixels, mask, seed, ground)
        done, rest = _even(pixels, mask, flat, seed)
        method, why = "flat+patch", f"a plane with noise round it, {ground}"
        if rest.any():
            others = self._uneven(done, rest, seed, ground)
            done, method, why = others.pixels, f"{method}, {others.method}", f"{why}; beside it {others.why}"
        return Filled(done, method, why, seamless=True)

    def context(self, mask: Plane) -> int:
        """Return how many pixels round a hole it looks at."""
        from imgedit.backends.fill.learned import Learned

        return Learned().context(mask)

    def _uneven(self, pixels: Pixels, mask: Plane, seed: int, ground: str) -> Filled:
        """Fill holes by how deep they are."""
        from imgedit.backends.fill import learned
        from imgedit.ops.choice import deeper
        from imgedit.ops.enlivened import enlivened
        from imgedit.ops.exemplar import exemplar, way
        from imgedit.ops.harmonic import harmonic

        deep = deeper(mask, DEEP)
        if not deep.any():
            seen = learned.filled(pixels, mask, seed)
            return seen._replace(why=f"{seen.why}; {ground}")
        # what is deepest goes first, and counts as known for the strokes beside it
        method, why = "harmonic+patch", f"deeper than {DEEP} pixels, {ground}"
        if way(mask) == "reduced":
            done = exemplar(pixels, mask, seed, calm=True)
            why = f"{why}; very large: worked on at a reduced scale"
        else:
            result = enlivened(harmonic, pixels, mask, seed, deep)
            done, why = result.pixels, f"{why}; {result.why}"
        rest = np.where(deep, np.uint8(0), mask)
        if rest.any():
            strokes = learned.filled(np.where(deep[..., None], done, pixels), rest, seed)
            method, why = f"{method}, {strokes.method}", f"{why}; strokes beside it"
            done = np.where(rest[..., None] > 0, strokes.pixels, done)
        return Filled(done, method, why, seamless=True)


def _even(pixels: Pixels, mask: Plane, flat: list[Plane], seed: int) -> tuple[Pixels, Plane]:
    """Return *pixels* with a plane and some noise in the pieces *flat* of the hole, and what is left of the mask."""
    from imgedit.ops import fill
    from imgedit.ops.exemplar import exemplar
    from imgedit.ops.harmonic import harmonic
    from imgedit.ops.lively import lively

    rest = np.where(np.maximum.reduce(flat) > 0, np.uint8(0), mask)
    # what else is unknown must not count as ground
    done = harmonic(pixels, mask) if rest.any() else pixels
    for piece in flat:
        smooth = fill.flat(done, piece)[0]
        done = lively(smooth, exemplar(smooth, piece, seed), piece, even=True)
    return np.where((rest > 0)[..., None], pixels, done), rest
