"""What a stage promised, held against what it did: compared, never asserted."""

from __future__ import annotations

from typing import Any

import numpy as np

from imgedit.errors import BrokenPromise
from imgedit.frame import Frame
from imgedit.stage import Stage

BUG = "this is a bug of imgedit or of a plugin: please report it with the command that you typed"


def check(stage: Stage, before: Frame, after: Frame) -> dict[str, int] | None:
    """Raise BrokenPromise for a promise not kept; return the proof of the outside where it is promised."""

    def broken(what: str) -> BrokenPromise:
        return BrokenPromise(f"{stage.name} promised to keep {what}, and did not", BUG)

    keeps = set(stage.keeps)
    if keeps & {"size", "outside-mask", "pixels"} and before.pixels.shape != after.pixels.shape:
        raise broken(f"the size {before.columns}×{before.rows} (it is {after.columns}×{after.rows})")
    if before.pixels.dtype != after.pixels.dtype:
        raise broken(f"{before.pixels.dtype} (it is {after.pixels.dtype})")
    if before.icc != after.icc:
        raise broken("the colour profile")
    if "pixels" in keeps and not _same(before.pixels, after.pixels):
        raise broken("every pixel")
    if "alpha" in keeps and not _same(before.alpha, after.alpha):
        raise broken("the alpha channel")
    for made in stage.makes:
        if getattr(after if made == "mask" else after.sidecar, made) is None:
            raise BrokenPromise(f"{stage.name} promised to make {made}, and did not", BUG)
    if "outside-mask" not in keeps or before.mask is None:
        return None
    changed, most = outside_difference(before, after)
    if changed:
        raise broken(f"everything outside the mask ({changed} pixels changed, by up to {most})")
    return {"outside_changed": changed, "outside_max": most}


def outside_difference(before: Frame, after: Frame) -> tuple[int, int]:
    """Return how many pixels with mask 0 (all, without a mask) differ in colour or alpha, and by how much at most."""
    changed = most = 0
    if before.pixels is after.pixels and before.alpha is after.alpha:
        return 0, 0
    for top in range(0, before.rows, 256):
        band = slice(top, top + 256)
        pairs = [(before.pixels[band], after.pixels[band])]
        if before.alpha is not None and after.alpha is not None:
            pairs.append((before.alpha[band, :, None], after.alpha[band, :, None]))
        if all(np.array_equal(a, b) for a, b in pairs):
            continue
        distance = np.max([np.abs(a.astype(np.int32) - b).max(axis=2) for a, b in pairs], axis=0)
        if before.mask is not None:
            distance[before.mask[band] > 0] = 0
        changed += int(np.count_nonzero(distance))
        most = max(most, int(distance.max()))
    return changed, most


def _same(a: Any, b: Any) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))
