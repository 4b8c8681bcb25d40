"""Works on several frames at once where their stages hand out crops, so that crops of all share forward passes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from imgedit.errors import Unavailable, UsageError
from imgedit.frame import Frame
from imgedit.jobs import Ask, Synthesized

#: frames that are under way at once, at most
FRAMES = 16
#: and no further one is taken in once they have so many pixels together
PIXELS = 32 << 20


@dataclass(frozen=True, slots=True)
class Job:
    """What a frame waits for: the crops that *ask* names, by *backend*."""

    backend: Any
    ask: Ask


class Served(NamedTuple):
    """What a job is answered with: a result for each crop, and the share of the passes' *seconds* that was theirs."""

    results: list[Synthesized]
    seconds: float


#: a frame under way: yields jobs, is sent what they are answered with, returns the frame
Work = Generator[Job, Served, Frame]
T = TypeVar("T")


def alone(work: Work) -> Frame:
    """Return the frame that *work* ends in; only its own crops share passes. Errors are raised as they come."""
    ((_, outcome),) = together(iter([(None, work, 0)]))
    if isinstance(outcome, Frame):
        return outcome
    try:
        raise outcome
    finally:
        del outcome  # its traceback holds this function's names: they would keep each other, and the frame


def together(
    items: Iterator[tuple[T, Work | Exception, int]], frames: int = FRAMES, pixels: int = PIXELS
) -> Iterator[tuple[T, Frame | Exception]]:
    """Yield (tag, frame or what went wrong) for each (tag, work, pixels) of *items*, in their order.

    A further frame is taken in only while the next pass is not full, and while fewer than *frames* with fewer than
    *pixels* in all are under way: memory does not grow with their number, and no result depends on the window. What
    goes wrong in a pass of several crops is tried again crop by crop, so that it reaches the frame that it is of. An
    exception in place of the work is handed on in its turn.
    """
    active: deque[_Running[T]] = deque()
    more = True
    while active or more:
        while active and active[0].outcome is not None:
            yield active.popleft().handed()
        group, most = _next_pass(active)
        if more and len(group) < most and len(active) < frames and sum(one.pixels for one in active) < max(pixels, 1):
            item = next(items, None)
            if item is None:
                more = False
            else:
                active.append(_Running(*item))
                active[-1].begin()
        elif group:
            _pass(group[:most])


@dataclass(slots=True, eq=False)
class _Running(Generic[T]):
    """A frame under way: it waits for *results* of its *job*, or has an *outcome*."""

    tag: T
    work: Work | Exception
    pixels: int
    job: Job | None = None
    results: dict[int, Synthesized] = field(default_factory=dict)
    seconds: float = 0.0
    outcome: Frame | Exception | None = None

    def begin(self) -> None:
        """Go on to the first job."""
        if isinstance(self.work, Exception):
            self.outcome = self.work
        else:
            self._go(None, None)

    def handed(self) -> tuple[T, Frame | Exception]:
        """Return tag and outcome, and let go of it: an exception's traceback leads back here."""
        outcome, self.outcome = self.outcome, None
        assert outcome is not None
        return self.tag, outcome

    def open(self) -> list[int]:
        """Return the crops of the job that have no result yet."""
        return [] if self.job is None else [i for i in range(len(self.job.ask.crops)) if i not in self.results]

    def key(self, number: int) -> tuple[Any, ...]:
        """Return what crops that share a pass have in common with crop *number*."""
        assert self.job is not None
        crop = self.job.ask.crops[number]
        return id(self.job.backend), self.job.ask.sampling, crop.pixels.shape, crop.pixels.dtype

    def take(self, number: int, result: Synthesized, seconds: float) -> None:
        """Keep the result of crop *number*; with the last one, go on to the next job or to the end."""
        self.results[number] = result
        self.seconds += seconds
        if not self.open():
            ordered = [self.results[i] for i in range(len(self.results))]
            self._go(Served(ordered, self.seconds), None)

    def fail(self, error: Exception) -> None:
        """Let what went wrong in a pass come out of the stage that waits for it."""
        self._go(None, error)

    def _go(self, answer: Served | None, error: Exception | None) -> None:
        assert not isinstance(self.work, Exception)
        self.job, self.results, self.seconds = None, {}, 0.0
        try:
            if error is not None:
                self.job = self.work.throw(error)
            elif answer is None:
                self.job = next(self.work)
            else:
                self.job = self.work.send(answer)
        except StopIteration as done:
            self.outcome = done.value
        except Exception as wrong:
            self.outcome = wrong
        else:
            if not self.job.ask.crops:
                self._go(Served([], 0.0), None)


def _next_pass(active: deque[_Running[T]]) -> tuple[list[tuple[_Running[T], int]], int]:
    """Return (frame, crop) of all that could share the pass that the first waiting frame needs, and how many fit."""
    for one in active:
        if one.job is None:
            continue
        first = one.open()[0]
        key = one.key(first)
        rows, columns = one.job.ask.crops[first].pixels.shape[:2]
        try:
            most = max(1, one.job.backend.most(one.job.ask.sampling, rows, columns))
        except Exception as error:
            one.fail(error)
            return _next_pass(active)
        return [(other, i) for other in active for i in other.open() if other.key(i) == key], most
    return [], 1


def _pass(group: list[tuple[_Running[T], int]]) -> None:
    """Send the crops of *group* through their model at once."""
    jobs = [one.job for one, _ in group]
    first = group[0][0]
    assert first.job is not None
    crops = [job.ask.crops[i] for job, (_, i) in zip(jobs, group) if job is not None]
    start = time.perf_counter()
    try:
        results = first.job.backend.synthesize(first.job.ask.sampling, crops)
    except Exception as error:
        if len(group) == 1 or isinstance(error, Unavailable | UsageError):  # of the model, whatever the crops
            first.fail(error)
            return
        for job, (one, i) in zip(jobs, group):
            if one.job is job:  # not where another crop of this frame went wrong
                _pass([(one, i)])
        return
    share = (time.perf_counter() - start) / len(group)
    for (one, i), result in zip(group, results, strict=True):
        one.take(i, result, share)
