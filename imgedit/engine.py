"""The only caller of stages: checks what they need, calls them, checks what they promised, records the step."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from imgedit import __version__, codec, registry
from imgedit.errors import BrokenPromise, DataError, GateFailed, OutOfMemory, UsageError, nearest
from imgedit.frame import Frame, ImageInfo, LatentStats, MaskInfo, Step, ToneStats, frozen, plane_digest
from imgedit.stage import Expect, Stage

log = logging.getLogger("imgedit")

ENCODER = "pool8"
_NEEDED = {
    "mask": ("a mask", "make one first: imgedit mask --rect X,Y,WIDTH,HEIGHT"),
    "regions": ("regions", "find some first: imgedit detect-text"),
    "tone": ("a recorded tone", "give --reference FILE"),
}


@dataclass(frozen=True, slots=True)
class Call:
    """A stage with its checked parameters; *id* names it in ``@before-ID`` and ``@after-ID``."""

    stage: Stage
    params: Mapping[str, Any]
    id: str


def call(name: str, **params: Any) -> Call:
    """Return a checked call of the stage *name*. Raises UsageError for a wrong name, option or value."""
    found = registry.stage(name)
    return Call(found, found.check(params), found.name)


@dataclass(slots=True)
class Engine:
    """Runs calls on frames. *folder*: where relative reference files are looked up.

    *strict*: latents that move further than a stage declares are an error (GateFailed), not a warning.
    *measure*: record latents and tone; without, for those who throw the sidecar away, they are left out.
    """

    calls: Sequence[Call]
    limits: codec.Limits = field(default_factory=codec.Limits)
    folder: Path = Path()
    strict: bool = False
    measure: bool = True

    def prepare(self) -> None:
        """Refuse early what cannot work for any frame: unknown or missing backends."""
        for item in self.calls:
            if item.stage.backend:
                registry.backend(item.stage.backend[0], item.params["backend"])

    def prefetch(self) -> None:
        """Begin to read the reference file of the first call that has one, beside whatever comes before it."""
        for item in self.calls:
            for param in item.stage.params.values():
                value = item.params[param.name]
                if param.kind in ("picture", "tone") and isinstance(value, str) and not value.startswith("@"):
                    self._file(value)
                    return

    def _file(self, given: str) -> Future[Frame]:
        return _reading(self.folder / given, self.limits)

    def run(self, frame: Frame) -> Frame:
        """Return *frame* after all calls. Errors are ImgeditError; nothing is written or kept."""
        kept = self._names()
        named: dict[str, Frame] = {}
        tones: dict[str, ToneStats] = {}
        frame = described(frame, measure=self.measure)

        def remember(name: str) -> None:
            if name in kept:
                named[name] = frame
            if frame.sidecar.tone:
                tones[name] = frame.sidecar.tone

        remember("input")
        for item in self.calls:
            remember(f"before-{item.id}")
            frame = self._apply(item, frame, named, tones)
            remember(f"after-{item.id}")
        return frame

    def stream(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Pull frames one by one, so that memory does not grow with their number."""
        return map(self.run, frames)

    def _names(self) -> set[str]:
        """Return the @names whose pixels some call wants; only these frames are held."""
        values = (item.params[p.name] for item in self.calls for p in item.stage.params.values() if p.kind == "picture")
        return {value[1:] for value in values if isinstance(value, str) and value.startswith("@")}

    def _apply(self, item: Call, frame: Frame, named: Mapping[str, Frame], tones: Mapping[str, ToneStats]) -> Frame:
        stage = item.stage
        for need in stage.needs:
            held = frame.mask if need == "mask" else getattr(frame.sidecar, need)
            if held is None or (need == "regions" and not held):
                what, hint = _NEEDED[need]
                raise DataError(f"{stage.name} needs {what}, and this picture has none", hint)
        params = dict(item.params)
        for param in stage.params.values():
            if isinstance(params[param.name], str) and param.kind in ("picture", "tone"):
                given = params[param.name]
                params[param.name] = (
                    self._picture(given, named) if param.kind == "picture" else self._tone(given, frame, tones)
                )
        arguments = dict(params)
        backend = None
        positional: list[Any] = [frame]
        if stage.backend:
            backend = registry.backend(stage.backend[0], arguments.pop("backend"))
            positional.append(backend)
        start = time.perf_counter()
        try:
            if stage.guard:
                positional[0] = _guarded(stage.guard, frame, force=arguments.pop("force"))
            result = stage.function(*positional, **arguments)
        except GateFailed as verdict:
            if verdict.frame is not None:
                seconds = time.perf_counter() - start
                verdict.frame = self._finish(item, params, frame, verdict.frame, backend, seconds)
            raise
        except MemoryError as error:
            raise OutOfMemory(
                f"{stage.name} ran out of memory", "give a smaller picture, or free some memory"
            ) from error
        return self._finish(item, params, frame, result, backend, time.perf_counter() - start)

    def _finish(
        self, item: Call, params: dict[str, Any], before: Frame, after: Frame, backend: Any, seconds: float
    ) -> Frame:
        """Check the promises and return *after* with the step appended."""
        stage = item.stage
        if not isinstance(after, Frame):
            raise BrokenPromise(f"{stage.name} returned {type(after).__name__}, not a frame", _BUG)
        outside = _check(stage, before, after)
        notes = after.notes
        after = described(after.replace(notes={}), since=before, measure=self.measure)
        step = Step(
            stage=stage.name,
            params=frozen(_recorded(item.params, params)),
            source=before.digest,
            result=after.digest,
            backend=item.params["backend"] if stage.backend else None,
            model=getattr(backend, "fingerprint", None),
            versions=_versions("cv2" in sys.modules, tuple(getattr(backend, "requires", ()))),
            seconds=round(seconds, 4),
            peak_memory_mb=peak_memory_mb(),
            latents_before=before.sidecar.latents,
            latents_after=after.sidecar.latents,
            tone_before=before.sidecar.tone,
            tone_after=after.sidecar.tone,
            outside=outside,
            notes=frozen(notes),
        )
        if stage.latents:
            self._expect(stage, stage.latents, before.sidecar.latents, after.sidecar.latents)
        return after.with_sidecar(steps=(*before.sidecar.steps, step))

    def _expect(self, stage: Stage, expect: Expect, before: LatentStats | None, after: LatentStats | None) -> None:
        if before is None or after is None or before.encoder != after.encoder:
            return
        for channel, (m0, s0, m1, s1) in enumerate(zip(before.mean, before.std, after.mean, after.std)):
            scale = max(s0, 1e-3)
            if abs(m1 - m0) <= expect.mean * scale and abs(s1 - s0) <= expect.std * scale:
                continue
            message = (
                f"{stage.name} moved latent channel {channel} of {after.encoder} "
                f"from {m0:.3f} ± {s0:.3f} to {m1:.3f} ± {s1:.3f}"
            )
            if self.strict:
                raise GateFailed(message, "look at the result, or run without --strict")
            log.warning(message)

    def _picture(self, given: str, named: Mapping[str, Frame]) -> Frame:
        if not given.startswith("@"):
            return self._file(given).result()
        if given[1:] not in named:
            raise UsageError(
                f"there is no picture {given!r} here",
                "pictures of earlier steps are known inside a pipeline file only; give a file",
            )
        return named[given[1:]]

    def _tone(self, given: str, frame: Frame, tones: Mapping[str, ToneStats]) -> ToneStats:
        if not given.startswith("@"):
            return measured_tone(self._file(given).result())
        steps = frame.sidecar.steps
        known = {f"before-{s.stage}": s.tone_before for s in steps} | {f"after-{s.stage}": s.tone_after for s in steps}
        if steps:
            known["input"] = steps[0].tone_before
        found = {**known, **tones}.get(given[1:])
        if found is None:
            raise UsageError(f"no tone is recorded under {given!r}", nearest(given, ("@" + name for name in known)))
        return found


def described(frame: Frame, *, since: Frame | None = None, measure: bool = True) -> Frame:
    """Return *frame* with a sidecar that states digest, mask, latents and tone of what it now holds.

    *since*: the frame before a step; what has not changed since then is not measured again. Latents and tone
    take the most time: without *measure* they are left as they are.
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
                coverage=round(np.count_nonzero(frame.mask) / frame.mask.size, 6),
            )
    latents, tone = frame.sidecar.latents, frame.sidecar.tone
    if not measure:
        return frame.with_sidecar(image=image, mask=mask)
    moved = since is not None and since.pixels is not frame.pixels
    with ThreadPoolExecutor(1) as beside:
        measuring = None
        if latents is None or moved:
            measuring = beside.submit(registry.backend("latents", ENCODER).encode, frame.pixels)
        if tone is None or moved or (since is not None and since.mask is not frame.mask):
            tone = measured_tone(frame)
        if measuring is not None:
            latents = measuring.result()
    return frame.with_sidecar(image=image, mask=mask, latents=latents, tone=tone)


def measured_tone(frame: Frame) -> ToneStats:
    """Return the tone of the frame's pixels outside its mask."""
    from imgedit.ops import tone

    return ToneStats(**tone.measure(frame.pixels, frame.mask))


def peak_memory_mb() -> float:
    """Return the largest resident size that this process has had, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)


# --- promises --------------------------------------------------------------------------------------------

_BUG = "this is a bug of imgedit or of a plugin: please report it with the command that you typed"


def _check(stage: Stage, before: Frame, after: Frame) -> dict[str, int] | None:
    """Raise BrokenPromise for a promise not kept; return the proof of the outside where it is promised."""

    def broken(what: str) -> BrokenPromise:
        return BrokenPromise(f"{stage.name} promised to keep {what}, and did not", _BUG)

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
            raise BrokenPromise(f"{stage.name} promised to make {made}, and did not", _BUG)
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


def _guarded(guard: str, frame: Frame, *, force: bool) -> Frame:
    """Return *frame* with the findings of the stage *guard*, which refuses it on errors unless *force*."""
    try:
        looked = registry.stage(guard).function(frame, fail_on="never" if force else "error")
    except GateFailed as verdict:
        verdict.hint += "; or go on all the same: --force"
        raise
    return frame.with_sidecar(findings=looked.sidecar.findings)


# --- the record ------------------------------------------------------------------------------------------


def _recorded(given: Mapping[str, Any], resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters as they go into the step: references by name and digest, never by path."""
    return {name: _reference(value, resolved[name]) for name, value in given.items()}


def _reference(value: Any, found: Any) -> Any:
    if not isinstance(found, Frame | ToneStats) or (isinstance(value, str) and value.startswith("@")):
        return value
    record = {"file": Path(value).name} if isinstance(value, str) else {}
    return record | ({"digest": found.digest} if isinstance(found, Frame) else {})


@cache
def _versions(opencv: bool, packages: tuple[str, ...]) -> dict[str, str]:
    versions = {"imgedit": __version__, "numpy": np.__version__}
    if opencv:  # loaded, so it may have had a part in the pixels
        versions["opencv"] = sys.modules["cv2"].__version__
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # an import name that is not a distribution's name
            continue
    return versions


_READING: dict[tuple[Path, int, codec.Limits], Future[Frame]] = {}


def _reading(path: Path, limits: codec.Limits) -> Future[Frame]:
    """Return the reading of a reference file; the last one is kept, since batches compare with one file."""
    key = (path.absolute(), path.stat().st_mtime_ns if path.exists() else 0, limits)
    if key not in _READING:
        _READING.clear()
        reader = ThreadPoolExecutor(1)
        _READING[key] = reader.submit(codec.read_file, path, limits)
        reader.shutdown(wait=False)
    return _READING[key]
