"""What the sidecar says of the pixels and the mask that a frame holds: measured, not carried along."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from imgedit import registry
from imgedit.errors import OutOfMemory, starting_threads
from imgedit.frame import Frame, ImageInfo, LatentStats, MaskInfo, ToneStats, plane_coverage, plane_digest

#: the encoder that needs no weights, for the statistics of every step
ENCODER = "pool8"
_HINT = "give a smaller picture, or free some memory"


def described(frame: Frame, *, since: Frame | None = None, measure: bool = True, outside_kept: bool = False) -> Frame:
    """Return *frame* with a sidecar that states digest, mask, latents and tone of what it now holds.

    *since*: the frame before a step; what has not changed since then is not measured again. With *outside_kept* no
    pixel outside the mask has, which is where tone is measured. Latents and tone take the most time: without *measure*
    they are left as they are.
    """
    old = frame.sidecar.image
    image = ImageInfo(
        frame.digest,
        frame.rows,
        frame.columns,
        str(frame.pixels.dtype),
        mode=old.mode if old else "RGB" if frame.alpha is None else "RGBA",
        source=old.source if old else None,
    )
    mask = None
    if frame.mask is not None:
        if since is not None and since.mask is frame.mask and frame.sidecar.mask == since.sidecar.mask:
            mask = since.sidecar.mask
        else:
            mask = replace(
                frame.sidecar.mask or MaskInfo("", 0.0),
                digest=plane_digest(frame.mask),
                coverage=plane_coverage(frame.mask),
            )
    if not measure:
        return frame.with_sidecar(image=image, mask=mask)
    try:
        latents, tone = _measured(frame, since, outside_kept)
    except MemoryError as error:
        raise OutOfMemory("not enough memory to measure the picture", _HINT) from error
    return frame.with_sidecar(image=image, mask=mask, latents=latents, tone=tone)


def _measured(frame: Frame, since: Frame | None, outside_kept: bool) -> tuple[LatentStats | None, ToneStats | None]:
    """Return latents and tone of *frame*; what has not changed *since* is not measured again."""
    latents, tone = frame.sidecar.latents, frame.sidecar.tone
    moved = since is not None and since.pixels is not frame.pixels
    with starting_threads(), ThreadPoolExecutor(1) as beside:
        measuring = None
        if latents is None or moved:
            measuring = beside.submit(registry.backend("latents", ENCODER).encode, frame.pixels)
        remasked = since is not None and since.mask is not frame.mask
        # a mask that covers everything leaves no outside: then all pixels count
        within = outside_kept and frame.mask is not None and not frame.mask.all()
        if tone is None or remasked or (moved and not within):
            tone = measured_tone(frame)
        if measuring is not None:
            latents = measuring.result()
    return latents, tone


def measured_tone(frame: Frame) -> ToneStats:
    """Return the tone of the frame's pixels outside its mask."""
    from imgedit.ops import tone

    return ToneStats(**tone.measure(frame.pixels, frame.mask), masked=frame.mask is not None)
