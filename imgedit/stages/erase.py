"""Fill the mask from the picture itself: `imgedit erase`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from imgedit.frame import Frame, Region
from imgedit.stage import Again, Expect, Opt, Rect, Round, stage

#: text is a small part of a picture: more than this, and a hole was too large or a fill went wrong
MOVES = Expect(mean=0.5, std=1.0)
#: holes listed one by one in the notes; the rest is counted
LISTED = 50


def _left(frame: Frame, found: Sequence[Region], known: Callable[[], Sequence[Region]]) -> list[Region]:
    """Return what is left of the text that the mask of *frame* was drawn for."""
    from imgedit.ops import remains

    assert frame.mask is not None
    places = _polygons(_places(frame))
    return [found[i] for i in remains.left(_polygons(found), lambda: _polygons(known()), frame.mask, places)]


def _tightened(
    last: Round, left: Sequence[Region], known: Sequence[Region]
) -> tuple[Frame, Mapping[str, tuple[Rect, ...]]]:
    """Return the first frame with the mask of the last grown where text is *left*, and where to fill smoothly."""
    from imgedit.ops import remains

    first, mask = last.first, last.given.mask
    assert first.mask is not None and mask is not None
    finds = _polygons(left)
    kept = remains.other(_polygons(known), remains.asked(first.mask, _polygons(_places(first))))
    cell = (first.sidecar.mask and first.sidecar.mask.grid) or 1
    # what is read where all was filled is the fill's own: another one has to do it
    old = last.params["smooth"]
    smooth = tuple(dict.fromkeys((*old, *remains.invented(mask, last.done.pixels, finds))))
    for number in range(last.number, max(last.number, remains.STEPS) + 1):
        larger = remains.tighten(mask, last.done.pixels, finds, kept, number, cell)
        if smooth != old or (larger != mask).any():
            break  # else a round would be lost: further steps take in more
    return first.replace(mask=larger), {"smooth": smooth}


def _polygons(listed: Sequence[Region]) -> list[Any]:
    from imgedit.ops import masks

    return [masks.points(region.polygon) for region in listed]


def _places(frame: Frame) -> tuple[Region, ...]:
    """Return the regions that the mask was drawn for; none where it was drawn or edited by hand since.

    And none where text was looked for since: then these are other regions.
    """
    step = next((step for step in reversed(frame.sidecar.steps) if step.stage in ("mask", "detect-text")), None)
    if step is None or step.stage != "mask":
        return ()
    drawn = str(step.notes.get("source")).endswith("regions") and not step.params.get("invert")
    edited = step.params.get("mode") in ("subtract", "intersect")
    return frame.sidecar.regions if drawn and not edited else ()


@stage(
    needs=["mask"],
    keeps=["size", "outside-mask", "alpha"],
    backend="fill:auto",
    guard="preflight",
    latents=MOVES,
    again=Again("detect-text", _left, _tightened),
)
def erase(
    frame: Frame,
    backend: Any,
    *,
    margin: Annotated[int, Opt("Least context shown to the backend round each hole, pixels.", min=1, max=4096)] = 64,
    seed: Annotated[int, Opt("Seed of the random numbers, for backends that use any.", min=0)] = 0,
    smooth: Annotated[
        tuple[Rect, ...],
        Opt("Fill holes in this rectangle x,y,width,height by harmonic, which invents nothing, whatever the backend."),
    ] = (),
) -> Frame:
    """Fill the mask from the picture itself; every pixel outside the mask is kept bit for bit.

    Works on a crop round each hole, so that cost follows the hole and not the picture. A step that a fill leaves along
    the edge of the hole is spread over the hole. Mask values between 0 and 255 blend. The plane ``hint`` is 0 where
    pixels were invented. An empty mask changes nothing.

    With --until-clean text is looked for in the result, as detect-text did before. What is found where text was to go,
    or goes on along its line, remains, whatever it says; text elsewhere, and text that was there before and was not to
    go, is left alone. Each round fills from the input: first with the strokes that still stand out, then with the whole
    place, and smoothly (--smooth) where the fill itself looks like text. The mask of the last round goes along; each
    round is a step with its proof.
    """
    from imgedit.ops import blend, harmonic, holes

    assert frame.mask is not None
    mask = frame.mask
    found = holes.find(mask, margin)
    if not found:
        return frame.replace(notes={"holes": 0, "result": "nothing to erase"})
    pixels = frame.pixels.copy()
    listed: list[dict[str, Any]] = []
    methods: dict[str, int] = {}
    for hole in found:
        crop = holes.shown(hole, mask, margin, backend.context)
        known, unknown = frame.pixels[crop.slices], mask[crop.slices]
        if any(hole.meets(rect, mask.shape) for rect in smooth):
            fill, method, why = harmonic.harmonic(known, unknown), "harmonic", "asked for in this place"
        else:
            fill, method, why, seamless = backend.fill(known, unknown, seed=seed)
            fill = fill if seamless else blend.blend(known, fill, unknown)
        pixels[hole.slices] = holes.composite(frame.pixels[hole.slices], fill[hole.within(crop)], mask[hole.slices])
        methods[method] = methods.get(method, 0) + 1
        if len(listed) < LISTED:
            listed.append({"where": hole.where, "method": method, "why": why})
    planes = {**frame.planes, "hint": holes.invented(frame.planes.get("hint"), mask)}
    notes = {"holes": len(found), "methods": methods, "listed": tuple(listed)}
    return frame.replace(pixels=pixels, planes=planes, notes=notes)
