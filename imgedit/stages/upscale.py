"""imgedit upscale: enlarge the picture, and everything that is known of places in it."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Annotated, Any

from imgedit.errors import DataError
from imgedit.frame import Finding, Frame, MaskInfo
from imgedit.jobs import Resources
from imgedit.stage import Expect, Opt, stage

if TYPE_CHECKING:
    from imgedit.frame import Plane

#: colours stay where they are; the activity within a cell falls, since a cell sees less of the picture
MOVES = Expect(mean=2.0, std=1.5)


@stage(backend="upscale:lanczos", grows="scale", latents=MOVES)
def upscale(
    frame: Frame,
    backend: Any,
    *,
    scale: Annotated[float, Opt("Factor for rows and columns.", min=1, max=8)] = 2.0,
    sharpen: Annotated[float, Opt("Added contrast of the finest detail, as a share of it.", min=0, max=1)] = 0.05,
    hint: Annotated[
        Frame | None, Opt("Picture of the same size: white was photographed, black invented; the default is the plane.")
    ] = None,
    memory_target_gb: Annotated[
        float | None, Opt("Memory that the process may hold, 10⁹ bytes; default: half of what is free.", min=0.05)
    ] = None,
    coarse_tile: Annotated[
        int | None, Opt("Side of the tiles of a network, pixels of the picture; the default is planned.", min=16)
    ] = None,
    refine_tile: Annotated[
        int | None, Opt("The same where a network is applied to its own result once more.", min=16)
    ] = None,
    overlap: Annotated[
        int | None, Opt("Context round each tile, pixels; the default is what the network is seen to need.", min=0)
    ] = None,
    faithful: Annotated[
        float | None,
        Opt("Of the ladder: 1 keeps to what is likely, 0 pleases by stronger detail; default 0.75.", min=0, max=1),
    ] = None,
    calibrate: Annotated[bool, Opt("Of the ladder: measure on this picture what --faithful is to be.")] = False,
    detail: Annotated[
        float | None, Opt("Of the ladder: how strong the network's detail is, instead of by --faithful.", min=0, max=3)
    ] = None,
    texture: Annotated[
        float | None, Opt("Of the ladder: share of the picture's own texture, instead of by --faithful.", min=0, max=2)
    ] = None,
    rounds: Annotated[
        int | None, Opt("Of the ladder: rounds that hold the result to the input; default 2.", min=1, max=8)
    ] = None,
    prompt: Annotated[
        str | None, Opt("What the picture shows, for a diffusion model; without, it has the picture alone.")
    ] = None,
    steps: Annotated[
        int | None, Opt("Steps from noise to picture of a diffusion model; the default is 16.", min=1, max=1000)
    ] = None,
    seed: Annotated[
        int | None, Opt("Seed of the noise of a diffusion model; the default is 0.", min=0, max=10**12)
    ] = None,
) -> Frame:
    """Enlarge the picture; mask, planes and regions scale along, and no masked pixel vanishes.

    The result has round(rows × scale) × round(columns × scale) pixels. A pixel of the mask is the largest of
    those it covers, one of the hint the smallest; other planes take the nearest. Colours that transparent
    pixels hide do not come through into what is seen. Scale 1 keeps the frame as it is.

    Where the plane ``hint`` says that pixels were invented, nothing more is: they are enlarged plainly, and what the
    backend would sharpen or invent is left out there, in proportion to the hint. Everything else stays as without it.

    ``lanczos`` invents nothing, stays within the range of the pixels nearby and at whole scales gives the input when
    reduced again, to a level of 255; at other scales sharp edges allow no more than to come near. It is for flat
    artwork, brand colours, measurements. ``hybrid`` refines it by a small network that ships with the package: for
    photographs, which come out sharper and nearer to the truth, at several times the time. ``ladder`` goes on from
    there by --faithful: detail is made stronger than is likely, and fine texture on even ground is borrowed from the
    picture itself where it was photographed. Of clean photographs it makes most; noise and coarse JPEG it also makes
    stronger, for which ``hybrid`` is the better choice.

    A network of another scale is applied as often as it takes, and its result reduced to the size that is asked for. It
    works in tiles, in as much memory as it may; where that runs out in spite of the plan, tiles are halved.
    With --memory-target-gb a picture may be larger than memory: it lies in temporary files meanwhile (in TMPDIR).

    ``diffusion:MODEL`` runs a model of Stable Diffusion's ×4 kind, as a folder, a file or a Hub id such as
    stabilityai/stable-diffusion-x4-upscaler: it invents detail, another with each --seed.
    """
    rows, columns = round(frame.rows * scale), round(frame.columns * scale)
    if hint is not None:
        frame = frame.replace(planes={**frame.planes, "hint": _hint(hint, frame)})
    if (rows, columns) == (frame.rows, frame.columns):
        return frame
    from imgedit.ops.resample import enlarge_plane, join_alpha, split_alpha

    resources = Resources(memory_target_gb, coarse_tile, refine_tile, overlap)
    source = frame.pixels if frame.alpha is None else join_alpha(frame.pixels, frame.alpha)
    own = {
        **{"prompt": prompt, "steps": steps, "seed": seed},
        **{"faithful": faithful, "calibrate": calibrate or None},
        **{"detail": detail, "texture": texture, "rounds": rounds},
    }
    done = backend.upscale(
        source,
        rows,
        columns,
        sharpen=sharpen,
        hint=frame.planes.get("hint"),
        resources=resources,
        own={name: value for name, value in own.items() if value is not None},
    )
    pixels, alpha = (done.pixels, None) if frame.alpha is None else split_alpha(done.pixels)
    mask = None if frame.mask is None else enlarge_plane(frame.mask, rows, columns, "max")
    planes = {
        name: enlarge_plane(plane, rows, columns, "min" if name == "hint" else "nearest")
        for name, plane in frame.planes.items()
    }
    larger = frame.replace(pixels=pixels, alpha=alpha, mask=mask, planes=planes, notes=dict(done.notes))
    return _sidecar(larger, rows / frame.rows, columns / frame.columns)


def _hint(picture: Frame, frame: Frame) -> Plane:
    """Return a picture read as a hint. Raises DataError where it is of another size than *frame*."""
    from imgedit.ops import masks

    if (picture.rows, picture.columns) != (frame.rows, frame.columns):
        raise DataError(
            f"the hint is {picture.columns}×{picture.rows}, the picture {frame.columns}×{frame.rows}",
            "make the hint for this very picture",
        )
    return masks.of_picture(picture.pixels, picture.alpha)


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
