"""What a check noticed, with the texts of its code."""

from __future__ import annotations

from typing import Any, NamedTuple

from imgedit.ops.codes import CODES

Box = tuple[int, int, int, int]


class Record(NamedTuple):
    """What a check noticed: the fields of a finding. *where*: (x, y, width, height) in pixels."""

    code: str
    severity: str
    message: str
    hint: str
    where: Box | None = None


def record(code: str, where: Box | None = None, **facts: Any) -> Record:
    """Return the record of *code* with *facts* put into its message."""
    known = CODES[code]
    return Record(code, known.severity, known.message.format(**facts), known.hint, where)


def percent(share: float) -> str:
    """Return a share of 1 in words."""
    return f"{100 * share:.0f} %" if share >= 0.01 else "less than 1 %"
