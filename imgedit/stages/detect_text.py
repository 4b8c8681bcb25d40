"""`imgedit detect-text`: find text and write where it is into the sidecar."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

from imgedit.errors import GateFailed, UsageError
from imgedit.frame import Finding, Frame, Region
from imgedit.stage import Opt, stage

LABEL, LOGO = "text", "logo"
FOUND, LOGO_FOUND = "text-found", "logo-found"
#: the whole picture is searched at this length: text that is high in the picture, or crosses many tiles
WHOLE_SIDE = 1280
#: at most this many finds are spelled out in a message
LISTED = 5


class Seen(NamedTuple):
    """A region as it was found. *sharp*: at full size; *cut*: at a border where its tile may cut it."""

    region: Region
    sharp: bool
    cut: bool


def _pattern(text: str) -> str:
    from imgedit.ops.patterns import compiled

    compiled(text)
    return text


@stage(keeps=["pixels", "size", "alpha"], backend="detect:rapidocr")
def detect_text(
    frame: Frame,
    backend: Any,
    *,
    min_score: Annotated[float, Opt("Keep what is at least this certain, share of 1.", min=0, max=1)] = 0.75,
    match: Annotated[
        str | None,
        Opt("Keep only text in which this regular expression is found, or @date, @price, @url.", check=_pattern),
    ] = None,
    read: Annotated[bool, Opt("Write into the sidecar what the text says; --match does so too.")] = False,
    logo: Annotated[
        Frame | None, Opt("Picture of a logo to find as well, at any size and rotation; transparent ground is no part.")
    ] = None,
    assert_none: Annotated[bool, Opt("Fail (exit 1) if any text, or the --logo, is found: a gate.")] = False,
    tile: Annotated[int, Opt("Size of the tiles that a larger picture is searched in, pixels.", min=256)] = 1024,
    overlap: Annotated[int, Opt("Overlap of the tiles, pixels: more than the height of small text.", min=0)] = 128,
) -> Frame:
    """Find text and write where it is into the sidecar, as scored polygons.

    A picture larger than a tile is searched as a whole, reduced, and in overlapping tiles at full size. What is
    found replaces the text regions that were there before, and with --logo those of logos; other regions, the pixels
    and the mask stay. Large faint text, as of watermarks, is looked for in the picture as a whole.
    """
    if (match is not None or read) and not backend.reads:
        asked = "--read" if match is None else "--match"
        raise UsageError(f"this backend finds text but cannot read it, as {asked} asks", f"drop {asked}, or --backend")
    if overlap >= tile:
        raise UsageError(f"--overlap {overlap} is not smaller than --tile {tile}", f"--overlap {tile // 8}")
    reading = backend.reads and (read or assert_none or match is not None)
    from imgedit.ops import patterns

    found, notes = _search(frame, backend, reading, tile, overlap)
    kept = [r for r in found if r.score is None or r.score >= min_score]
    if match is not None:
        kept = [r for r in kept if patterns.compiled(match).search(r.text or "")]
    replaced = {LABEL}
    if logo is not None:
        replaced.add(LOGO)
        logos = [r for r in _logos(frame, logo, tile, overlap) if r.score is None or r.score >= min_score]
        notes["logos"] = len(logos)
        kept += logos
    notes["found"] = len(kept)
    others = tuple(r for r in frame.sidecar.regions if r.label not in replaced)
    findings = tuple(f for f in frame.sidecar.findings if f.code not in (FOUND, LOGO_FOUND))
    if assert_none and kept:
        findings += tuple(_finding(region) for region in kept)
    result = frame.with_sidecar(regions=others + tuple(kept), findings=findings).replace(notes=notes)
    if assert_none and kept:
        listed = "; ".join(_describe(region) for region in kept[:LISTED])
        more = f"; and {len(kept) - LISTED} more" if len(kept) > LISTED else ""
        what = {1: "text", 2: "text or the logo"}[len(replaced)]
        raise GateFailed(
            f"{what} was found in {len(kept)} {'place' if len(kept) == 1 else 'places'}: {listed}{more}",
            "erase it, raise --min-score, or name what must not be there by --match",
            result,
        )
    return result


def _logos(frame: Frame, logo: Frame, tile: int, overlap: int) -> list[Region]:
    """Return where the logo is: in the whole picture, reduced, and where it is not seen there, in tiles."""
    from imgedit.ops import logo as logos
    from imgedit.ops import logo_search, regions

    wanted = _wanted(logo)
    small = regions.searchable(frame.pixels, WHOLE_SIDE)
    scale = frame.columns / small.shape[1]
    places = [logos.Place(place.polygon * scale, place.score) for place in logo_search.find(small, wanted)]
    if not places and scale > 1:
        for top, left, rows, columns in regions.tiles(frame.rows, frame.columns, tile, max(overlap, tile // 3)):
            part = regions.searchable(frame.pixels[top : top + rows, left : left + columns])
            if not regions.is_flat(part):
                found = logo_search.find(part, wanted, closely=False)
                places += [logos.moved(place, left, top) for place in found]
        places = logos.distinct(places)
    result = []
    for place in places:
        corners = regions.clip(place.polygon, frame.rows, frame.columns)
        if len(corners) > 2:
            result.append(Region(regions.corners(corners), LOGO, None, round(min(place.score, 1.0), 4)))
    return result


@lru_cache(maxsize=4)
def _wanted(logo: Frame) -> Any:
    """Return what to look for; kept, since batches look for the same logo in all pictures."""
    from imgedit.ops import logo as logos

    return logos.logo(logo.pixels, logo.alpha)


def _search(frame: Frame, backend: Any, reading: bool, tile: int, overlap: int) -> tuple[list[Region], dict[str, int]]:
    """Return the regions of the whole picture and its tiles, duplicates merged, and what was searched."""
    from imgedit.ops import regions

    # a little more than a tile is searched at once: two tiles would cost more and see less
    if max(frame.rows, frame.columns) <= max(WHOLE_SIDE, tile):
        return backend.detect(regions.searchable(frame.pixels), read=reading), {"tiles": 1, "flat": 0}
    small = regions.searchable(frame.pixels, WHOLE_SIDE)
    scale = frame.columns / small.shape[1]
    found = [Seen(_moved(r, 0, 0, scale), sharp=False, cut=False) for r in backend.detect(small, read=reading)]
    flat = 0
    parts = regions.tiles(frame.rows, frame.columns, tile, overlap)
    for part in parts:
        shown = regions.searchable(part.of(frame.pixels))
        if regions.is_flat(shown):
            flat += 1
        else:
            found += _in_part(frame, backend, part, shown, reading)
    found += _again(frame, backend, found, reading, tile)
    return _merged(frame, backend, found, reading), {"tiles": len(parts) - flat, "flat": flat}


def _in_part(frame: Frame, backend: Any, part: Any, shown: Any, reading: bool) -> list[Seen]:
    """Return what is found in *part* of the picture, whose pixels are *shown*."""
    found = backend.detect(shown, read=reading, part=True)
    placed = [_moved(one, part.left, part.top, 1.0) for one in found]
    return [Seen(one, sharp=True, cut=_cut(one, part, frame)) for one in placed]


def _again(frame: Frame, backend: Any, found: list[Seen], reading: bool, tile: int) -> list[Seen]:
    """Return what is found round lines that no part shows whole, each in the middle of a part of its own."""
    from imgedit.ops import regions

    result: list[Seen] = []
    looked: list[Any] = []
    for box, members, _ in _groups(found):
        # a line that is longer than a tile would be cut again
        if not all(found[i].cut for i in members) or (box.max(axis=0) - box.min(axis=0)).max() > 0.9 * tile:
            continue
        # a page has many such lines: those that an earlier part shows with room round them are found there
        if not any(part.shows(box, tile // 8) for part in looked):
            looked.append(regions.around(box, tile, frame.rows, frame.columns))
            shown = regions.searchable(looked[-1].of(frame.pixels))
            result += _in_part(frame, backend, looked[-1], shown, reading)
    return result


def _groups(found: list[Seen]) -> Any:
    """Return the regions of *found* with those that mark the same text made one."""
    from imgedit.ops import masks, regions

    every = [seen.region for seen in found]
    return regions.merge([masks.points(r.polygon) for r in every], [r.score or 0.0 for r in every])


def _moved(region: Region, left: int, top: int, scale: float) -> Region:
    """Return a region of a part as a region of the whole picture."""
    return dataclasses.replace(region, polygon=tuple((x * scale + left, y * scale + top) for x, y in region.polygon))


def _cut(region: Region, part: Any, frame: Frame) -> bool:
    """Return whether *region* ends where its tile does and the picture goes on."""
    xs, ys = zip(*region.polygon)
    at = (min(xs) - part.left, min(ys) - part.top, part.left + part.columns - max(xs), part.top + part.rows - max(ys))
    inner = (part.left, part.top, frame.columns - part.left - part.columns, frame.rows - part.top - part.rows)
    return any(gap < 1 and more > 0 for gap, more in zip(at, inner))


def _merged(frame: Frame, backend: Any, found: list[Seen], reading: bool) -> list[Region]:
    """Return the regions with duplicates made one."""
    from imgedit.ops import masks, regions

    every = [seen.region for seen in found]
    result = []
    for box, members, whole in _groups(found):
        polygon, text = box, None
        # full size goes first: its box is tighter, and small letters are misread in the reduced picture
        sharp = next((i for i in whole if found[i].sharp and not found[i].cut), None)
        if sharp is not None:
            text, polygon = every[sharp].text, masks.points(every[sharp].polygon)
        elif reading:
            text = next((every[i].text for i in whole if every[i].text), None)
            text = text or _reread(frame, backend, regions.bounds(box, 16, frame.rows, frame.columns))
        corners = regions.clip(polygon, frame.rows, frame.columns)
        if len(corners) > 2:
            result.append(Region(regions.corners(corners), LABEL, text, every[members[0]].score))
    return result


def _reread(frame: Frame, backend: Any, place: tuple[int, int, int, int]) -> str:
    """Return what stands in *place* (x, y, width, height): a line that was put together from several tiles."""
    from imgedit.ops import regions

    x, y, width, height = place
    part = regions.searchable(frame.pixels[y : y + height, x : x + width])
    return " ".join(r.text for r in backend.detect(part, read=True) if r.text)


def _box(region: Region) -> tuple[int, int, int, int]:
    xs, ys = zip(*region.polygon)
    return (int(min(xs)), int(min(ys)), int(max(xs)) - int(min(xs)), int(max(ys)) - int(min(ys)))


def _describe(region: Region) -> str:
    x, y, width, height = _box(region)
    said = repr(region.text) if region.text else f"the {LOGO}" if region.label == LOGO else LABEL
    score = "" if region.score is None else f" (score {region.score:.2f})"
    return f"{said} at {x},{y} of {width}×{height} pixels{score}"


def _finding(region: Region) -> Finding:
    code = LOGO_FOUND if region.label == LOGO else FOUND
    return Finding(code, "error", _describe(region), "erase it, or raise --min-score", _box(region))
