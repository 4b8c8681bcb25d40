"""Strokes backend: a small network that ships with the package, for letters that colours alone do not tell."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from imgedit.ops.regions import Points
    from imgedit.ops.strokes import Floats, Plane

WEIGHTS = Path(__file__).parents[2] / "data" / "strokes.onnx"
MAX_THREADS = 4


class Learned:
    """Finds strokes as a network has learned it from text drawn on photographs."""

    summary: ClassVar[str] = "a small network that ships with the package, for faint and semi-transparent letters"
    requires: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    extra: ClassVar[str] = ""
    deterministic: ClassVar[bool] = True

    @property
    def fingerprint(self) -> dict[str, str]:
        """Digest of the network, for the record of the step."""
        from imgedit.backends.onnx import fingerprint

        return {"net": fingerprint(WEIGHTS)}

    def likely(self, crop: Plane, polygon: Points) -> Floats:
        """Return for each pixel of a (rows, columns, 3) uint8 *crop* how likely it is a stroke of text, 0…1.

        *polygon*: (n, 2) of (x, y), the convex box of the text; far from it the result is 0. (rows, columns) float32.
        """
        from imgedit.ops.strokes import likely

        return likely(crop, polygon, _network())


@cache
def _network() -> Any:
    """Return the network as a function of one array; it is loaded once in a process."""
    from imgedit.backends.onnx import session

    network = session(WEIGHTS, MAX_THREADS, arena=True)
    return lambda given: network.run(None, {"given": given})[0]
