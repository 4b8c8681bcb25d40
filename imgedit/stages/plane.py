"""`imgedit plane`: attach a map to the picture, from a file or from the mask: the hint, and others."""

from __future__ import annotations

from typing import Annotated, Any

from imgedit.errors import DataError
from imgedit.frame import Frame
from imgedit.stage import Opt, stage

#: what is called so says where pixels were photographed; a mask says where they are not to stay
HINT = "hint"


def _name(given: str) -> str:
    """Return *given* if a plane can be called so, as files and streams of planes have it."""
    plain = given.isascii() and given.replace("-", "").replace("_", "").isalnum() and given == given.lower()
    if not plain or not given[0].isalpha() or len(given) > 32 or given == "mask":
        raise ValueError(f"{given!r} is no name for a plane: letters a to z, digits, - and _; and not mask")
    return given


@stage(keeps=["pixels", "size", "alpha"])
def plane(
    frame: Frame,
    *,
    as_: Annotated[str, Opt("What the plane is called; upscale obeys the one called hint.", check=_name)] = HINT,
    from_: Annotated[
        Frame | None, Opt("Picture of the same size: white is 255, black 0; the default is the mask.")
    ] = None,
    invert: Annotated[bool, Opt("Exchange black and white.")] = False,
    drop: Annotated[bool, Opt("Take the plane away instead.")] = False,
) -> Frame:
    """Attach a plane to the picture: a map of its own size that travels with it.

    The hint says where the picture was photographed, 255, and where it was invented, 0; values between are weights. It
    is made of a file, or of the mask: what the mask covers then counts as invented, so that
    `imgedit mask --rect … | imgedit plane` marks a place by hand. Planes of other names are
    the mask as it is. Without a mask nothing counts as invented.
    """
    planes: dict[str, Any] = dict(frame.planes)
    if drop:
        planes.pop(as_, None)
        return frame.replace(planes=planes)
    from imgedit.ops import masks

    if from_ is not None:
        if (from_.rows, from_.columns) != (frame.rows, frame.columns):
            raise DataError(
                f"the --from picture is {from_.columns}×{from_.rows}, the picture {frame.columns}×{frame.rows}",
                "make the plane for this very picture",
            )
        drawn = masks.of_picture(from_.pixels, from_.alpha)
    else:
        mask = masks.empty(frame.rows, frame.columns) if frame.mask is None else frame.mask
        drawn = masks.invert(mask) if as_ == HINT else mask
    planes[as_] = masks.invert(drawn) if invert else drawn
    return frame.replace(planes=planes)
