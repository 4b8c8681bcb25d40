"""The engine's closed loop: a stage is done, text looked for in its result, and it is done again where some remains."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from imgedit import registry
from imgedit.errors import GateFailed, UsageError
from imgedit.frame import Finding, Frame, Region, plane_digest
from imgedit.stage import Again, Round, Stage
from imgedit.strict_json import frozen

REMAINS = "text-remains"
#: at most this many remains are spelled out in a message
LISTED = 5

#: does the stage once with parameters that change, checked and recorded
Once = Callable[[Frame, Mapping[str, Any]], Frame]


@dataclass(frozen=True, slots=True)
class Look:
    """A stage that finds regions, its *backend*, called *name*, and the settings that it looks with."""

    stage: Stage
    name: str
    backend: Any
    params: Mapping[str, Any]

    def __call__(self, picture: Frame) -> Sequence[Region]:
        """Return the regions that are found in *picture*, whatever its sidecar lists."""
        found: Frame = self.stage.function(picture.with_sidecar(regions=()), self.backend, **self.params)
        return found.sidecar.regions

    def record(self) -> dict[str, Any]:
        """Return who looks, for the notes of a step."""
        settings = {self.stage.params[name].option: value for name, value in self.params.items() if value is not None}
        record = {"stage": self.stage.name, "backend": self.name, "params": settings}
        model = getattr(self.backend, "fingerprint", None)
        return {**record, "model": model} if model else record


def until_clean(again: Again, frame: Frame, rounds: int, params: Mapping[str, Any], once: Once, look: Look) -> Frame:
    """Return the result of the first round after which no text remains. Raises GateFailed, with the last, if none is.

    Every round starts from the pixels of *frame*, so that no fill is filled again, and is a step of its own with its
    own proof. *params*: those of the first round. What a round found is in its notes: ``round``, ``remains`` (places
    and texts), ``elsewhere``, the number of finds that are none of this loop's business, and ``looked``: who says so.
    The mask of the last round stays with the frame. A round that would repeat the last is not done.
    """

    @cache
    def known() -> Sequence[Region]:
        return look(frame)

    given, why = frame, ""
    changes: dict[str, Any] = {}
    last: Round | None = None
    left: Sequence[Region] = ()
    for number in range(1, rounds + 1):
        if last is not None:
            given, changed = again.tighten(last, left, known())
            if _repeats(last, given, changed):
                why = " (a further one would be the same again)"
                break
            changes |= changed
            given = given.with_sidecar(steps=last.done.sidecar.steps)
        try:
            result = once(given, changes)
        except GateFailed as verdict:
            if last is None:
                raise
            why = f" (a larger mask was refused: {verdict.message})"
            break
        found = look(result)
        left = again.left(frame, found, known)
        notes = {"round": number, "elsewhere": len(found) - len(left), "looked": look.record()}
        last = Round(number, frame, given, {**params, **changes}, _noted(result, notes, left))
        if not left:
            return last.done
    assert last is not None
    more = "" if why else "allow more rounds (--until-clean), "
    raise GateFailed(
        f"text remains after {last.number} {'round' if last.number == 1 else 'rounds'}{why}: {_listed(left)}",
        f"{more}draw a mask over it (imgedit mask --rect), or try another --backend",
        last.done,
    )


def looker(name: str, frame: Frame) -> Look:
    """Return what finds regions in a picture by the stage *name*, with the settings of its last step on *frame*.

    Of what the history says only numbers, words to choose from and a method that is known here are taken.
    """
    stage = registry.stage(name)
    assert stage.backend is not None
    said = next((step.params for step in reversed(frame.sidecar.steps) if step.stage == name), {})
    params = stage.check({})
    for param in stage.params.values():
        usable = param.kind in ("int", "float", "choice") and not param.many
        if param.name == "backend":
            usable = said.get("backend") in registry.backend_names(stage.backend[0])
        if usable and param.option in said:
            with contextlib.suppress(UsageError):  # of another version
                params[param.name] = param.check(said[param.option])
    backend_name = params.pop("backend")
    backend = registry.backend(stage.backend[0], backend_name)
    if "read" in params:
        params["read"] = backend.reads
    return Look(stage, backend_name, backend, params)


def _repeats(last: Round, given: Frame, changed: Mapping[str, Any]) -> bool:
    """Tell whether a round with the mask of *given* and parameters *changed* would be the *last* again."""
    was, now = last.given.mask, given.mask
    same = was is now or (was is not None and now is not None and plane_digest(was) == plane_digest(now))
    return same and all(last.params[name] == value for name, value in changed.items())


def _noted(done: Frame, notes: Mapping[str, Any], left: Sequence[Region]) -> Frame:
    """Return *done* with *notes* and what is *left* in it: in the notes of its last step, and as findings."""
    remains = tuple({"where": _where(region), "text": region.text} for region in left)
    *earlier, step = done.sidecar.steps
    notes = {**step.notes, **notes, "remains": remains}
    findings = [finding for finding in done.sidecar.findings if finding.code != REMAINS]
    findings += [
        Finding(REMAINS, "error", f"{_said(region)} was found again", "enlarge the mask there", _where(region))
        for region in left
    ]
    return done.with_sidecar(steps=(*earlier, replace(step, notes=frozen(notes))), findings=tuple(findings))


def _listed(left: Sequence[Region]) -> str:
    more = f"; and {len(left) - LISTED} more" if len(left) > LISTED else ""
    shown = ((_said(region), *_where(region)) for region in left[:LISTED])
    return "; ".join(f"{said} at {x},{y} of {width}×{height} pixels" for said, x, y, width, height in shown) + more


def _said(region: Region) -> str:
    return repr(region.text) if region.text else region.label


def _where(region: Region) -> tuple[int, int, int, int]:
    xs, ys = zip(*region.polygon)
    return (int(min(xs)), int(min(ys)), int(max(xs)) - int(min(xs)), int(max(ys)) - int(min(ys)))
