"""The engine's closed loop: a stage is done, its result looked at, and done again where something remains."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from imgedit import registry
from imgedit.errors import GateFailed, UsageError
from imgedit.frame import Finding, Frame, Region
from imgedit.stage import Again, Round
from imgedit.strict_json import frozen

REMAINS = "text-remains"
#: at most this many remains are spelled out in a message
LISTED = 5
NOTHING: Mapping[str, Any] = {}

#: does the stage once with parameters that change, checked and recorded
Once = Callable[[Frame, Mapping[str, Any]], Frame]
Look = Callable[[Frame], Sequence[Region]]


def until_clean(again: Again, frame: Frame, rounds: int, once: Once, look: Look) -> Frame:
    """Return the result of the first round after which nothing remains. Raises GateFailed, with the last, if none is.

    Every round starts from the pixels of *frame*, so that no fill is filled again, and is a step of its own with its
    own proof. What a round found is in its notes: ``round``, ``remains`` (places and texts) and ``elsewhere``, the
    number of finds that are none of this loop's business. The mask of the last round stays with the frame.
    """

    @cache
    def known() -> Sequence[Region]:
        return look(frame)

    given, changes, why = frame, NOTHING, ""
    last: Round | None = None
    left: Sequence[Region] = ()
    for number in range(1, rounds + 1):
        if last is not None:
            given, changes = again.tighten(last, left, known())
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
        last = Round(number, frame, given, changes, _noted(result, number, found, left))
        if not left:
            return last.done
    assert last is not None
    raise GateFailed(
        f"text remains after {last.number} {'round' if last.number == 1 else 'rounds'}{why}: {_listed(left)}",
        "allow more rounds (--until-clean), draw a mask over it (imgedit mask --rect), or try another --backend",
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
    backend = registry.backend(stage.backend[0], params.pop("backend"))
    if "read" in params:
        params["read"] = backend.reads

    def look(picture: Frame) -> Sequence[Region]:
        found: Frame = stage.function(picture.with_sidecar(regions=()), backend, **params)
        return found.sidecar.regions

    return look


def _noted(done: Frame, number: int, found: Sequence[Region], left: Sequence[Region]) -> Frame:
    """Return *done* with what was found in it: in the notes of its last step, and as findings."""
    remains = tuple({"where": _where(region), "text": region.text} for region in left)
    *earlier, step = done.sidecar.steps
    notes = {**step.notes, "round": number, "remains": remains, "elsewhere": len(found) - len(left)}
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
