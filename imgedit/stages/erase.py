"""Fill the mask from the picture itself: `imgedit erase`."""

from __future__ import annotations

from typing import Annotated, Any

from imgedit.frame import Frame
from imgedit.stage import Expect, Opt, stage

#: text is a small part of a picture: more than this, and a hole was too large or a fill went wrong
MOVES = Expect(mean=0.5, std=1.0)
#: holes listed one by one in the notes; the rest is counted
LISTED = 50


@stage(needs=["mask"], keeps=["size", "outside-mask", "alpha"], backend="fill:auto", guard="preflight", latents=MOVES)
def erase(
    frame: Frame,
    backend: Any,
    *,
    margin: Annotated[int, Opt("Context round each hole that is shown to the backend, pixels.", min=1, max=4096)] = 64,
    seed: Annotated[int, Opt("Seed of the random numbers, for backends that use any.", min=0)] = 0,
) -> Frame:
    """Fill the mask from the picture itself; every pixel outside the mask is kept bit for bit.

    Works on a crop round each hole, so that cost follows the hole and not the picture. Mask values between
    0 and 255 blend. The plane ``hint`` is 0 where pixels were invented. An empty mask changes nothing.
    """
    from imgedit.ops import holes

    assert frame.mask is not None
    mask = frame.mask
    found = holes.find(mask, margin)
    if not found:
        return frame.replace(notes={"holes": 0, "result": "nothing to erase"})
    pixels = frame.pixels.copy()
    listed: list[dict[str, Any]] = []
    methods: dict[str, int] = {}
    for hole in found:
        crop = hole.grown(margin, mask.shape)
        filled = backend.fill(frame.pixels[crop.slices], mask[crop.slices], seed=seed)
        pixels[hole.slices] = holes.composite(
            frame.pixels[hole.slices], filled.pixels[hole.within(crop)], mask[hole.slices]
        )
        methods[filled.method] = methods.get(filled.method, 0) + 1
        if len(listed) < LISTED:
            listed.append({"where": hole.where, "method": filled.method, "why": filled.why})
    planes = {**frame.planes, "hint": holes.invented(frame.planes.get("hint"), mask)}
    notes = {"holes": len(found), "methods": methods, "listed": tuple(listed)}
    return frame.replace(pixels=pixels, planes=planes, notes=notes)
