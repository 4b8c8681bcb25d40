"""Stands round every backend: converts bit depth, checks what comes back. Backends see only what they know."""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from imgedit import spill
from imgedit.backends import hint as hints
from imgedit.backends.protocols import Filled
from imgedit.errors import BrokenPromise, UsageError
from imgedit.jobs import Crop, Enlarged, Resources, Sampling, Synthesized
from imgedit.ops.depth import to8, to16
from imgedit.ops.seams import SEEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from imgedit.frame import LatentStats, Pixels, Plane, Region
    from imgedit.ops.regions import Points
    from imgedit.ops.strokes import Floats

log = logging.getLogger("imgedit")

_HINT = "this is a bug of the backend: choose another with --backend, and report it"


def adapt(kind: str, backend: object) -> Any:
    """Return *backend* behind the checks of its *kind*, with the same method; all else is passed through.

    A kind without checks of its own is returned as it is.
    """
    around = _KINDS.get(kind)
    return around(backend) if around else backend


class _Adapted:
    """Passes every attribute through: flags, fingerprint, further methods."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._name = type(backend).__name__.lower()

    def __getattr__(self, name: str) -> Any:
        if name == "_backend":  # not yet set: a copy or an unpickled object asks before __init__
            raise AttributeError(name)
        return getattr(self._backend, name)

    def _broken(self, what: str) -> BrokenPromise:
        return BrokenPromise(f"the backend {self._name!r} {what}", _HINT)

    def _same_kind(self, result: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        if not isinstance(result, np.ndarray):
            raise self._broken(f"returned {type(result).__name__}, not an array")
        if result.shape != shape or result.dtype != dtype:
            raise self._broken(f"returned {result.dtype} {result.shape}, not {dtype} {shape}")

    def _known_depth(self, pixels: Pixels) -> Pixels:
        """Return *pixels* in a bit depth that the backend computes in."""
        depths = self._backend.bit_depths
        if pixels.dtype.itemsize * 8 in depths:
            return pixels
        return to8(pixels) if 8 in depths else to16(pixels)


class _Filler(_Adapted):
    def context(self, mask: Plane) -> int:
        """Return how many pixels round the hole the backend has a use for, 0 where it does not say."""
        asked = getattr(self._backend, "context", None)
        return int(asked(mask)) if asked else 0

    def fill(self, pixels: Pixels, mask: Plane, *, seed: int) -> Filled:
        """Fill as the backend does; where it knows only the other bit depth, known pixels stay exact all the same.

        Raises BrokenPromise for a result of another shape or dtype, or with known pixels changed.
        """
        given = self._known_depth(pixels)
        filled = self._backend.fill(given, mask, seed=seed)
        if not isinstance(filled, Filled):
            raise self._broken(f"returned {type(filled).__name__}, not Filled")
        self._same_kind(filled.pixels, given.shape, given.dtype)
        known = mask == 0
        if not np.array_equal(filled.pixels[known], given[known]):
            raise self._broken("changed pixels outside the hole")
        if given is pixels:
            return filled
        back = to16(filled.pixels) if pixels.dtype == np.uint16 else to8(filled.pixels)
        back[known] = pixels[known]
        return filled._replace(pixels=back)


class _Upscaler(_Adapted):
    def upscale(
        self,
        pixels: Pixels,
        rows: int,
        columns: int,
        *,
        sharpen: float = 0.0,
        hint: Plane | None = None,
        resources: Resources = Resources(),  # noqa: B008 - frozen
        own: Mapping[str, Any] = MappingProxyType({}),
    ) -> Enlarged:
        """Upscale as the backend does; where *hint* (0 invented, 255 photographed) is below 255, less boldly.

        There what the backend sharpens or invents gives way to :func:`imgedit.backends.hint.plain`. *resources* are for
        backends that have the flag ``tiled``; they change what is taken, not what is made. *own*: options that not
        every backend has, by name. Raises UsageError where this one lacks one of them, BrokenPromise for a result of
        another size or dtype than asked for. Warns where the seam score of tiles says that they can be seen.
        """
        self.check(own)
        tiled = getattr(self._backend, "tiled", False)
        options = {**own, "resources": resources} if tiled else dict(own)
        if getattr(self._backend, "hinted", False):
            options["hint"] = hint
        result = self._backend.upscale(pixels, rows, columns, sharpen=sharpen, **options)
        enlarged, notes = result if isinstance(result, Enlarged) else (result, {})
        self._same_kind(enlarged, (rows, columns, *pixels.shape[2:]), pixels.dtype)
        if notes.get("seam", 1.0) > SEEN:
            log.warning(
                "tiles may be seen: their lines score %g, above %g; give a larger --coarse-tile or --overlap",
                notes["seam"],
                SEEN,
            )
        bold = getattr(self._backend, "invents", True) or sharpen > 0
        if hint is not None and bold and any((part < 255).any() for part in spill.parts(hint)):
            enlarged = enlarged if enlarged.flags.writeable else enlarged.copy()
            # within a memory target one tile at a time: the plan knows of no more
            threads = None if resources.memory_target_gb is None else 1
            notes = {**notes, "hinted": hints.obey(enlarged, pixels, hint, threads=threads)}
        return Enlarged(enlarged, notes)

    def check(self, own: Mapping[str, Any]) -> None:
        """Raise UsageError where *own* holds an option that the backend does not have."""
        known = getattr(self._backend, "own", ())
        for name in own:
            if name not in known:
                has = ", ".join(f"--{option}" for option in known)
                raise UsageError(
                    f"the upscale backend {self._name!r} has no option --{name.replace('_', '-')}",
                    f"leave it out, or choose another --backend; of its own this one has {has or 'none'}",
                )

    def profile(
        self, sizes: Sequence[int], tiles: Sequence[int | None], scale: float, target: float | None
    ) -> Iterator[dict[str, Any]]:
        """Yield what :func:`imgedit.backends.profile.enlarging` does of this backend."""
        from imgedit.backends import profile

        return profile.enlarging(self, sizes, tiles, scale, target)


class _Detector(_Adapted):
    def detect(self, pixels: Pixels, *, read: bool, part: bool = False) -> list[Region]:
        """Detect in 8 bit; corners beyond the picture are moved to its edge, and what then has no area is left out.

        A detector sees text run out of the picture, and says where it would go on: that is no fault of it.
        Raises BrokenPromise for anything that is not a list of regions with scores from 0 to 1.
        """
        rows, columns = pixels.shape[:2]
        regions = self._backend.detect(to8(pixels), read=read, part=part)
        if not isinstance(regions, list) or not all(hasattr(region, "polygon") for region in regions):
            raise self._broken("did not return a list of regions")
        return [kept for region in regions if (kept := self._inside(region, rows, columns)) is not None]

    def _inside(self, region: Region, rows: int, columns: int) -> Region | None:
        corners = np.asarray(region.polygon, np.float64)
        if corners.ndim != 2 or corners.shape[1] != 2 or not np.isfinite(corners).all():
            raise self._broken(f"returned a polygon {region.polygon!r:.60}")
        if region.score is not None and not 0 <= region.score <= 1:
            raise self._broken(f"returned a score of {region.score!r}")
        inside = np.clip(corners, 0, (columns, rows))
        if np.array_equal(inside, corners):
            return region
        if (inside.max(axis=0) - inside.min(axis=0)).min() <= 0:
            return None
        polygon = tuple((float(x), float(y)) for x, y in inside)
        return type(region)(polygon, region.label, region.text, region.score)


class _StrokeFinder(_Adapted):
    def likely(self, crop: Plane, polygon: Points) -> Floats:
        """Find as the backend does. Raises BrokenPromise for a result of another size or not within 0…1."""
        found: Floats = self._backend.likely(crop, polygon)
        self._same_kind(found, crop.shape[:2], np.dtype(np.float32))
        # not a number is in no range
        if found.size and not (found.min() >= 0 and found.max() <= 1):
            raise self._broken("returned what is no share of 0…1")
        return found


class _Encoder(_Adapted):
    def encode(self, pixels: Pixels) -> LatentStats:
        """Encode as the backend does. Raises BrokenPromise for statistics that do not fit the channels."""
        stats: LatentStats = self._backend.encode(pixels)
        for values in (stats.mean, stats.std):
            if len(values) != stats.shape[0] or not np.isfinite(values).all():
                raise self._broken(f"returned latent statistics {values!r:.60} for {stats.shape[0]} channels")
        return stats


class _Synthesizer(_Adapted):
    def synthesize(self, sampling: Sampling, crops: Sequence[Crop]) -> list[Synthesized]:
        """Synthesize as the backend does. Raises BrokenPromise for another number, size or kind of results, or NaN."""
        results = self._backend.synthesize(sampling, crops)
        if not isinstance(results, list) or len(results) != len(crops):
            raise self._broken(f"did not return a list of {len(crops)} results")
        for crop, result in zip(crops, results):
            self._same_kind(result.pixels, crop.pixels.shape, np.dtype(np.float32))
            if not np.isfinite(result.pixels).all():
                raise self._broken("returned values that are no numbers")
        return results


_KINDS: dict[str, type[_Adapted]] = {
    "fill": _Filler,
    "strokes": _StrokeFinder,
    "upscale": _Upscaler,
    "detect": _Detector,
    "latents": _Encoder,
    "diffusion": _Synthesizer,
}
