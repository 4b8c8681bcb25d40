"""What findings are made of, and the codes of preflight in one table: needs no array package."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from imgedit.errors import UsageError, nearest

SEVERITIES = ("info", "warning", "error")
Box = tuple[int, int, int, int]


class Code(NamedTuple):
    """What a finding says. *message* may hold {facts}; *why*: what was seen, and what would come of it."""

    severity: str
    title: str
    message: str
    hint: str
    why: str


CODES: dict[str, Code] = {
    "IE101": Code(
        "warning",
        "empty mask",
        "the mask is empty, and nothing will change{cause}",
        "find something to mask: imgedit detect-text",
        "No pixel of the mask is above 0. Erasing gives the same picture again.",
    ),
    "IE102": Code(
        "error",
        "mask covers everything",
        "the mask covers the whole picture: there is nothing to fill from",
        "mask less of the picture",
        "Every pixel of the mask is above 0. A fill takes from outside the mask, and there is no outside.",
    ),
    "IE103": Code(
        "error",
        "inverted mask",
        "the mask looks inverted: it covers the border and {share}",
        "imgedit mask --invert",
        "More than half of the picture and more than nine tenths of its border are masked. Masks of some other tools "
        "are black where a picture is to be changed; here 255 is changed and 0 kept.",
    ),
    "IE104": Code(
        "error",
        "mask far too large",
        "the mask covers {share}: too much to be filled from the rest",
        "mask less of the picture",
        "More than three quarters of the picture are masked. What is left says too little about the rest.",
    ),
    "IE105": Code(
        "warning",
        "large mask",
        "the mask covers {share}",
        "a mask of the strokes leaves more: imgedit mask --fit glyph",
        "More than 30 % of the picture are masked: most of the result will be invented.",
    ),
    "IE106": Code(
        "warning",
        "specks",
        "{count} specks of a few pixels lie apart from the rest",
        "imgedit mask --min-area 16",
        "Beside what is large enough to be meant, the mask has pieces of a few pixels, as they come from a threshold. "
        "Each changes good pixels.",
    ),
    "IE107": Code(
        "info",
        "strokes thinner than a latent cell",
        "strokes of {width:.0f} px are thinner than a latent cell of 8: a latent model could miss them",
        "imgedit mask --grid 8",
        "Pixel fills like thin strokes. A latent model sees the mask in cells of 8 pixels, and some samplers lose what "
        "is thinner.",
    ),
    "IE108": Code(
        "info",
        "hole at the border",
        "the hole touches the border: there is context on some sides only",
        "look at the result there",
        "The mask reaches the edge of the picture, so that the fill continues from fewer sides. Date stamps often do.",
    ),
    "IE109": Code(
        "warning",
        "little context",
        "only {share} of the surroundings is known",
        "mask the strokes only: imgedit mask --fit glyph",
        "Round the hole, as far as half its width, less than 30 % of the pixels are both in the picture and unmasked.",
    ),
    "IE110": Code(
        "info",
        "blurred context",
        "the surroundings are blurred: sharp fill would show",
        "imgedit erase --backend harmonic",
        "The sharpest edges round the hole are as wide as a Gaussian blur of more than a pixel makes them. What a "
        "model invents may be sharper than the picture.",
    ),
    "IE111": Code(
        "warning",
        "blocky context",
        "the surroundings show 8×8 blocks of strong JPEG compression: marks of the text reach beyond it",
        "imgedit mask --dilate 2",
        "Steps on one grid of period 8 are larger than elsewhere. Such compression spreads rings of the text over "
        "whole blocks; a mask of the strokes leaves them.",
    ),
    "IE112": Code(
        "warning",
        "edge across the hole",
        "a strong edge crosses a hole {width:.0f} px wide: a fill may break it",
        "mask the strokes only: imgedit mask --fit glyph",
        "On two sides of the hole a step of the same colours runs into it, along the line that joins both. A fill that "
        "does not follow structure leaves a smear between them.",
    ),
    "IE113": Code(
        "warning",
        "tight mask",
        "the mask is tight: something of what it covers shows round it",
        "imgedit mask --dilate 1",
        "The picture steps right at the rim of the mask, more than it does farther out: the rim lies on the edge of "
        "what is to go. Its antialiased fringe stays, and the fill spreads its colour.",
    ),
    "IE114": Code(
        "warning",
        "soft mask",
        "no masked pixel reaches 255: what was there will shine through",
        "imgedit mask --threshold 1",
        "Values between 0 and 255 blend the fill with what was there. A hole without any 255 removes nothing fully.",
    ),
    "IE115": Code(
        "warning",
        "hairlines",
        "parts of the mask are lines of 1 or 2 px: thinner than what they should cover",
        "imgedit mask --dilate 2",
        "Letters and scratches fade over a pixel on each side, so that even the thinnest needs 3. Masks of hairlines "
        "come from edge detectors and high thresholds, and leave what they outline.",
    ),
    "IE116": Code(
        "warning",
        "jagged mask",
        "the edge of the mask is jagged: {what}",
        "make the mask at the size of the picture, or smooth it: imgedit mask --close 2 --dilate 1",
        "The outline goes up and down from pixel to pixel, as after a threshold of something noisy, or in steps of "
        "3 to 7 pixels, as after enlarging the mask of a smaller picture. Where it is cut in, text stays.",
    ),
    "IE117": Code(
        "warning",
        "one box over two objects",
        "one box covers two things {gap} px apart, and good pixels between them",
        "mask each by itself: imgedit mask --fit glyph, or --rect twice",
        "Inside a filled box what differs from its surroundings lies at both ends, with at least a fifth of the box "
        "between them. What is between would be invented for nothing.",
    ),
    "IE118": Code(
        "warning",
        "misaligned mask",
        "the mask lies beside what it should cover: it would fit better {far:.0f} px {side}",
        "make the mask from this very picture: imgedit detect-text | imgedit mask",
        "The mask has the shape of strokes, and the same shape stands out from the picture some pixels away: the mask "
        "was shifted, or made for the picture at another size or cut.",
    ),
    "IE119": Code(
        "error",
        "mask of another size",
        "the mask is {columns}×{rows}, the picture {of_columns}×{of_rows}",
        "make the mask for this very picture: imgedit detect-text | imgedit mask",
        "A mask belongs to a picture pixel by pixel. One of another size is refused as soon as it is read, beside the "
        "picture, in a pipe or by `mask --from`; it is never scaled silently.",
    ),
    "IE120": Code(
        "info",
        "clipped context",
        "{share} of the surroundings is pure white or black",
        "look at the result there",
        "Where the picture is over- or underexposed it has no texture to continue. A white ground is filled white, "
        "which is right; a burnt sky cannot be restored.",
    ),
    "IE121": Code(
        "warning",
        "noisy context",
        "the surroundings are noisy (standard deviation {sigma:.0f} levels): a fill without that noise would show",
        "look at the result; smooth the picture first where noise is not wanted",
        "Even the calmest parts round the hole vary from pixel to pixel, and alike at all scales, as noise does and "
        "texture does not. A fill without noise is seen as a smooth spot.",
    ),
    "IE122": Code(
        "warning",
        "text left outside",
        "more of what the mask covers seems to lie outside it, {side}",
        "imgedit mask --dilate 4, or find all of it first: imgedit detect-text",
        "Strokes of the same colours and thickness as those inside continue outside: letters are cut off, or some of "
        "the line was not masked.",
    ),
}


class Record(NamedTuple):
    """What was noticed: the fields of a finding. *where*: (x, y, width, height) in pixels."""

    code: str
    severity: str
    message: str
    hint: str
    where: Box | None = None


def record(codes: Mapping[str, Code], code: str, where: Box | None = None, /, **facts: Any) -> Record:
    """Return the record of *code*, one of *codes*, with *facts* put into its texts."""
    known = codes[code]
    return Record(code, known.severity, known.message.format(**facts), known.hint.format(**facts), where)


def explain(code: str, codes: Mapping[str, Code] = CODES, of: str = "preflight") -> str:
    """Return the documentation of *code*, one of *codes* that the stage *of* may find, or the list of all for "".

    UsageError for an unknown one.
    """
    if not code:
        return "\n".join(f"{name}  {known.severity:<7}  {known.title}" for name, known in codes.items())
    found = codes.get(code.upper())
    if found is None:
        raise UsageError(f"{of} has no code {code!r}", nearest(code.upper(), codes))
    head = f"{code.upper()}: {found.title} ({found.severity})"
    says = re.sub(r"\{[^}]*\}", "…", found.message)
    return f"{head}\n\n{found.why}\n\nSays: {says}\nTry: {found.hint}"
