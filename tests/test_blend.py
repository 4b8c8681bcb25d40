"""Blending a fill into its surroundings: offsets go, texture stays, and nothing outside the hole changes."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgedit.ops.blend import blend


def hole(rows: int = 120, columns: int = 160) -> Any:
    mask = np.zeros((rows, columns), np.uint8)
    cv2.circle(mask, (columns // 2, rows // 2), 30, 255, -1)
    return mask


def slope(rows: int = 120, columns: int = 160) -> Any:
    y, x = np.mgrid[0:rows, 0:columns]
    return np.stack([60 + 0.5 * x, 150 - 0.6 * y + 0.2 * x, 90 + 0.4 * y], axis=2).astype(np.uint8)


def shifted(pixels: Any, mask: Any, by: Any) -> Any:
    return np.where(mask[..., None] > 0, pixels.astype(int) + by, pixels).astype(pixels.dtype)


@pytest.mark.parametrize("offset", [-30, -5, 8, 40])
def test_an_offset_is_taken_away(offset: int) -> None:
    pixels, mask = slope(), hole()
    filled = blend(pixels, shifted(pixels, mask, offset), mask)
    assert np.abs(filled.astype(int) - pixels).max() <= 1


def test_an_offset_that_changes_along_the_edge_goes_too() -> None:
    pixels, mask = slope(), hole()
    tilted = (np.arange(160) - 80)[None, :, None] // 6
    filled = blend(pixels, shifted(pixels, mask, tilted), mask)
    assert np.abs(filled.astype(int) - pixels)[mask > 0].mean() < 1 < np.abs(tilted[:, 50:110]).mean()


@pytest.mark.parametrize("fill", ["truth", "harmonic"])
def test_a_fill_that_meets_its_surroundings_stays(fill: str) -> None:
    from imgedit.ops.harmonic import harmonic

    rng = np.random.default_rng(0)
    mask = hole()
    pixels = np.clip(slope() + rng.normal(0, 12, (120, 160, 3)), 0, 255).astype(np.uint8)
    again = np.clip(slope() + rng.normal(0, 12, (120, 160, 3)), 0, 255).astype(np.uint8)
    filled = harmonic(pixels, mask) if fill == "harmonic" else np.where(mask[..., None] > 0, again, pixels)
    change = blend(pixels, filled, mask).astype(int) - filled
    # means of noise differ by chance, and most of what may be chance is left
    assert np.abs(change).mean(where=mask[..., None] > 0) < 2


def test_texture_is_kept() -> None:
    rng = np.random.default_rng(1)
    pixels, mask = slope(), hole()
    noise = rng.normal(0, 10, pixels.shape)
    noise[mask == 0] = 0
    textured = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    filled = blend(pixels, shifted(textured, mask, 25), mask).astype(int)
    rest = (filled - textured)[mask > 0]
    assert abs(rest.mean()) < 2.5 and rest.std() < 3 < noise[mask > 0].std()


def test_16_bits_are_blended_as_8_are() -> None:
    pixels, mask = slope(), hole()
    dark = shifted(pixels, mask, -20)
    small = blend(pixels, dark, mask)
    deep = blend(pixels.astype(np.uint16) * 257, dark.astype(np.uint16) * 257, mask)
    assert deep.dtype == np.uint16 and np.abs(deep / 257 - small).max() <= 0.5


def test_bands_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    from imgedit.ops import blend as module

    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 256, (90, 70, 3), dtype=np.uint8)
    mask = np.where(rng.random((90, 70)) < 0.2, 255, 0).astype(np.uint8)
    filled = np.where(mask[..., None] > 0, 255 - pixels, pixels)
    whole = blend(pixels, filled, mask)
    monkeypatch.setattr(module, "_BAND", 70 * 11)
    assert np.abs(blend(pixels, filled, mask).astype(int) - whole).max() <= 1


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.05, 0.6, 0.98]),
    st.sampled_from([np.uint8, np.uint16]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_nothing_outside_the_hole_changes(rows: int, columns: int, seed: int, share: float, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    mask = np.where(rng.random((rows, columns)) < share, rng.integers(1, 256, (rows, columns)), 0).astype(np.uint8)
    mask[rng.integers(rows), rng.integers(columns)] = 0
    pixels = rng.integers(0, np.iinfo(dtype).max + 1, (rows, columns, 3)).astype(dtype)
    filled = np.where(mask[..., None] > 0, pixels[::-1, ::-1], pixels)
    given = filled.copy()
    result = blend(pixels, filled, mask)
    assert np.array_equal(result[mask == 0], pixels[mask == 0]) and result.dtype == dtype
    assert np.array_equal(filled, given)
