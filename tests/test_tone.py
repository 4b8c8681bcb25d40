"""Tone: what is measured is exact, and matching changes nothing that is already right."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imgedit.backends.latents.pool8 import Pool8
from imgedit.errors import UsageError
from imgedit.frame import Frame, Sidecar, Step, ToneStats
from imgedit.ops import tone
from imgedit.ops.color import lab
from imgedit.stages.match_hist import match_hist

MODES = ("quantile", "mean-std", "lab")
SMALL = st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3))
PICTURES = st.one_of(hnp.arrays(np.uint8, SMALL), hnp.arrays(np.uint16, SMALL))


def stats(pixels: Any, mask: Any = None) -> ToneStats:
    return ToneStats(**tone.measure(pixels, mask), masked=mask is not None)


def photo(dtype: Any = np.uint8, seed: int = 1) -> Any:
    """A smooth picture with noise that uses most of the range, but not its ends."""
    rng = np.random.default_rng(seed)
    full = np.iinfo(dtype).max
    y, x = np.mgrid[0:180, 0:240] / 240
    waves = np.stack([np.sin(6 * x + 2 * y), np.cos(5 * y - x), np.sin(7 * x * y + 1)], axis=2)
    return np.clip((0.5 + 0.3 * waves + 0.05 * rng.standard_normal(waves.shape)) * full, 3, full - 3).astype(dtype)


# --- measuring -------------------------------------------------------------------------------------------


@given(PICTURES)
@settings(max_examples=60, deadline=None)
def test_mean_and_deviation_are_those_of_numpy(pixels: Any) -> None:
    full = np.iinfo(pixels.dtype).max
    found = stats(pixels)
    flat = pixels.reshape(-1, 3).astype(np.float64) / full
    np.testing.assert_allclose(found.mean, flat.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.std, flat.std(axis=0), atol=1e-6)


@given(PICTURES)
@settings(max_examples=60, deadline=None)
def test_quantiles_ascend_within_the_range_of_the_picture(pixels: Any) -> None:
    full = np.iinfo(pixels.dtype).max
    for channel, quantiles in enumerate(stats(pixels).quantiles):
        values = np.array(quantiles) * full
        assert len(values) == tone.PROBABILITIES
        assert (np.diff(values) >= 0).all()
        assert pixels[..., channel].min() - 0.6 <= values[0]
        assert values[-1] <= pixels[..., channel].max() + 0.6
        assert 0 <= values[0] <= values[-1] <= full


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_quantiles_are_those_of_numpy_within_a_level(dtype: Any) -> None:
    pixels = photo(dtype)
    probabilities = np.linspace(0, 1, tone.PROBABILITIES)
    wanted = np.quantile(pixels.reshape(-1, 3), probabilities, axis=0).T
    found = np.array(stats(pixels).quantiles) * np.iinfo(dtype).max
    # in 16 bit, neighbours in rank are some levels apart
    assert np.abs(found - wanted)[:, 1:-1].max() <= (1 if dtype == np.uint8 else 32)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_the_mask_covers_does_not_count(dtype: Any) -> None:
    pixels = photo(dtype)
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[20:90, 30:200], mask[150, 5] = 255, 1
    changed = pixels.copy()
    changed[mask > 0] = np.iinfo(dtype).max
    assert stats(changed, mask) == stats(pixels, mask)
    outside = pixels[mask == 0]
    np.testing.assert_allclose(stats(pixels, mask).mean, outside.mean(axis=0) / np.iinfo(dtype).max, atol=1e-6)


def test_a_mask_over_everything_counts_everything() -> None:
    pixels = photo()
    assert tone.measure(pixels, np.full(pixels.shape[:2], 9, np.uint8)) == tone.measure(pixels)


def test_lab_is_sampled_where_the_mask_leaves_anything() -> None:
    pixels = np.full((2000, 600, 3), 40, np.uint8)
    pixels[1, 0] = 200
    mask = np.full(pixels.shape[:2], 255, np.uint8)
    mask[1, 0] = 0
    np.testing.assert_allclose(stats(pixels, mask).lab_mean, lab(pixels[1, 0]), atol=1e-5)
    assert tone._lattice(pixels, np.zeros_like(mask)).shape[0] <= tone.SAMPLE


@pytest.mark.parametrize("shape", [(1, 1), (3, 700), (61, 47), (200, 130)])
def test_the_lattice_does_not_depend_on_bands(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tone, "SAMPLE", 500)
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    for band in (1 << 20, 300, 70):
        monkeypatch.setattr(tone, "_BAND", band)
        taken: list[Any] = []
        tone._histograms(pixels, taken=taken)
        assert np.array_equal(np.concatenate(taken), tone._lattice(pixels, np.zeros(shape, np.uint8)))


# --- matching --------------------------------------------------------------------------------------------


@given(PICTURES, st.sampled_from(MODES), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_equal_tone_changes_nothing(pixels: Any, mode: Any, strength: float) -> None:
    same = stats(pixels)
    assert np.array_equal(tone.match(pixels, same, same, mode, strength), pixels)


@given(PICTURES, PICTURES, st.sampled_from(MODES))
@settings(max_examples=60, deadline=None)
def test_strength_0_changes_nothing(pixels: Any, other: Any, mode: Any) -> None:
    assert np.array_equal(tone.match(pixels, stats(pixels), stats(other), mode, 0.0), pixels)


@pytest.mark.parametrize("mode", MODES)
def test_strength_goes_part_of_the_way(mode: Any) -> None:
    pixels, target = photo(), stats(photo(seed=2) // 2)
    half, whole = (tone.match(pixels, stats(pixels), target, mode, strength) for strength in (0.5, 1.0))
    middle = (pixels.mean() + whole.mean()) / 2
    assert abs(half.mean() - middle) < 0.1 * abs(whole.mean() - pixels.mean())


@pytest.mark.parametrize("levels", [(0, 255), (10, 240), (0, 1)])
def test_two_levels_stay_two_levels(levels: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    pixels = np.where(rng.random((50, 60, 1)) < 0.5, *levels).astype(np.uint8).repeat(3, axis=2)
    moved = pixels.copy()
    moved[0, :9] = levels[0]
    assert set(np.unique(tone.match(moved, stats(moved), stats(pixels), "quantile"))) <= set(levels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("mode", ["quantile", "mean-std"])
def test_a_shift_of_level_is_undone(dtype: Any, mode: Any) -> None:
    pixels = photo(dtype)
    full = np.iinfo(dtype).max
    narrow = (pixels // 2).astype(np.float64) if mode == "mean-std" else pixels * 0.8
    shifted = np.rint(narrow + 0.1 * full).astype(dtype)
    result = tone.match(shifted, stats(shifted), stats(pixels), mode)
    assert result.dtype == dtype
    assert np.abs(result.astype(np.float64) - pixels).mean() <= (1 if dtype == np.uint8 else 8)
    assert abs((result.astype(np.float64) - pixels).mean()) < (0.1 if dtype == np.uint8 else 3)


@pytest.mark.parametrize("gamma", [0.7, 1.3])
def test_a_gamma_shift_is_undone_at_the_quantiles_without_bias(gamma: float) -> None:
    pixels = photo()
    shifted = np.rint(255 * (pixels / 255) ** gamma).astype(np.uint8)
    result = tone.match(shifted, stats(shifted), stats(pixels), "quantile")
    off = 255 * (np.array(stats(result).quantiles) - np.array(stats(pixels).quantiles))
    assert np.abs(off).max() <= 1.5
    assert abs(result.mean() - pixels.mean()) < 0.1


def test_lab_moves_mean_and_deviation_to_the_target() -> None:
    target = photo(seed=2)
    pixels = np.rint(photo() * 0.7 + 20).astype(np.uint8)
    result = stats(tone.match(pixels, stats(pixels), stats(target), "lab"))
    np.testing.assert_allclose(result.lab_mean, stats(target).lab_mean, atol=0.3)
    np.testing.assert_allclose(result.lab_std, stats(target).lab_std, rtol=0.03)


def test_lab_is_turned_back_exactly() -> None:
    every = np.random.default_rng(0).integers(0, 65536, (20000, 3), dtype=np.uint16)
    assert np.abs(tone._rgb(lab(every).T) * 65535 - every).max() < 2


@pytest.mark.parametrize("mode", MODES)
def test_grey_stays_grey(mode: Any) -> None:
    pixels = photo()[..., :1].repeat(3, axis=2)
    target = photo(seed=5)[..., 1:2].repeat(3, axis=2) // 2
    result = tone.match(pixels, stats(pixels), stats(target), mode)
    assert (result == result[..., :1]).all()
    assert abs(result.mean() - target.mean()) < (0.5 if mode != "lab" else 2)


@given(hnp.arrays(np.uint8, SMALL), hnp.arrays(np.uint8, SMALL))
@settings(max_examples=60, deadline=None)
def test_the_quantile_map_ascends_and_keeps_black_and_white_beyond_the_range(pixels: Any, other: Any) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    result = tone.match(ramp, stats(pixels), stats(other), "quantile").reshape(-1, 3).astype(int)
    assert (np.diff(result, axis=0) >= 0).all()
    for channel in range(3):
        if pixels[..., channel].min() > 0:
            assert result[0, channel] == 0
        if pixels[..., channel].max() < 255:
            assert result[255, channel] == 255


def test_a_flat_picture_takes_the_middle_of_the_target() -> None:
    pixels = np.full((5, 7, 3), 80, np.uint8)
    target = photo()
    result = tone.match(pixels, stats(pixels), stats(target), "quantile")
    assert np.abs(result[0, 0] - np.median(target.reshape(-1, 3), axis=0)).max() <= 1
    assert (result == result[0, 0]).all()


# --- the stage -------------------------------------------------------------------------------------------


def step(before: ToneStats | None, source: str, result: str) -> Step:
    return Step("any", {}, source, result, tone_before=before)


def test_without_reference_the_tone_before_the_last_change_is_wanted() -> None:
    wanted, other = stats(photo(seed=2)), stats(photo(seed=3) // 2)
    steps = (step(other, "a", "b"), step(wanted, "b", "c"), step(other, "c", "c"), step(None, "c", "d"))
    frame = Frame(photo(), sidecar=Sidecar(steps=steps))
    given = match_hist(frame, reference=wanted)
    assert np.array_equal(match_hist(frame).pixels, given.pixels)
    assert not np.array_equal(given.pixels, frame.pixels)


def test_without_reference_and_history_it_is_refused() -> None:
    # a step that changed pixels, and does not say what was before it
    frame = Frame(photo(), sidecar=Sidecar(steps=(step(None, "a", "b"),)))
    with pytest.raises(UsageError) as caught:
        match_hist(frame)
    assert "--reference" in caught.value.hint


def test_the_stage_measures_outside_the_mask_and_changes_the_whole_picture() -> None:
    pixels = photo()
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[:60] = 255
    frame = Frame(pixels, alpha=pixels[..., 0], mask=mask)
    target = stats(np.minimum(pixels.astype(int) + 30, 255).astype(np.uint8), mask)
    result = match_hist(frame, reference=target)
    np.testing.assert_allclose(stats(result.pixels, mask).mean, target.mean, atol=0.5 / 255)
    assert (result.pixels[:60] > pixels[:60]).mean() > 0.95
    assert np.array_equal(result.alpha, frame.alpha)


def test_a_picture_that_has_the_tone_is_the_same_object() -> None:
    frame = Frame(photo())
    assert match_hist(frame, reference=stats(frame.pixels)) is frame


# --- pool8 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (8, 8), (17, 31), (300, 41)])
def test_pool8_is_what_it_says_of_each_cell(shape: tuple[int, int], dtype: Any) -> None:
    full = np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(0, full + 1, (*shape, 3)).astype(dtype)
    latents = Pool8().latents(pixels)
    assert latents.shape == (4, -(-shape[0] // 8), -(-shape[1] // 8))
    for row in range(latents.shape[1]):
        for column in range(latents.shape[2]):
            cell = pixels[8 * row : 8 * row + 8, 8 * column : 8 * column + 8].reshape(-1, 3) / full
            red, green, blue = cell.mean(axis=0)
            luma = 0.299 * red + 0.587 * green + 0.114 * blue
            wanted = [2 * luma - 1, (blue - luma) / 0.886, (red - luma) / 0.701, 2 * cell[:, 1].std()]
            np.testing.assert_allclose(latents[:, row, column], wanted, atol=1e-9)


def test_pool8_states_encoder_grid_shape_and_statistics() -> None:
    pixels = photo()
    found, latents = Pool8().encode(pixels), Pool8().latents(pixels)
    assert (found.encoder, found.grid, found.shape) == ("pool8", 8, latents.shape)
    np.testing.assert_allclose(found.mean, latents.mean(axis=(1, 2)), atol=1e-6)
    np.testing.assert_allclose(found.std, latents.std(axis=(1, 2)), atol=1e-6)


def test_pool8_of_a_flat_grey_has_no_colour_and_no_activity() -> None:
    found = Pool8().encode(np.full((30, 50, 3), 51, np.uint8))
    np.testing.assert_allclose(found.mean, (2 * 0.2 - 1, 0, 0, 0), atol=1e-6)
    assert found.std == (0, 0, 0, 0)


def test_pool8_of_16_bit_is_that_of_8_bit() -> None:
    pixels = photo()
    eight, sixteen = Pool8().encode(pixels), Pool8().encode(pixels.astype(np.uint16) * 257)
    np.testing.assert_allclose(eight.mean, sixteen.mean, atol=2e-6)
    np.testing.assert_allclose(eight.std, sixteen.std, atol=2e-6)


def test_match_takes_anything_with_the_fields_of_a_tone() -> None:
    pixels = photo()
    loose = SimpleNamespace(**tone.measure(pixels))
    assert np.array_equal(
        tone.match(pixels, loose, stats(photo(seed=2)), "quantile"),
        tone.match(pixels, stats(pixels), stats(photo(seed=2)), "quantile"),
    )
