"""Bit depth: 16 bits to 8, rounded, and 8 to 16, exact. 0 … 65535 and 0 … 255 span the same range: one level is 257."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

LEVEL = 257


def to8(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return uint8 or uint16 *values* (of up to three dimensions) in 8 bit, rounded to nearest: 257 × k becomes k.

    What is uint8 already is returned as it is.
    """
    if values.dtype == np.uint8:
        return values
    if values.size == 0:  # OpenCV takes no empty array
        return values.astype(np.uint8)
    # v / 257 is never closer than 1/514 to a half, so that float32 rounds all 65536 values rightly
    return np.asarray(cv2.convertScaleAbs(values, alpha=1 / LEVEL), np.uint8).reshape(values.shape)


def to16(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Return uint8 or uint16 *values* in 16 bit, times 257, so that :func:`to8` gives them back.

    What is uint16 already is returned as it is.
    """
    return values if values.dtype == np.uint16 else values * np.uint16(LEVEL)
