"""One loop for all commands: pull a frame, run the calls, hand it on; faults and verdicts are counted."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from imgedit import codec
from imgedit.cli import talk
from imgedit.cli.sinks import Sink
from imgedit.cli.sources import Source
from imgedit.engine import Call, Engine
from imgedit.errors import EXIT_GATE, EXIT_TERMINATED, BrokenPromise, GateFailed, ImgeditError, PartialFailure
from imgedit.frame import Frame


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
    _failed: list[str] = field(default_factory=list)
    _refused: int = 0

    def run(self) -> int:
        """Return the exit code."""
        signal.signal(signal.SIGTERM, _terminate)
        done = 0
        broken = False
        Engine(self.calls, self.limits, self.folder).prepare()
        total = None if any(s.path is None for s in self.sources) else len(self.sources)
        with talk.progress(total, quiet=self.quiet) as bar:
            for source in self.sources:
                engine = self._engine(source)
                engine.prefetch()
                frames = source.frames(self.limits)
                while True:
                    try:
                        frame = next(frames, None)
                    except ImgeditError as error:
                        self._fail(error, source)
                        broken |= source.path is None
                        break
                    if frame is None:
                        break
                    try:
                        self._one(engine, frame, source)
                        done += 1
                    except ImgeditError as error:
                        self._fail(error, source)
                    bar.advance()
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

    def _engine(self, source: Source) -> Engine:
        calls = self.calls
        if source.params:
            calls = [replace(calls[0], params={**calls[0].params, **source.params}), *calls[1:]]
        return Engine(calls, self.limits, self.folder, self.strict, self.measure, self.knows_input)

    def _one(self, engine: Engine, frame: Frame, source: Source) -> None:
        try:
            result = engine.run(frame)
        except GateFailed as verdict:
            self._refused += 1
            talk.error(verdict, self._prefix(verdict, source))
            if not (self.deliver_verdicts and verdict.frame is not None):
                return
            result = verdict.frame
        self.sink.put(result, source)

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
