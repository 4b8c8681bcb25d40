"""`imgedit mask`: say which pixels are to be changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from imgedit.errors import DataError, UsageError
from imgedit.frame import Finding, Frame, MaskInfo
from imgedit.stage import Around, Opt, Polygon, Rect, stage

#: pixels that a mask is grown by, unless told: letters fade into their ground over a pixel, after JPEG over two, and
#: thin outlines beyond that are found again; boxes have a margin
DILATE = {"glyph": 2, "polygon": 0, "box": 0}
#: the label of regions that hold a picture and no strokes
LOGO = "logo"
#: boxes that were not fitted to letters and are listed one by one
LISTED = 20


def _explain(code: str) -> str:
    """Return the documentation of a code of mask, or the list of all for an empty one."""
    from imgedit.ops import fitting

    return fitting.explain(code)


@stage(makes=["mask"], keeps=["pixels", "size", "alpha"], also="strokes:learned", explain=_explain)
def mask(
    frame: Frame,
    around: Around | None = None,
    *,
    rect: Annotated[
        tuple[Rect, ...], Opt("Rectangle x,y,width,height; a negative x or y counts from the right or bottom.")
    ] = (),
    polygon: Annotated[tuple[Polygon, ...], Opt("Corners 'x,y x,y x,y', pixels from the top left corner.")] = (),
    from_: Annotated[Frame | None, Opt("Picture of the same size as a mask: white is changed, black kept.")] = None,
    regions: Annotated[bool, Opt("Take the regions in the sidecar as well, where another source is given.")] = False,
    mode: Annotated[
        Literal["replace", "add", "subtract", "intersect"], Opt("What becomes of a mask that is there already.")
    ] = "replace",
    invert: Annotated[bool, Opt("Change what would be kept, and keep what would be changed.")] = False,
    fit: Annotated[
        Literal["glyph", "polygon", "box"], Opt("Of each region: the strokes of the letters, the region, or its box.")
    ] = "glyph",
    shape: Annotated[
        Literal["text", "watermark"],
        Opt("What is sought: text in its regions, or a semi-transparent overlay over the whole picture."),
    ] = "text",
    threshold: Annotated[int, Opt("Least value of a --from picture that counts as white.", min=1, max=255)] = 128,
    min_area: Annotated[int, Opt("Drop pieces of fewer pixels.", min=0)] = 0,
    fill_holes: Annotated[bool, Opt("Also change what the mask encloses.")] = False,
    close: Annotated[int, Opt("Close gaps of up to twice this, pixels.", min=0, max=1000)] = 0,
    dilate: Annotated[
        int | None, Opt("Grow by this, pixels; default 2 where letters are fitted, else 0.", min=0, max=1000)
    ] = None,
    grid: Annotated[
        int | None, Opt("Whole cells of this size, pixels: 8 for most latent models.", min=1, max=256)
    ] = None,
    dilate_cells: Annotated[int, Opt("With --grid: grow by this, cells.", min=0, max=64)] = 0,
    feather: Annotated[float, Opt("Let the mask fade out over this, pixels outside it.", min=0, max=1000)] = 0.0,
) -> Frame:
    """Say which pixels are to be changed: a mask from regions, shapes or a picture.

    The source is --rect, --polygon and --from; without them the regions in the sidecar, without those the mask that
    is there already, and without that the mask is empty. Then, in this order: fit, threshold, specks (--min-area),
    --fill-holes, --close, --dilate, --mode, --invert, --grid, --feather. With --grid a cell is changed if any of
    its pixels is, so that no stroke is lost; the mask then is made of whole cells.

    The strokes of letters are found by a small network that ships with the package; where it is not sure, by what
    colours and edges tell; and where these are not sure either, the region is taken, and a warning says so, as of
    large letters that are hard to see. --explain CODE says more about a warning.

    Regions of logos are never fitted: they are taken as they are. With --shape watermark, the strokes of one white or
    black overlay are followed over the whole picture, and added to what is found in the regions if there are any, as
    are further copies of their text; where nothing convinces, the regions are taken as without it, and a warning says
    why.
    """
    from imgedit.ops import masks

    if dilate_cells and not grid:
        raise UsageError("--dilate-cells counts cells, and no --grid says how large they are", "--grid 8")
    drawn, notes, default = _source(frame, around, rect, polygon, from_, regions, fit, shape, threshold)
    drawn = masks.remove_specks(drawn, min_area)
    if fill_holes:
        drawn = masks.fill_holes(drawn)
    drawn = masks.close(drawn, close)
    grown = default if dilate is None else dilate
    drawn = masks.dilate(drawn, grown)
    if frame.mask is not None and notes["source"] != "mask":
        drawn = masks.combine(frame.mask, drawn, mode)
    elif mode in ("subtract", "intersect") and frame.mask is None:
        # taken from nothing, nothing is left
        drawn = masks.empty(frame.rows, frame.columns)
    if invert:
        drawn = masks.invert(drawn)
    if grid:
        drawn = masks.to_grid(drawn, grid, dilate_cells)
    drawn = masks.feather(drawn, feather)
    # digest and coverage are those of the mask that is kept: the engine fills them in
    info = MaskInfo(digest="", coverage=0.0, grid=grid, dilation_cells=dilate_cells)
    said = _said(frame, notes)
    return frame.replace(mask=drawn, notes={**notes, "dilated": grown}).with_sidecar(mask=info, findings=said)


def _said(frame: Frame, notes: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Return the findings of *frame* with what the *notes* say of this mask in place of what was said of the last."""
    from imgedit.ops import fitting

    found = []
    if notes.get("polygons"):
        first = notes["unsure"][0]
        found.append(fitting.noticed("IM301", count=notes["polygons"], of=notes["regions"], why=first["why"]))
    if hard := notes.get("hard"):
        found.append(fitting.noticed("IM302", count=hard["regions"], of=notes["regions"], height=hard["height"]))
    if not notes.get("watermark", {}).get("found", True):
        found.append(fitting.noticed("IM303", why=notes["watermark"]["why"]))
    others = (finding for finding in frame.sidecar.findings if finding.code not in fitting.CODES)
    return (*others, *(Finding(*each) for each in found))


def _source(
    frame: Frame,
    around: Around | None,
    rects: tuple[Rect, ...],
    polygons: tuple[Polygon, ...],
    picture: Frame | None,
    regions: bool,
    fit: str,
    shape: str,
    threshold: int,
) -> tuple[Any, dict[str, Any], int]:
    """Return the mask as drawn, the notes, and the pixels that it is grown by unless told."""
    from imgedit.ops import masks, watermark

    given = bool(rects or polygons or picture is not None)
    sought = shape == "watermark"
    if not given and not frame.sidecar.regions and frame.mask is not None and not sought:
        return frame.mask, {"source": "mask"}, 0
    drawn = masks.empty(frame.rows, frame.columns)
    size = f"the picture is {frame.columns}×{frame.rows}"
    for x, y, width, height in rects:
        if not masks.draw_rect(drawn, (x, y, width, height)):
            raise UsageError(f"--rect {x},{y},{width},{height} lies outside: {size}", "give a place in the picture")
    for corners in polygons:
        if not masks.draw(drawn, masks.points(corners)):
            listed = " ".join(f"{x:g},{y:g}" for x, y in corners)
            raise UsageError(f"--polygon {listed} covers no pixel: {size}", "give a place in the picture")
    if picture is not None:
        if (picture.rows, picture.columns) != (frame.rows, frame.columns):
            raise DataError(
                f"the --from picture is {picture.columns}×{picture.rows}, {size}",
                "make the mask for this very picture, or scale it first",
            )
        drawn |= masks.threshold(masks.of_picture(picture.pixels, picture.alpha), threshold)
    if given and not regions and not sought:
        return drawn, {"source": "given"}, 0
    notes: dict[str, Any] = {
        "source": "given and regions" if given else "regions",
        "regions": len(frame.sidecar.regions),
        "fit": fit,
    }
    if sought:
        texts = _texts(frame)
        veil, notes["watermark"] = _watermark(frame, texts)
        if veil is not None:
            fitted, found = _fitted(frame, around, fit, veil.mask)
            again, notes["watermark"]["copies"] = watermark.copies(frame.pixels, fitted, texts, veil.overlay)
            return drawn | veil.elsewhere | fitted | again, {**notes, "fit": "watermark", **found}, DILATE["glyph"]
    fitted, found = _fitted(frame, around, fit)
    return drawn | fitted, {**notes, **found}, DILATE[fit]


def _watermark(frame: Frame, texts: Sequence[Any]) -> tuple[Any, dict[str, Any]]:
    """Return an overlay over the whole picture, None where there is none, and what is known of it.

    *texts*: corners of the places that are known to have some of it.
    """
    from imgedit.ops import watermark

    veil = watermark.find(frame.pixels, texts)
    if veil.overlay is None:
        return None, {"found": False, "why": veil.why}
    colour = [round(level * frame.full_scale / 255) for level in veil.overlay.colour]
    return veil, {"found": True, "colour": colour, "opacity": round(veil.overlay.opacity, 3)}


def _texts(frame: Frame) -> list[Any]:
    """Return the regions of text as arrays of corners."""
    from imgedit.ops import masks

    polygons = [masks.points(region.polygon) for region in frame.sidecar.regions if region.label != LOGO]
    return [corners for corners in polygons if len(corners) > 2]


def _fitted(frame: Frame, around: Around | None, fit: str, known: Any = None) -> tuple[Any, dict[str, Any]]:
    """Return the mask of the regions in the sidecar, which of them letters could not be found in, and by which network.

    Without *around*, or where its network is not sure, strokes are those of *known*, if it has any there, else told by
    colours and edges alone.
    """
    from imgedit.ops import glyph, masks

    drawn = masks.empty(frame.rows, frame.columns)
    finder = _Finder(around) if around else None
    unsure, hard, logos = [], [], 0
    for region in frame.sidecar.regions:
        corners = masks.points(region.polygon)
        if len(corners) < 3:
            continue  # a point or a line has no inside
        if fit == "box":
            masks.draw(drawn, masks.box(corners))
        elif fit == "polygon" or region.label == LOGO:
            masks.draw_covering(drawn, corners)
            logos += region.label == LOGO
        else:
            fitted = glyph.fit(frame.pixels, corners, finder, known)
            glyph.put(drawn, corners, fitted)
            if fitted.why:
                unsure.append({"where": [round(number) for number in corners.min(axis=0)], "why": fitted.why})
            elif fitted.hard:
                hard.append(fitted.hard)
    notes: dict[str, Any] = {"polygons": len(unsure), "unsure": unsure[:LISTED]} if unsure else {}
    if logos:
        notes["logos"] = logos
    if hard:
        notes["hard"] = {"regions": len(hard), "height": round(max(hard))}
    if finder and finder.backend:
        notes["model"] = finder.backend.fingerprint
    return drawn, notes


class _Finder:
    """The further backend as a function; it is opened where letters are fitted that nothing else tells surely."""

    def __init__(self, around: Around) -> None:
        self.around = around
        self.backend: Any = None

    def __call__(self, crop: Any, polygon: Any) -> Any:
        self.backend = self.backend or self.around.other()
        return self.backend.likely(crop, polygon)
