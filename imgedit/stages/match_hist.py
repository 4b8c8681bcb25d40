"""imgedit match-hist: move the tone of the picture onto that of a reference."""

from __future__ import annotations

from typing import Annotated, Literal

from imgedit.errors import UsageError
from imgedit.frame import Frame, ToneStats
from imgedit.stage import Opt, stage


@stage(keeps=["size", "alpha"])
def match_hist(
    frame: Frame,
    *,
    reference: Annotated[
        ToneStats | None,
        Opt(
            "Picture file or @name whose tone is wanted; without it, the tone before the last step that changed pixels."
        ),
    ] = None,
    mode: Annotated[
        Literal["quantile", "mean-std", "lab"],
        Opt("Match quantiles of each channel, mean and deviation of each channel, or mean and deviation in CIELAB."),
    ] = "quantile",
    strength: Annotated[
        float, Opt("How far to go: 0 leaves the picture as it is, 1 goes all the way.", min=0, max=1)
    ] = 1.0,
) -> Frame:
    """Give the whole picture the tone of a reference; a picture that has it already is kept bit for bit.

    So is, without a reference, a picture that no step has changed: in a folder some may have had no text.
    The tone is measured outside the mask, so that what is to be changed, or was invented, does not count.
    """
    from imgedit.ops import tone

    target = _before(frame) if reference is None else reference
    if target is None:
        return frame.replace(notes={"result": "no step changed the pixels: there is nothing to match"})
    # of the same area as the target: a mask that came after it would compare two different things
    source = ToneStats(**tone.measure(frame.pixels, frame.mask if target.masked else None))
    pixels = tone.match(frame.pixels, source, target, mode, strength)
    return frame if pixels is frame.pixels else frame.replace(pixels=pixels)


def _before(frame: Frame) -> ToneStats | None:
    """Return the tone recorded before the last step that changed pixels; None where all steps kept them."""
    changed = [step for step in frame.sidecar.steps if step.source != step.result]
    for step in reversed(changed):
        if step.tone_before is not None:
            return step.tone_before
    if frame.sidecar.steps and not changed:
        return None
    raise UsageError(
        "no earlier tone is recorded: the sidecar has no step, or none that says what was before it",
        "say what to match: --reference FILE",
    )
