"""Look at mask and surroundings before anything is filled: `imgedit preflight`."""

from __future__ import annotations

from typing import Annotated, Literal

from imgedit.errors import GateFailed
from imgedit.frame import Finding, Frame, Step
from imgedit.stage import Opt, stage


def explain(code: str) -> str:
    """Return the documentation of a code of preflight, or the list of all for an empty one."""
    from imgedit.ops import codes

    return codes.explain(code)


@stage(needs=["mask"], keeps=["pixels", "alpha"], explain=explain)
def preflight(
    frame: Frame,
    *,
    fail_on: Annotated[
        Literal["error", "warning", "never"], Opt("Least severity of a finding that fails the check.")
    ] = "error",
) -> Frame:
    """Check the mask and what surrounds it, before a model is loaded; findings go into the sidecar.

    Each has a code, a severity, a place and a hint; --explain CODE says more about one, --explain without a code lists
    all. What mask warned of when it drew this mask counts for --fail-on too. A mask of another size than the picture is
    refused when it is read.
    """
    from imgedit.ops import fitting
    from imgedit.ops import preflight as checks

    assert frame.mask is not None
    grid = frame.sidecar.mask.grid if frame.sidecar.mask else None
    records = checks.check(frame.pixels, frame.mask, grid=grid, why=_nothing_found(frame))
    drawn = _drawn(frame)
    if drawn and _strokes(drawn):
        # such a mask lies where the strokes are, and of what crosses it there is no narrower one
        records = [r._replace(severity="info") if r.code == "IE112" else r for r in records if r.code != "IE118"]
    others = [finding for finding in frame.sidecar.findings if finding.code not in checks.CODES]
    frame = frame.with_sidecar(findings=(*others, *(Finding(*record) for record in records)))
    frame = frame.replace(notes={"found": tuple(record.code for record in records)})
    said = [checks.Record(f.code, f.severity, f.message, f.hint) for f in others if drawn and f.code in fitting.CODES]
    refusal = checks.refusal([*said, *records], fail_on)
    if refusal:
        raise GateFailed(*refusal, frame=frame)
    return frame


def _drawn(frame: Frame) -> Step | None:
    """Return the step that drew this very mask for these very pixels, None where it is from somewhere else."""
    step = next((step for step in reversed(frame.sidecar.steps) if step.stage == "mask"), None)
    if step is None or frame.sidecar.mask is None:
        return None
    return step if (step.mask, step.result) == (frame.sidecar.mask.digest, frame.digest) else None


def _strokes(drawn: Step) -> bool:
    """Return whether a mask is of strokes alone that were found in the picture."""
    asked, notes = drawn.params, drawn.notes
    alone = notes.get("source") == "regions" and asked.get("mode") == "replace"
    wider = any(asked.get(name) for name in ("invert", "fill-holes", "close", "dilate", "grid", "feather"))
    fitted = notes.get("fit") == "glyph" and not notes.get("polygons") and not notes.get("logos")
    return alone and fitted and not wider


def _nothing_found(frame: Frame) -> str | None:
    """Return what the last search for text found nothing by: its pattern, "" where it had none; None if it found some.

    A mask that was drawn since from something else than its regions is not of that search.
    """
    for step in reversed(frame.sidecar.steps):
        if step.stage == "detect-text":
            return str(step.params.get("match") or "") if step.notes.get("found") == 0 else None
        if step.stage != "mask" or step.notes.get("source") not in ("regions", "mask"):
            return None
    return None
