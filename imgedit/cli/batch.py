"""One loop for all commands: pull a frame, run the calls, hand it on; faults and verdicts are counted."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from imgedit import codec, registry, spill
from imgedit.cli import ahead, talk
from imgedit.cli.sinks import Kept, Sink
from imgedit.cli.sources import Source
from imgedit.engine import Call, Engine, own, watch
from imgedit.errors import EXIT_GATE, EXIT_TERMINATED, BrokenPromise, GateFailed, ImgeditError, PartialFailure
from imgedit.frame import Frame
from imgedit.together import Work, together


@dataclass(slots=True)
class _Item:
    """A frame of *source* and the engine that it is for, or why there is none."""

    source: Source
    engine: Engine
    frame: Frame | None = None
    fault: Exception = field(default_factory=AssertionError)

    @property
    def pixels(self) -> int:
        return self.frame.rows * self.frame.columns if self.frame else 0

    def run(self) -> Frame | Exception:
        if self.frame is None:
            return self.fault
        try:
            return self.engine.run(self.frame)
        except ImgeditError as error:
            return error

    def work(self) -> Work | Exception:
        return self.engine.work(self.frame) if self.frame else self.fault


@dataclass(slots=True)
class Batch:
    """Runs *calls* on every frame of *sources* into *sink*.

    A gate that says no is a verdict: the batch goes on and the exit code is 1. An error ends the batch,
    or with *keep_going* only this frame, and the exit code is 3.
    """

    calls: Sequence[Call]
    sources: Sequence[Source]
    sink: Sink
    limits: codec.Limits
    folder: Path = field(default_factory=Path)
    keep_going: bool = False
    strict: bool = False
    quiet: bool = False
    #: hand on the frame of a failed gate too, as comparisons and JSON lines want it
    deliver_verdicts: bool = False
    #: record latents and tone; not needed where nobody will see the sidecar
    measure: bool = True
    #: the calls are all that happens to a frame: @input has a meaning
    knows_input: bool = False
    #: keeps what every call gives
    keep: Kept | None = None
    _failed: list[str] = field(default_factory=list)
    _refused: int = 0

    def run(self) -> int:
        """Return the exit code."""
        signal.signal(signal.SIGTERM, _terminate)
        done = 0
        broken = False
        Engine(self.calls, self.limits, self.folder).prepare()
        for call in self.calls:
            own(call)
        targets = [call.params["memory_target_gb"] for call in self.calls if call.params.get("memory_target_gb")]
        spill.configure(int(min(targets) * 10**9) if targets else None)
        total = None if any(s.path is None for s in self.sources) else len(self.sources)
        crops = [call for call in self.calls if call.stage.crops]
        with talk.progress(total, quiet=self.quiet, steps=bool(crops)) as bar:
            for call in crops if bar.step else ():
                watch(call, bar.step)
            for item, outcome in self._outcomes():
                if item.frame is None:
                    broken |= item.source.path is None
                else:
                    bar.advance()
                try:
                    self._settle(outcome, item.source)
                    done += 1
                except ImgeditError as error:
                    self._fail(error, item.source)
                del outcome  # not kept while the next is read
        if self._failed:
            partial = PartialFailure(
                f"{len(self._failed)} of {done + len(self._failed)} pictures failed: {', '.join(self._failed[:10])}"
                + (" …" if len(self._failed) > 10 else ""),
                "what follows the damage in the stream was not read"
                if broken
                else "the others are done; the reasons stand above",
            )
            talk.error(partial)
            return partial.exit_code
        return EXIT_GATE if self._refused else 0

    def _items(self) -> Iterator[_Item]:
        """Yield every frame, read when it is asked for, and what could not be read; in order."""
        for source in self.sources:
            engine = self._engine(source)
            engine.prefetch()
            frames = source.frames(self.limits)
            try:
                for frame in frames:
                    own = replace(engine, after=self.keep.of(source, frame)) if self.keep else engine
                    yield _Item(source, own, frame)
            except ImgeditError as error:
                yield _Item(source, engine, fault=error)

    def _outcomes(self) -> Iterator[tuple[_Item, Frame | Exception]]:
        """Yield what becomes of every frame, in order: several are under way at once where they share a model."""
        if any(call.stage.crops for call in self.calls):
            yield from together((item, item.work(), item.pixels) for item in self._items())
            return
        if self._several():
            yield from ahead.ordered(self._items(), _Item.run, min(ahead.cores(), ahead.AT_ONCE))
            return
        for item in self._items():
            yield item, item.run()

    def _several(self) -> bool:
        """Return whether small pictures may be worked on at once.

        Not where a stream has to flow or every call writes files, and not where results are larger than the pictures or
        a model's memory counts.
        """
        if ahead.cores() < 2 or len(self.sources) < 2 or self.keep or any(s.path is None for s in self.sources):
            return False
        backends = [
            registry.backend(call.stage.backend[0], call.params["backend"], self.folder)
            for call in self.calls
            if call.stage.backend
        ]
        heavy = any("torch" in getattr(backend, "requires", ()) for backend in backends)
        return not heavy and not any(call.stage.grows or call.params.get("memory_target_gb") for call in self.calls)

    def _engine(self, source: Source) -> Engine:
        calls = self.calls
        if source.params:
            calls = [replace(calls[0], params={**calls[0].params, **source.params}), *calls[1:]]
        return Engine(calls, self.limits, self.folder, self.strict, self.measure, self.knows_input)

    def _settle(self, outcome: Frame | Exception, source: Source) -> None:
        """Hand on a frame, say a verdict, raise an error."""
        if isinstance(outcome, GateFailed):
            self._refused += 1
            talk.error(outcome, self._prefix(outcome, source))
            if not self.deliver_verdicts or outcome.frame is None:
                return
            outcome = outcome.frame
        if isinstance(outcome, Exception):
            try:
                raise outcome
            finally:
                del outcome  # its traceback leads back here: they would keep each other, and the frame
        self.sink.put(outcome, source)

    def _fail(self, error: ImgeditError, source: Source) -> None:
        if not self.keep_going or isinstance(error, BrokenPromise):
            if prefix := self._prefix(error, source):
                error.message = f"{prefix}: {error.message}"
            raise error
        talk.error(error, self._prefix(error, source))
        self._failed.append(source.name)

    def _prefix(self, error: ImgeditError, source: Source) -> str | None:
        """Return the source's name where there are several, and the error does not name it already."""
        return source.name if len(self.sources) > 1 and source.name not in error.message else None


def _terminate(number: int, frame: Any) -> None:
    # an exception, so that what is half written is removed on the way out
    raise SystemExit(EXIT_TERMINATED)
