"""Upscale backend: a conservative pass, then the network's detail and the picture's own texture, by one knob."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from imgedit.backends.upscale import hybrid
from imgedit.backends.upscale._sizes import check_larger
from imgedit.errors import UsageError
from imgedit.jobs import Enlarged, Resources

if TYPE_CHECKING:
    from imgedit.frame import Pixels, Plane
    from imgedit.ops.knob import Rung

#: where PSNR is that of `hybrid` or above, and GMSD is lowest, on average over photos
FAITHFUL = 0.75


class Ladder:
    """Enlarges in two passes that are held to the input by rounds of back-projection.

    The first is `lanczos`. The second adds what the network of `hybrid` makes of the first and its edges, and then
    texture: detail that patches of the picture have at its own scale, where the picture once reduced looks like what
    is to be refined, on even ground and not on edges. `faithful` says how much: 1 is the network's answer as it is,
    nearest to the truth; towards 0 its detail is made stronger, in proportion, and texture sets in, as the square.
    """

    summary: ClassVar[str] = "lanczos, then the network's detail and the picture's own texture: faithful to pleasing"
    requires: ClassVar[tuple[str, ...]] = hybrid.Hybrid.requires
    extra: ClassVar[str] = ""
    deterministic: ClassVar[bool] = True
    hinted: ClassVar[bool] = True
    native_scale: ClassVar[int | None] = None
    bit_depths: ClassVar[tuple[int, ...]] = (8, 16)
    tiled: ClassVar[bool] = True
    own: ClassVar[tuple[str, ...]] = ("faithful", "calibrate", "detail", "texture", "rounds")

    @property
    def fingerprint(self) -> dict[str, str]:
        """Digest of the network, for the record of the step."""
        return hybrid.Hybrid().fingerprint

    def upscale(
        self,
        pixels: Pixels,
        rows: int,
        columns: int,
        *,
        sharpen: float = 0.05,
        hint: Plane | None = None,
        faithful: float | None = None,
        calibrate: bool = False,
        detail: float | None = None,
        texture: float | None = None,
        rounds: int | None = None,
        resources: Resources = Resources(),  # noqa: B008 - frozen
    ) -> Enlarged:
        """Return *pixels* (rows, columns, 3 or 4) enlarged to *rows* × *columns*, same dtype, centre-aligned.

        A fourth channel is straight alpha, as of `hybrid`. *hint*: texture is taken from where it is 255 alone.
        *faithful*: 0…1; *calibrate*: measured on the picture instead, see :func:`imgedit.ops.knob.calibrated`.
        *detail*: how often what the network adds is added; *texture*: share of what patches lend; *rounds* of
        back-projection: each instead of what *faithful* says. Raises UsageError where the result would be smaller than
        the input, and where *faithful* is both given and to be measured, or the picture too small to measure it;
        OutOfMemory where the memory target is too small.
        """
        from imgedit.backends.upscale import _by_refining
        from imgedit.ops.knob import calibrated, rung
        from imgedit.ops.ladder import Exemplars
        from imgedit.ops.refine import Beyond

        check_larger(pixels, rows, columns)
        if calibrate and faithful is not None:
            raise UsageError("--calibrate measures what --faithful is to be", "give one of the two")
        given = {"detail": detail, "texture": texture, "rounds": rounds}
        chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        notes: dict[str, Any] = {}

        def enlarge(small: Pixels, rows: int, columns: int, hint: Plane | None, step: Rung) -> Enlarged:
            texture = Exemplars(step.texture, hint) if step.texture else None
            beyond = Beyond(step.detail, step.rounds, texture)
            return _by_refining.enlarge(small, rows, columns, hybrid._network(), sharpen, beyond, resources)

        if calibrate:
            ratio = max(rows / pixels.shape[0], columns / pixels.shape[1])
            found = calibrated(pixels, ratio, hint, chosen, lambda *given: enlarge(*given).pixels)
            faithful, notes["calibrated"] = found.faithful, found.table
        faithful = FAITHFUL if faithful is None else faithful
        step = rung(faithful, **chosen)
        done = enlarge(pixels, rows, columns, hint, step)
        return Enlarged(done.pixels, {"faithful": faithful, **step._asdict(), **notes, **done.notes})
