"""Look at mask and surroundings before anything is filled: `imgedit preflight`."""

from __future__ import annotations

from typing import Annotated, Literal

from imgedit.errors import GateFailed
from imgedit.frame import Finding, Frame
from imgedit.stage import Opt, stage


@stage(needs=["mask"], keeps=["pixels", "alpha"])
def preflight(
    frame: Frame,
    *,
    fail_on: Annotated[
        Literal["error", "warning", "never"], Opt("Least severity of a finding that fails the check.")
    ] = "error",
) -> Frame:
    """Check the mask and what surrounds it, before a model is loaded; findings go into the sidecar."""
    from imgedit.ops import preflight as checks

    assert frame.mask is not None
    records = checks.check(frame.pixels, frame.mask)
    others = [finding for finding in frame.sidecar.findings if finding.code not in checks.CODES]
    frame = frame.with_sidecar(findings=(*others, *(Finding(*record) for record in records)))
    frame = frame.replace(notes={"found": tuple(record.code for record in records)})
    refusal = checks.refusal(records, fail_on)
    if refusal:
        raise GateFailed(*refusal, frame=frame)
    return frame
