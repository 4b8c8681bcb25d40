"""Upscale backend: a small network that ships with the package adds to Lanczos-3 what that lacks."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from imgedit.backends.upscale._sizes import check_larger
from imgedit.jobs import Enlarged, Resources

if TYPE_CHECKING:
    from imgedit.frame import Pixels

WEIGHTS = Path(__file__).parents[2] / "data" / "refiner.onnx"


class Hybrid:
    """Enlarges by `lanczos`, then adds fine detail as a network has learned it from photographs.

    The network sees the deterministic result and its edges; what it adds is held to what the input says by a round of
    back-projection. Unlike `lanczos` it promises neither the local range nor the mean over each pixel's ground to a
    level. Scales 2, 3 and 4 are the network's own; others are made from the next larger one, and those above 4 from 4,
    by Lanczos-3.
    """

    summary: ClassVar[str] = "lanczos refined by a small network that ships with the package; sharper photos"
    requires: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    extra: ClassVar[str] = ""
    deterministic: ClassVar[bool] = True
    native_scale: ClassVar[int | None] = None
    bit_depths: ClassVar[tuple[int, ...]] = (8, 16)
    tiled: ClassVar[bool] = True

    @property
    def fingerprint(self) -> dict[str, str]:
        """Digest of the network, for the record of the step."""
        from imgedit.backends.onnx import fingerprint

        return {"net": fingerprint(WEIGHTS)}

    def upscale(
        self,
        pixels: Pixels,
        rows: int,
        columns: int,
        *,
        sharpen: float = 0.05,
        resources: Resources = Resources(),  # noqa: B008 - frozen
    ) -> Enlarged:
        """Return *pixels* (rows, columns, 3 or 4) enlarged to *rows* × *columns*, same dtype, centre-aligned.

        A fourth channel is straight alpha: it is enlarged as `lanczos` does it, and colours that transparent pixels
        hide do not come through. *sharpen*: added contrast of the finest detail, 0…1, as of `lanczos`. Raises
        UsageError where the result would be smaller than the input, OutOfMemory where the memory target is too small.
        """
        from imgedit.backends.upscale import _by_refining

        check_larger(pixels, rows, columns)
        return _by_refining.enlarge(pixels, rows, columns, _network(), sharpen, resources=resources)


@cache
def _network() -> Any:
    """Return the network as a function of what it is given and the scale; it is loaded once in a process.

    One thread for each call: tiles are worked on side by side, and no result depends on the number of threads.
    """
    from imgedit.backends.onnx import session

    network = session(WEIGHTS, 1, arena=True)
    return lambda given, scale: network.run([f"added{scale}"], {f"given{scale}": given[None]})[0][0]
