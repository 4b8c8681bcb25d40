"""Whether a sidecar is believed: only while it describes these very pixels."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from imgedit.codec.samples import MODES
from imgedit.errors import DataError
from imgedit.frame import MASK_CONVENTION, ImageInfo, MaskInfo, Sidecar, Step, plane_coverage, plane_digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imgedit.frame import Frame, Plane

log = logging.getLogger("imgedit")

_DEEPEST = 48


def parse_sidecar(text: bytes, where: str, hint: str) -> Sidecar:
    """Read a sidecar from untrusted *text*; DataError that says *where* and what to do for anything amiss.

    What is accepted here can be written again: no lone surrogates, no infinities, no nesting beyond 48.
    """
    try:
        sidecar = Sidecar.from_json(text.decode("utf-8"))
        _check(sidecar, hint)
        sidecar.to_json().encode("utf-8")
    except DataError as error:
        raise DataError(f"{where}: {error.message}", hint) from None
    except (ValueError, TypeError, RecursionError):
        raise DataError(f"{where}: the sidecar is not valid JSON in UTF-8", hint) from None
    return sidecar


def _check(sidecar: Sidecar, hint: str) -> None:
    image, mask = sidecar.image, sidecar.mask
    if _nested(sidecar):
        raise DataError(f"the sidecar is nested more than {_DEEPEST} deep", hint)
    if image is None:
        raise DataError("the sidecar does not say which picture it is about", hint)
    if image.mode not in MODES:
        raise DataError(f"the sidecar names a mode that no picture has: {image.mode!r:.40}", hint)
    if mask is not None and mask.convention != MASK_CONVENTION:
        raise DataError(f"the sidecar is about a mask of {mask.convention!r:.40}, not {MASK_CONVENTION!r}", hint)


def _nested(sidecar: Sidecar) -> bool:
    """Tell whether objects and lists lie in each other more than 48 deep. Each is looked at once."""
    level: list[Any] = [sidecar]
    for _ in range(_DEEPEST):
        items = (item for each in level for item in _items(each))
        level = [item for item in items if isinstance(item, tuple | Mapping) or dataclasses.is_dataclass(item)]
        if not level:
            return False
    return True


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, tuple):
        return value
    return value.values() if isinstance(value, Mapping) else (getattr(value, f.name) for f in dataclasses.fields(value))


def image_info(frame: Frame, mode: str, source: str | None) -> ImageInfo:
    """Return what the picture is."""
    return ImageInfo(frame.digest, frame.rows, frame.columns, str(frame.pixels.dtype), mode, source)


def mask_info(mask: Plane | None) -> MaskInfo | None:
    """Return what can be seen of a mask."""
    return None if mask is None else MaskInfo(plane_digest(mask), plane_coverage(mask))


def fresh(frame: Frame, mode: str, source: str | None) -> Frame:
    """Return *frame*, of which nothing was recorded, with a sidecar that says what picture and mask it is about."""
    mask = frame.sidecar.mask or mask_info(frame.mask)
    return frame.with_sidecar(image=image_info(frame, mode, source), mask=mask)


def settle(frame: Frame, sidecars: list[Sidecar], mode: str, source: str | None, name: str) -> Frame:
    """Return *frame* with the first of *sidecars* that describes its pixels.

    When none does, the first one keeps its history and gains a step ``external``; what it says of the
    pixels is dropped with a warning. Without any, the frame gets a fresh one.
    """
    if not sidecars:
        return fresh(frame, mode, source)
    for sidecar in sidecars:
        image = sidecar.image
        if image is not None and image.digest == frame.digest:
            if image != image_info(frame, image.mode, image.source):
                raise DataError(f"{name}: the sidecar contradicts itself on the size of the picture", "delete it")
            return _settle_mask(frame.replace(sidecar=sidecar), name)
    return _settle_mask(_external(frame, sidecars[0], mode, source, name), name)


def _external(frame: Frame, sidecar: Sidecar, mode: str, source: str | None, name: str) -> Frame:
    kept = "; the mask is kept" if frame.mask is not None else ""
    log.warning("%s: changed by another program since its sidecar was written; what that says is dropped%s", name, kept)
    was = sidecar.image
    image = image_info(frame, mode, was.source if was and was.source else source)
    step = Step(stage="external", params={}, source=was.digest if was else "", result=frame.digest)
    return frame.replace(sidecar=Sidecar(image=image, mask=sidecar.mask, steps=(*sidecar.steps, step)))


def _settle_mask(frame: Frame, name: str) -> Frame:
    """Let the sidecar speak of the mask that is there; the tone, measured outside another one, is dropped."""
    recorded, found = frame.sidecar.mask, mask_info(frame.mask)
    if recorded is None and found is None:
        return frame
    if recorded is None:
        log.warning("%s: its sidecar knows of no mask; the one that came with it is used", name)
    elif found is None:
        log.warning("%s: the mask that its sidecar describes did not come with it", name)
    elif found.digest == recorded.digest:
        return frame
    else:
        log.warning("%s: the mask was changed since its sidecar was written; it is used as it is now", name)
    return frame.with_sidecar(mask=found, tone=None)
