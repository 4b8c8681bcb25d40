"""Fill backend: a small network that ships with the package, for strokes of letters and scratches."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from imgedit.backends.protocols import Filled

if TYPE_CHECKING:
    from imgedit.frame import Pixels, Plane

WEIGHTS = Path(__file__).parents[2] / "data" / "filler.onnx"
MAX_THREADS = 4
#: pixels from the middle of a hole to its edge, up to which it is a stroke
STROKE = 24


class Learned:
    """Mixes smooth, periodic and copied fills as a network has learned from photographs, and adds to them."""

    summary: ClassVar[str] = "a small network that ships with the package, best for letters and scratches"
    requires: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    extra: ClassVar[str] = ""
    deterministic: ClassVar[bool] = True
    bit_depths: ClassVar[tuple[int, ...]] = (8, 16)

    @property
    def fingerprint(self) -> dict[str, str]:
        """Digest of the network, for the record of the step."""
        from imgedit.backends.onnx import fingerprint

        return {"net": fingerprint(WEIGHTS)}

    def fill(self, pixels: Pixels, mask: Plane, *, seed: int) -> Filled:
        """Return *pixels* with the network's fill where *mask* > 0, wide holes with the detail of copied patches."""
        done = filled(pixels, mask, seed)
        return done._replace(why=f"asked for; {done.why}")

    def context(self, mask: Plane) -> int:
        """Return how many pixels round a hole it looks at: more round wide ones, whose fills it tries beside them."""
        from imgedit.ops.choice import deeper
        from imgedit.ops.enlivened import CONTEXT

        return CONTEXT if deeper(mask, STROKE).any() else 0


def filled(pixels: Pixels, mask: Plane, seed: int) -> Filled:
    """Return what `Learned` does; *why* says only what was seen of the hole."""
    from imgedit.ops.choice import deeper
    from imgedit.ops.enlivened import enlivened
    from imgedit.ops.exemplar import way

    wide = deeper(mask, STROKE)
    if not wide.any():
        return Filled(_smooth(pixels, mask), "learned", "strokes", seamless=True)
    # far from its edge a network's fill is smooth
    done = enlivened(_smooth, pixels, mask, seed, wide)
    why = f"deeper than {STROKE} pixels; {done.why}"
    if way(mask) == "reduced":
        why = f"{why}; very large: patches found at a reduced scale"
    return Filled(done.pixels, "learned+patch", why, seamless=True)


def _smooth(pixels: Pixels, mask: Plane) -> Pixels:
    """Return *pixels* with the network's fill where *mask* > 0."""
    from imgedit.ops.learned import learned

    return learned(pixels, mask, _network())


@cache
def _network() -> Any:
    """Return the network as a function of one array; it is loaded once in a process."""
    from imgedit.backends.onnx import session

    network = session(WEIGHTS, MAX_THREADS, arena=True)
    return lambda given: network.run(None, {"given": given})[0]
