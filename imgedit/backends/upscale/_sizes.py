"""What every upscaler refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgedit.errors import UsageError

if TYPE_CHECKING:
    from imgedit.frame import Pixels


def check_larger(pixels: Pixels, rows: int, columns: int) -> None:
    """Raise UsageError where *rows* × *columns* is smaller than *pixels* in either direction."""
    if rows < pixels.shape[0] or columns < pixels.shape[1]:
        raise UsageError(
            f"{rows}×{columns} is smaller than the picture, {pixels.shape[0]}×{pixels.shape[1]} (rows × columns)",
            "upscale with --scale 1 or more",
        )
