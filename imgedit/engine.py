"""The only caller of stages: checks what they need, calls them, checks what they promised, records the step."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import resource
import sys
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from imgedit import __version__, codec, loop, promises, references, registry
from imgedit.describe import described
from imgedit.errors import BrokenPromise, DataError, GateFailed, OutOfMemory
from imgedit.frame import Frame, Step, ToneStats
from imgedit.jobs import Ask, Synthesized
from imgedit.param import FILES
from imgedit.stage import Around, Expect, Stage
from imgedit.strict_json import frozen
from imgedit.together import Job, Served, Work, alone

log = logging.getLogger("imgedit")

#: latents of a flat picture have no deviation to measure a move by; they are of the order of 1
STD_FLOOR = 0.05
#: and a picture of fewer cells says little
FEWEST_CELLS = 16
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


def watch(item: Call, step: Callable[[int, int], None] | None) -> None:
    """Have *step* told how many steps of a pass are done, of how many, by the backend of *item*."""
    _tell(item, "watch", step)


def own(item: Call) -> None:
    """Let the backend of *item* know that nothing else goes on in this process: an interrupt may end it at once."""
    _tell(item, "owned", True)


def _tell(item: Call, name: str, value: object) -> None:
    """Set *name* on the class of the backend of *item*, where that has such a thing."""
    if item.stage.backend:
        backend = registry.backend_class(item.stage.backend[0], item.params["backend"])
        if hasattr(backend, name):
            setattr(backend, name, value)


@dataclass(slots=True)
class Engine:
    """Runs calls on frames. *folder*: where relative reference files are looked up.

    *strict*: latents that move further than a stage declares are an error (GateFailed), not a warning.
    *measure*: record latents and tone; without, for those who throw the sidecar away, they are left out.
    *knows_input*: the calls are all that happens to the frame, so that ``@input`` has a meaning. *after* is called with
    each frame that a call gives.
    """

    calls: Sequence[Call]
    limits: codec.Limits = field(default_factory=codec.Limits)
    folder: Path = Path()
    strict: bool = False
    measure: bool = True
    knows_input: bool = False
    after: Callable[[Frame], None] | None = None

    def prepare(self) -> None:
        """Refuse early what cannot work for any frame: unknown or missing backends."""
        for number, item in enumerate(self.calls):
            if item.stage.backend:
                registry.backend(item.stage.backend[0], item.params["backend"], self.folder)
            if item.stage.again and item.params["until_clean"] is not None:
                look = registry.stage(item.stage.again.look)
                # one that looked before says how, and was asked for its backend just now
                if look.backend and look.name not in (earlier.stage.name for earlier in self.calls[:number]):
                    registry.backend(*look.backend)

    def prefetch(self) -> None:
        """Begin to read the reference file of the first call that has one, beside whatever comes before it."""
        for item in self.calls:
            for param in item.stage.params.values():
                value = item.params[param.name]
                if param.kind in ("picture", "tone") and param.names_file(value):
                    references.reading(self.folder / value, self.limits)
                    return

    def run(self, frame: Frame) -> Frame:
        """Return *frame* after all calls. Errors are ImgeditError; nothing is written or kept."""
        return alone(self.work(frame))

    def work(self, frame: Frame) -> Work:
        """Do all calls, and return the frame: for :func:`imgedit.together.together`, which answers the jobs."""
        kept = self._names()
        named: dict[str, Frame] = {}
        tones: dict[str, ToneStats] = {}
        frame = described(frame, measure=self.measure)

        def remember(name: str) -> None:
            if name in kept:
                named[name] = frame
            if frame.sidecar.tone:
                tones[name] = frame.sidecar.tone

        if self.knows_input:
            remember("input")
        for item in self.calls:
            remember(f"before-{item.id}")
            frame = yield from self._apply(item, frame, named, tones)
            remember(f"after-{item.id}")
            if self.after:
                self.after(frame)
        return frame

    def _names(self) -> set[str]:
        """Return the @names whose pixels some call wants; only these frames are held."""
        values = (item.params[p.name] for item in self.calls for p in item.stage.params.values() if p.kind == "picture")
        return {value[1:] for value in values if isinstance(value, str) and value.startswith("@")}

    def _apply(self, item: Call, frame: Frame, named: Mapping[str, Frame], tones: Mapping[str, ToneStats]) -> Work:
        stage = item.stage
        self._refuse(item, frame)
        params = dict(item.params)
        record = dict(item.params)
        for param in stage.params.values():
            given = params[param.name]
            if param.kind in FILES and given is not None:
                params[param.name], record[param.name] = references.resolve(
                    param, given, frame, named, tones, self.limits, self.folder
                )
        if stage.backend:
            record["backend"] = references.recorded_backend(item.params["backend"], self.folder)
        rounds = params.pop("until_clean") if stage.again else None
        if rounds is None or stage.again is None:
            done = yield from self._once(item, frame, params, record)
        else:

            def once(given: Frame, changes: Mapping[str, Any]) -> Frame:
                given = described(given, since=frame, measure=self.measure)
                return alone(self._once(item, given, {**params, **changes}, {**record, **changes}))

            done = loop.until_clean(stage.again, frame, rounds, params, once, loop.looker(stage.again.look, frame))
        said = {(finding.code, finding.message) for finding in frame.sidecar.findings}
        for finding in done.sidecar.findings:
            if finding.severity != "info" and (finding.code, finding.message) not in said:
                log.warning("%s: %s %s", _source(done), finding.code, finding.message)
        return done

    def _once(self, item: Call, frame: Frame, params: Mapping[str, Any], record: Mapping[str, Any]) -> Work:
        """Call the stage; return its result checked, with the step appended."""
        stage = item.stage
        arguments = dict(params)
        positional: list[Any] = [frame]
        backend = None
        if stage.backend:
            backend = registry.backend(stage.backend[0], arguments.pop("backend"), self.folder)
            positional.append(backend)
        if stage.also:
            positional.append(Around(partial(registry.backend, *stage.also), self.strict))
        if stage.guard:
            spared = stage.spares(params) if stage.spares else ()
            positional[0] = _guarded(stage.guard, frame, force=arguments.pop("force"), spared=spared)
        clock = _Clock()
        try:
            result = stage.function(*positional, **arguments)
            if stage.crops:
                result = yield from _served(result, backend, clock)
        except GateFailed as verdict:
            if verdict.frame is not None:
                verdict.frame = self._finish(item, record, frame, verdict.frame, backend, clock.seconds)
            raise
        except MemoryError as error:
            raise OutOfMemory(
                f"{stage.name} ran out of memory", "give a smaller picture, or free some memory"
            ) from error
        return self._finish(item, record, frame, result, backend, clock.seconds)

    def _refuse(self, item: Call, frame: Frame) -> None:
        """Raise DataError for a frame that lacks what the stage needs, or whose result would be too large."""
        stage = item.stage
        for need in stage.needs:
            held = frame.mask if need == "mask" else getattr(frame.sidecar, need)
            if held is None or (need == "regions" and not held):
                what, hint = _NEEDED[need]
                raise DataError(f"{stage.name} needs {what}, and this picture has none", hint)
        if stage.grows:
            scale = item.params[stage.grows]
            rows, columns = round(frame.rows * scale), round(frame.columns * scale)
            if rows * columns > self.limits.pixels:
                raise DataError(
                    f"{stage.name} would give {columns}×{rows}, {rows * columns:,} pixels; the limit is "
                    f"{self.limits.pixels:,}",
                    f"give a smaller --{stage.grows}, or if there is memory for it: --max-pixels {rows * columns}",
                )

    def _finish(
        self, item: Call, record: Mapping[str, Any], before: Frame, after: Frame, backend: Any, seconds: float
    ) -> Frame:
        """Check the promises and return *after* with the step appended."""
        stage = item.stage
        if not isinstance(after, Frame):
            raise BrokenPromise(f"{stage.name} returned {type(after).__name__}, not a frame", promises.BUG)
        outside = promises.check(stage, before, after)
        notes = dict(after.notes)
        model = notes.pop("model", None) or getattr(backend, "fingerprint", None)
        kept = outside is not None
        after = described(after.replace(notes={}), since=before, measure=self.measure, outside_kept=kept)
        if after.pixels is not before.pixels and after.sidecar.metrics is before.sidecar.metrics:
            after = after.with_sidecar(metrics={})  # they were of other pixels
        step = Step(
            stage=stage.name,
            params=frozen({stage.params[name].option: value for name, value in record.items()}),
            source=before.digest,
            result=after.digest,
            id=item.id if item.id != stage.name else None,
            mask=after.sidecar.mask.digest if after.sidecar.mask else None,
            backend=record["backend"] if stage.backend else None,
            model=frozen(model) if model else None,
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
        log.info("%s: %s, %.2f s", _source(after), stage.name, seconds)
        done = after.with_sidecar(steps=(*before.sidecar.steps, step))
        if stage.latents:
            self._expect(stage, stage.latents, before, done)
        return done

    def _expect(self, stage: Stage, expect: Expect, before: Frame, after: Frame) -> None:
        """Warn of latents that moved further than the stage declares; GateFailed where *strict*."""
        was, now = before.sidecar.latents, after.sidecar.latents
        if was is None or now is None or was.encoder != now.encoder or was.shape[1] * was.shape[2] < FEWEST_CELLS:
            return
        if "outside-mask" in stage.keeps and before.mask is not None and before.mask.all():
            return  # nothing was to be kept, so that there is nothing to move away from
        for channel, (m0, s0, m1, s1) in enumerate(zip(was.mean, was.std, now.mean, now.std)):
            scale = max(s0, STD_FLOOR)
            if abs(m1 - m0) <= expect.mean * scale and abs(s1 - s0) <= expect.std * scale:
                continue
            message = (
                f"{stage.name} moved latent channel {channel} of {now.encoder} "
                f"from {m0:.3f} ± {s0:.3f} to {m1:.3f} ± {s1:.3f}"
            )
            if self.strict:
                raise GateFailed(message, "look at the result, or run without --strict", after)
            log.warning("%s: %s", _source(after), message)


def _source(frame: Frame) -> str:
    """Return the name of the picture for people."""
    return (frame.sidecar.image and frame.sidecar.image.source) or "-"


def peak_memory_mb() -> float:
    """Return the largest resident size that this process has had, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)


def _guarded(guard: str, frame: Frame, *, force: bool, spared: Collection[str] = ()) -> Frame:
    """Return *frame* with the findings of the stage *guard*, which refuses it on errors unless *force*.

    Findings of a *spared* code are no errors here.
    """
    try:
        looked = registry.stage(guard).function(frame, fail_on="never" if force else "error")
    except GateFailed as verdict:
        if verdict.frame is None or not _errors(verdict.frame) <= set(spared):
            verdict.hint += "; or go on all the same: --force"
            raise
        looked = verdict.frame
    findings = (replace(f, severity="info") if f.code in spared else f for f in looked.sidecar.findings)
    return frame.with_sidecar(findings=tuple(findings))


def _errors(looked: Frame) -> set[str]:
    """Return the codes of the errors that a guard has just found."""
    found = looked.notes["found"]
    return {finding.code for finding in looked.sidecar.findings if finding.severity == "error"} & set(found)


class _Clock:
    """The time that a stage takes: its own, and its share of the passes that it waits for."""

    def __init__(self) -> None:
        self.since, self.before = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.since


def _served(asking: Generator[Ask, list[Synthesized], Any], backend: Any, clock: _Clock) -> Generator[Job, Served, Any]:
    """Hand on what a stage asks for, with its backend; return what it returns."""
    try:
        ask = next(asking)
        while True:
            clock.before = clock.seconds
            try:
                results, seconds = yield Job(backend, ask)
            except Exception as error:
                clock.since = time.perf_counter()
                ask = asking.throw(error)
                continue
            clock.before += seconds
            clock.since = time.perf_counter()
            ask = asking.send(results)
    except StopIteration as done:
        return done.value


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
