"""What `mask` says of its own result: codes IM3xx, which `imgedit mask --explain` documents. Needs no array package."""

from __future__ import annotations

from functools import partial

from imgedit.ops import codes
from imgedit.ops.codes import Code

_LOOK = "look at the mask: -o m.png writes m.mask.png; or give one of your own: imgedit mask --from MASK"

CODES: dict[str, Code] = {
    "IM301": Code(
        "warning",
        "whole region masked",
        "letters are not told from their ground in {count} of {of} regions, and all of the region is masked: {why}",
        _LOOK,
        "Neither the network, nor colours, nor edges say which pixels of the region are strokes. What is between and "
        "round the letters is invented too.",
    ),
    "IM302": Code(
        "warning",
        "letters that are hard to see",
        "letters of {height} px are hard to see in {count} of {of} regions: the mask may cover much of their ground",
        _LOOK,
        "The network finds strokes, and expects that less than 60 % of what it finds and misses is right. So it is "
        "with large faint letters on busy ground, as of a watermark: so much ground may be taken for strokes that "
        "a fill does more harm than the letters. Letters of less than 40 px are not said.",
    ),
    "IM303": Code(
        "warning",
        "no overlay found",
        "no overlay is found over the picture, and the mask is as without --shape watermark: {why}",
        "where detect-text misses its text, lower --min-score; or give a mask of your own: imgedit mask --from MASK",
        "Strokes of one semi-transparent overlay show the same opacity at all of their outlines, whatever the ground. "
        "What stands out from this picture does not.",
    ),
}


noticed = partial(codes.record, CODES)


def explain(code: str) -> str:
    """Return the documentation of a code of mask, or the list of all for "". UsageError for an unknown one."""
    return codes.explain(code, CODES, "mask")
