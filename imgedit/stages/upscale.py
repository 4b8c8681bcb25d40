"""imgedit upscale: enlarge the picture, and everything that is known of places in it."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any

from imgedit.frame import Finding, Frame, MaskInfo
from imgedit.stage import Expect, Opt, stage

#: colours stay where they are; the activity within a cell falls, since a cell sees less of the picture
MOVES = Expect(mean=2.0, std=1.5)


@stage(backend="upscale:lanczos", grows="scale", latents=MOVES)
def upscale(
    frame: Frame,
    backend: Any,
    *,
    scale: Annotated[float, Opt("Factor for rows and columns.", min=1, max=8)] = 2.0,
    sharpen: Annotated[float, Opt("Added contrast of the finest detail, as a share of it.", min=0, max=1)] = 0.05,
) -> Frame:
    """Enlarge the picture; mask, planes and regions scale along, and no masked pixel vanishes.

    The result has round(rows × scale) × round(columns × scale) pixels. A pixel of the mask is the largest of
    those it covers, one of the hint the smallest; other planes take the nearest. Colours that transparent
    pixels hide do not come through. Scale 1 keeps the frame as it is.
    """
    rows, columns = round(frame.rows * scale), round(frame.columns * scale)
    if (rows, columns) == (frame.rows, frame.columns):
        return frame
    from imgedit.ops.resample import enlarge_plane, join_alpha, split_alpha

    if frame.alpha is None:
        pixels, alpha = backend.upscale(frame.pixels, rows, columns, sharpen=sharpen), None
    else:
        joined = join_alpha(frame.pixels, frame.alpha)
        pixels, alpha = split_alpha(backend.upscale(joined, rows, columns, sharpen=sharpen))
    mask = None if frame.mask is None else enlarge_plane(frame.mask, rows, columns, "max")
    planes = {
        name: enlarge_plane(plane, rows, columns, "min" if name == "hint" else "nearest")
        for name, plane in frame.planes.items()
    }
    larger = frame.replace(pixels=pixels, alpha=alpha, mask=mask, planes=planes)
    return _sidecar(larger, rows / frame.rows, columns / frame.columns)


def _sidecar(frame: Frame, down: float, across: float) -> Frame:
    """Return *frame* with the places in its sidecar scaled by *down* and *across*."""
    sidecar = frame.sidecar
    regions = tuple(
        dataclasses.replace(region, polygon=tuple((x * across, y * down) for x, y in region.polygon))
        for region in sidecar.regions
    )
    findings = tuple(_finding(finding, down, across) for finding in sidecar.findings)
    mask = sidecar.mask
    if mask is not None and mask.grid is not None:
        mask = _grid(mask, down, across)
    return frame.with_sidecar(regions=regions, findings=findings, mask=mask)


def _finding(finding: Finding, down: float, across: float) -> Finding:
    if finding.where is None:
        return finding
    x, y, width, height = finding.where
    left, top = math.floor(x * across), math.floor(y * down)
    right, bottom = math.ceil((x + width) * across), math.ceil((y + height) * down)
    return dataclasses.replace(finding, where=(left, top, right - left, bottom - top))


def _grid(mask: MaskInfo, down: float, across: float) -> MaskInfo:
    """Return *mask* with its grid where cells are still whole: each is then that many cells; or without one."""
    if down == across and down.is_integer():
        return dataclasses.replace(mask, dilation_cells=mask.dilation_cells * int(down))
    return dataclasses.replace(mask, grid=None, dilation_cells=0)
