"""Whether a sidecar is believed: only while it describes these very pixels."""

from __future__ import annotations

import dataclasses
import logging
import re
from typing import TYPE_CHECKING

import numpy as np

from imgedit.errors import DataError
from imgedit.frame import ImageInfo, MaskInfo, Sidecar, Step, plane_digest

if TYPE_CHECKING:
    from imgedit.frame import Frame, Plane

log = logging.getLogger("imgedit")

_DEEPEST = 48
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def parse_sidecar(text: bytes, where: str, hint: str) -> Sidecar:
    """Read a sidecar from untrusted *text*; DataError that says *where* and what to do for anything amiss.

    What is accepted here can be written again: no lone surrogates, no infinities, no nesting beyond 48.
    """
    try:
        decoded = text.decode("utf-8")
        depth = deepest = 0
        for bracket in re.findall(r"[\[\]{}]", _STRING.sub("", decoded)):
            depth += 1 if bracket in "[{" else -1
            deepest = max(deepest, depth)
        if deepest > _DEEPEST:
            raise DataError(f"the sidecar is nested more than {_DEEPEST} deep", hint)
        sidecar = Sidecar.from_json(decoded)
        sidecar.to_json().encode("utf-8")
    except DataError as error:
        raise DataError(f"{where}: {error.message}", hint) from None
    except (ValueError, TypeError, RecursionError):
        raise DataError(f"{where}: the sidecar is not valid JSON in UTF-8", hint) from None
    if sidecar.image is None:
        raise DataError(f"{where}: the sidecar does not say which picture it is about", hint)
    return sidecar


def describe(frame: Frame, mode: str, source: str | None) -> ImageInfo:
    """Return what the picture is."""
    return ImageInfo(frame.digest, frame.rows, frame.columns, str(frame.pixels.dtype), mode, source)


def describe_mask(mask: Plane) -> MaskInfo:
    """Return what is known of a mask that came without a word."""
    return MaskInfo(plane_digest(mask), coverage=np.count_nonzero(mask) / mask.size)


def settle(frame: Frame, sidecars: list[Sidecar], mode: str, source: str | None, name: str) -> Frame:
    """Return *frame* with the first of *sidecars* that describes its pixels.

    When none does, the first one keeps its history and gains a step ``external``; what it says of the
    pixels is dropped with a warning. Without any, the frame gets a fresh one.
    """
    if not sidecars:
        mask = None if frame.mask is None else describe_mask(frame.mask)
        return frame.with_sidecar(image=describe(frame, mode, source), mask=mask)
    for sidecar in sidecars:
        image = sidecar.image
        if image is not None and image.digest == frame.digest:
            if image != describe(frame, image.mode, image.source):
                raise DataError(f"{name}: the sidecar contradicts itself on the size of the picture", "delete it")
            return _settle_mask(frame.replace(sidecar=sidecar), name)
    return _settle_mask(_external(frame, sidecars[0], mode, source, name), name)


def _external(frame: Frame, sidecar: Sidecar, mode: str, source: str | None, name: str) -> Frame:
    log.warning("%s: changed by another program since its sidecar was written; what that says is dropped", name)
    was = sidecar.image
    image = describe(frame, mode, was.source if was and was.source else source)
    step = Step(stage="external", params={}, source=was.digest if was else "", result=frame.digest)
    kept = Sidecar(image=image, mask=sidecar.mask, steps=(*sidecar.steps, step))
    return frame.replace(sidecar=kept)


def _settle_mask(frame: Frame, name: str) -> Frame:
    """Let the sidecar speak of the mask that is there."""
    info, mask = frame.sidecar.mask, frame.mask
    if info is None:
        return frame
    if mask is None:
        log.warning("%s: the mask that its sidecar describes did not come with it", name)
        return frame.with_sidecar(mask=None)
    found = describe_mask(mask)
    if found.digest == info.digest:
        return frame
    log.warning("%s: the mask was changed since its sidecar was written; it is used as it is now", name)
    return frame.with_sidecar(mask=dataclasses.replace(found, convention=info.convention))
