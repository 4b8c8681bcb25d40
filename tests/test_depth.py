"""Bit depth: rounded to nearest for every value there is, exact on the way back, one rule for all who need it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from imgedit.ops import masks, regions
from imgedit.ops.depth import to8, to16

ALL = np.arange(65536, dtype=np.uint16)


@pytest.mark.parametrize("shape", [(65536,), (256, 256), (64, 256, 4), (32, 2048, 1), (1, 65536)], ids=str)
def test_every_value_is_rounded_to_nearest(shape: tuple[int, ...]) -> None:
    found = to8(ALL.reshape(shape))
    assert found.shape == shape and found.dtype == np.uint8
    nearest = [round(Fraction(int(value), 257)) for value in ALL]
    assert found.ravel().tolist() == nearest


def test_there_and_back() -> None:
    eight = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert to16(eight).dtype == np.uint16 and to16(eight).max() == 65535
    assert np.array_equal(to16(eight), eight.astype(int) * 257)
    assert np.array_equal(to8(to16(eight)), eight)


def test_what_has_the_depth_is_handed_back() -> None:
    eight, sixteen = np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3, 3), np.uint16)
    assert to8(eight) is eight and to16(sixteen) is sixteen


def test_parts_and_read_only_and_empty_arrays() -> None:
    picture = ALL.reshape(128, 128, 4)
    picture.flags.writeable = False
    for part in (picture[3:50:7, 5:90, 1:], picture[::-1, ::-2], picture[..., 0], picture.T):
        assert np.array_equal(to8(part), to8(np.ascontiguousarray(part)))
        assert np.array_equal(to8(part), (part.astype(np.uint32) + 128) // 257)
    assert to8(picture[:0]).shape == (0, 128, 4) and to8(picture[:0]).dtype == np.uint8


def test_those_who_see_8_bits_see_the_same() -> None:
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65536, (40, 50, 3), np.uint16)
    alpha = rng.integers(0, 65536, (40, 50), np.uint16)
    eight = to8(deep)
    assert np.array_equal(regions.searchable(deep), eight)
    assert np.array_equal(masks.of_picture(deep, alpha), masks.of_picture(eight, to8(alpha)))
