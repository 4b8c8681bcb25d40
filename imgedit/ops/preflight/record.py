"""What a check noticed, with the texts of its code."""

from __future__ import annotations

from functools import partial

from imgedit.ops import codes
from imgedit.ops.codes import Box, Record

__all__ = ["Box", "Record", "percent", "record"]

record = partial(codes.record, codes.CODES)


def percent(share: float) -> str:
    """Return a share of 1 in words."""
    return f"{100 * share:.0f} %" if share >= 0.01 else "less than 1 %"
