"""The metrics against known answers, against scikit-image, and against their own definitions."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from imgedit.errors import DataError
from imgedit.ops import bands, gradients, metrics, pixelwise, structure
from imgedit.ops.color import lab
from imgedit.ops.difference import delta_e
from imgedit.ops.pairs import fitted, pair

# Sharma, Wu, Dalal 2005, table 1: L1 a1 b1 L2 a2 b2 ΔE00
SHARMA = """
50 2.6772 -79.7751 50 0 -82.7485 2.0425
50 3.1571 -77.2803 50 0 -82.7485 2.8615
50 2.8361 -74.0200 50 0 -82.7485 3.4412
50 -1.3802 -84.2814 50 0 -82.7485 1.0000
50 -1.1848 -84.8006 50 0 -82.7485 1.0000
50 -0.9009 -85.5211 50 0 -82.7485 1.0000
50 0 0 50 -1 2 2.3669
50 -1 2 50 0 0 2.3669
50 2.4900 -0.0010 50 -2.4900 0.0009 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0010 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0011 7.2195
50 2.4900 -0.0010 50 -2.4900 0.0012 7.2195
50 -0.0010 2.4900 50 0.0009 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0010 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0011 -2.4900 4.7461
50 2.5000 0 50 0 -2.5000 4.3065
50 2.5000 0 73 25 -18 27.1492
50 2.5000 0 61 -5 29 22.8977
50 2.5000 0 56 -27 -3 31.9030
50 2.5000 0 58 24 15 19.4535
50 2.5000 0 50 3.1736 0.5854 1.0000
50 2.5000 0 50 3.2972 0 1.0000
50 2.5000 0 50 1.8634 0.5757 1.0000
50 2.5000 0 50 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
"""


#: measured in the picture alone, without a look at the reference
ALONE = ("seam", "seam_signed")


def photo() -> Any:
    """A photograph of 400×500 pixels."""
    return np.ascontiguousarray(data.stereo_motorcycle()[0][:400, :500])


def texture(name: str) -> Any:
    return cv2.cvtColor(getattr(data, name)(), cv2.COLOR_GRAY2RGB)


def noisy(pixels: Any, sigma: float, seed: int = 0) -> Any:
    full = np.iinfo(pixels.dtype).max
    noise = np.random.default_rng(seed).normal(0, sigma, pixels.shape)
    return np.clip(np.round(pixels + noise), 0, full).astype(pixels.dtype)


def measured(picture: Any, reference: Any, *names: str, **options: Any) -> dict[str, dict[str, float]]:
    return metrics.measure(pair(picture, reference, **options), names or tuple(metrics.METRICS))


def whole(picture: Any, reference: Any, name: str) -> float:
    return measured(picture, reference, name)[name]["whole"]


# --- colour ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 6e-5), (np.float32, 1e-3)])
def test_ciede2000_of_the_34_published_pairs(dtype: Any, tolerance: float) -> None:
    table = np.array([line.split() for line in SHARMA.split("\n") if line], np.float64)
    assert len(table) == 34
    first, second = table[:, :3].T.astype(dtype), table[:, 3:6].T.astype(dtype)
    expected = table[:, 6]
    # pairs 10 and 14 are opposite hues to the last digit, which float32 cannot hold
    sure = np.ones(34, bool) if dtype == np.float64 else ~np.isin(np.arange(34), [9, 13])
    for found in (delta_e(first, second), delta_e(second, first)):
        assert found.dtype == dtype
        np.testing.assert_allclose(found[sure], expected[sure], atol=tolerance, rtol=0)


def test_ciede2000_agrees_with_scikit_image_on_random_colours() -> None:
    colours = np.random.default_rng(1).integers(0, 256, (2, 20000, 3), dtype=np.uint8)
    first, second = (lab(c).astype(np.float64) for c in colours)
    expected = deltaE_ciede2000(first, second)
    found = delta_e(first.T.copy(), second.T.copy())
    np.testing.assert_allclose(found, expected, atol=5e-4)
    single = delta_e(lab(colours[0]).T.copy(), lab(colours[1]).T.copy())
    # colours of nearly opposite hue are ill-conditioned: few, and a small part of a large difference
    assert np.mean(np.abs(single - expected)) < 5e-5
    assert np.max(np.abs(single - expected) / expected) < 3e-3


@pytest.mark.parametrize("convert", [lambda p: p, lambda p: p.astype(np.uint16) * 257, lambda p: p / 255])
def test_lab_of_all_depths(convert: Any) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (37, 91, 3), dtype=np.uint8)
    pixels[:5] //= 16
    found = lab(convert(pixels))
    assert found.dtype == np.float32 and found.shape == pixels.shape
    # scikit-image's white point and matrix differ in the fourth digit, so its white has b* = 0.005
    np.testing.assert_allclose(found, rgb2lab(pixels), atol=6e-3)


def test_lab_of_white_black_and_greys() -> None:
    greys = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
    found = lab(greys)
    np.testing.assert_allclose(found[[0, 255], 0], [0, 100], atol=1e-5)
    assert np.abs(found[:, 1:]).max() < 1e-4
    assert np.all(np.diff(found[:, 0]) > 0)


def test_lab_of_one_pixel_and_of_more_than_one_chunk() -> None:
    pixels = np.random.default_rng(3).integers(0, 65536, (40001, 3), dtype=np.uint16)
    np.testing.assert_array_equal(lab(pixels)[-1], lab(pixels[-1]))


# --- known answers -----------------------------------------------------------------------------------------


def test_a_difference_of_one_everywhere() -> None:
    reference = np.random.default_rng(0).integers(0, 255, (50, 60, 3), dtype=np.uint8)
    found = measured(reference + 1, reference)
    assert found["psnr"]["whole"] == pytest.approx(48.1308, abs=1e-4)
    assert found["rmse"]["whole"] == pytest.approx(1 / 255)
    assert found["max"]["whole"] == pytest.approx(1 / 255)
    assert found["changed"]["whole"] == 1


def test_black_against_white() -> None:
    black, white = np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 255, np.uint8)
    found = measured(white, black)
    for name in ("rmse", "max", "changed"):
        assert found[name]["whole"] == 1
    assert found["psnr"]["whole"] == 0
    assert found["de2000"]["whole"] == pytest.approx(100, abs=1e-3)


def test_rmse_of_one_channel_of_one_pixel_at_16_bits() -> None:
    reference = np.full((100, 100, 3), 30000, np.uint16)
    picture = reference.copy()
    picture[50, 50, 1] += 1
    found = measured(picture, reference)
    assert found["rmse"]["whole"] == pytest.approx(1 / 65535 / np.sqrt(30000))
    assert found["changed"]["whole"] == pytest.approx(1e-4)
    assert found["psnr"]["whole"] < metrics.PSNR_EQUAL


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_squares_are_counted_exactly(dtype: Any) -> None:
    rng = np.random.default_rng(4)
    first, second = rng.integers(0, np.iinfo(dtype).max + 1, (2, 300, 501, 3)).astype(dtype)
    mask = (rng.random((300, 501)) < 0.3).astype(np.uint8) * 255
    found = pixelwise.tally(first, second, {"whole": None, "inside": mask})
    squares = (first.astype(np.int64) - second) ** 2
    assert found["whole"].squares == squares.sum()
    assert found["inside"].squares == squares[mask > 0].sum()


def test_equal_pictures_have_the_best_value_of_every_metric() -> None:
    pixels = photo()
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[100:200, 100:220] = 255
    found = measured(pixels, pixels.copy(), mask=mask)
    assert set(found) == set(metrics.METRICS)
    for name, values in found.items():
        if name not in ALONE:
            assert set(values.values()) == {metrics.METRICS[name].good}, name


def test_16_bits_give_what_8_bits_give() -> None:
    reference = photo()[:200, :250]
    picture = noisy(reference, 6)
    deep = measured(picture.astype(np.uint16) * 257, reference.astype(np.uint16) * 257)
    mixed = measured(picture, reference.astype(np.uint16) * 257)
    for name, values in measured(picture, reference).items():
        assert deep[name]["whole"] == pytest.approx(values["whole"], rel=1e-4, abs=1e-6), name
        assert mixed[name] == deep[name]


# --- against scikit-image and plain definitions ---------------------------------------------------------------


def grey(pixels: Any) -> Any:
    return pixels @ np.array([0.299, 0.587, 0.114])


@pytest.mark.parametrize(
    "change", [lambda p: noisy(p, 8), lambda p: cv2.GaussianBlur(p, (0, 0), 1.5), lambda p: p // 2]
)
@pytest.mark.parametrize("size", [(400, 500), (57, 201), (11, 11), (11, 300)])
def test_ssim_agrees_with_scikit_image(change: Any, size: tuple[int, int]) -> None:
    reference = photo()[: size[0], : size[1]]
    picture = change(reference)
    expected = structural_similarity(
        grey(picture), grey(reference), data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert whole(picture, reference, "ssim") == pytest.approx(expected, abs=2e-5)


def test_ms_ssim_is_the_weighted_product_of_its_scales() -> None:
    reference = photo()
    picture = noisy(reference, 10)
    expected, first, second = 1.0, grey(picture), grey(reference)
    c1, c2 = 0.01**2, 0.03**2

    def blur(values: Any) -> Any:
        return cv2.GaussianBlur(values, (11, 11), 1.5)[5:-5, 5:-5]

    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        x, y = first / 255, second / 255
        mx, my = blur(x), blur(y)
        cs = (2 * (blur(x * y) - mx * my) + c2) / (blur(x * x) - mx**2 + blur(y * y) - my**2 + c2)
        luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
        expected *= np.mean(cs * luminance if scale == 4 else cs) ** weight
        rows, columns = first.shape[0] // 2, first.shape[1] // 2
        first, second = (
            v[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2).mean(axis=(1, 3)) for v in (first, second)
        )
    assert whole(picture, reference, "ms_ssim") == pytest.approx(expected, abs=2e-5)


def test_gmsd_is_the_deviation_of_the_gradient_similarity() -> None:
    reference = photo()[:300, :400]
    picture = cv2.GaussianBlur(reference, (0, 0), 2)
    maps = []
    for pixels in (picture, reference):
        half = grey(pixels).reshape(150, 2, 200, 2).mean(axis=(1, 3))
        edge = np.pad(half, 1, mode="edge")
        across = sum(edge[i : i + 150, 2:] - edge[i : i + 150, :-2] for i in range(3)) / 3
        down = sum(edge[2:, i : i + 200] - edge[:-2, i : i + 200] for i in range(3)) / 3
        maps.append(np.hypot(across, down))
    similarity = (2 * maps[0] * maps[1] + 170) / (maps[0] ** 2 + maps[1] ** 2 + 170)
    assert whole(picture, reference, "gmsd") == pytest.approx(np.std(similarity), abs=1e-5)


def test_gradient_energy_is_the_mean_squared_step() -> None:
    pixels = photo()
    luma = grey(pixels) / 255
    squares = (luma[:-1, 1:] - luma[:-1, :-1]) ** 2 + (luma[1:, :-1] - luma[:-1, :-1]) ** 2
    found = gradients.gradients(pixels, {"whole": None})["whole"]
    assert found.pixels == squares.size
    assert found.energy == pytest.approx(squares.sum(), rel=1e-4)
    assert found.histogram.sum() == squares.size


# --- symmetry, order, partition -------------------------------------------------------------------------------

SYMMETRIC = ("rmse", "psnr", "max", "changed", "de2000", "ssim", "ms_ssim", "gmsd", "gradient_distance")


def test_metrics_that_do_not_know_which_is_the_reference() -> None:
    reference = photo()
    picture = noisy(reference, 12)
    there, back = measured(picture, reference, *SYMMETRIC), measured(reference, picture, *SYMMETRIC)
    for name in SYMMETRIC:
        assert there[name]["whole"] == pytest.approx(back[name]["whole"], rel=1e-6), name
    ratios = [whole(picture, reference, "gradient_ratio"), whole(reference, picture, "gradient_ratio")]
    assert ratios[0] * ratios[1] == pytest.approx(1)


@pytest.mark.parametrize(
    "name", [n for n in metrics.METRICS if n not in ("alpha_max", "blockiness", "halo", "halo_signed", *ALONE)]
)
def test_more_noise_is_worse(name: str) -> None:
    reference = photo()
    good = metrics.METRICS[name].good
    away = [abs(whole(noisy(reference, sigma), reference, name) - good) for sigma in (0.3, 3, 12, 40)]
    assert away == sorted(away)
    assert away[-1] > away[0]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**32 - 1), st.sampled_from([np.uint8, np.uint16]))
def test_the_whole_is_the_weighted_mean_of_inside_and_outside(rows: int, columns: int, seed: int, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, np.iinfo(dtype).max + 1, (2, rows, columns, 3)).astype(dtype)
    mask = rng.integers(0, 2, (rows, columns)).astype(np.uint8) * 130
    found = measured(first, second, "rmse", "changed", "de2000", "max", mask=mask)
    share = {"inside": np.mean(mask > 0), "outside": np.mean(mask == 0)}
    for name, power in (("rmse", 2), ("changed", 1), ("de2000", 1)):
        parts = sum(share[region] * found[name][region] ** power for region in share if region in found[name])
        assert parts == pytest.approx(found[name]["whole"] ** power, rel=1e-6), name
    assert found["max"]["whole"] == max(found["max"].get(region, 0) for region in share)


def test_regions_are_told_apart() -> None:
    reference = photo()
    mask = np.zeros(reference.shape[:2], np.uint8)
    mask[100:200, 150:300] = 1  # weights above 0 are inside
    picture = np.where(mask[..., None] > 0, noisy(reference, 20), reference)
    found = measured(picture, reference, mask=mask)
    for name in ("rmse", "max", "changed", "de2000", "de2000_max"):
        assert found[name]["outside"] == 0, name
        assert found[name]["inside"] >= found[name]["whole"] > 0, name
        assert found[name]["ring"] > 0, name
    assert found["psnr"]["outside"] == metrics.PSNR_EQUAL
    assert found["ssim"]["inside"] < found["ssim"]["ring"] < found["ssim"]["outside"]


def test_ring_is_a_band_on_both_sides_of_the_edge() -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, :30] = 255
    ring = pair(np.zeros((60, 80, 3), np.uint8), np.zeros((60, 80, 3), np.uint8), mask=mask, ring=3).regions["ring"]
    assert ring is not None
    np.testing.assert_array_equal(np.flatnonzero(ring[30]), np.arange(27, 33))  # the picture's border is no edge
    np.testing.assert_array_equal(np.flatnonzero(ring[:, 10]), [*range(17, 23), *range(37, 43)])


# --- what the gradient metrics are for -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["brick", "grass", "gravel"])
@pytest.mark.parametrize("size", [8, 16])
def test_a_weave_turned_into_blocks_is_caught(name: str, size: int) -> None:
    weave = texture(name)
    rows, columns = weave.shape[:2]
    small = cv2.resize(weave, (columns // size, rows // size), interpolation=cv2.INTER_AREA)
    blocks = cv2.resize(small, (columns, rows), interpolation=cv2.INTER_NEAREST)
    found = measured(blocks, weave, "gradient_ratio", "gradient_distance", "blockiness")
    assert found["gradient_ratio"]["whole"] < 0.6
    assert found["gradient_distance"]["whole"] > 0.35
    assert found["blockiness"]["whole"] > 3
    # while another piece of the same weave is no fault
    found = measured(np.roll(weave, (5, 3), (0, 1)), weave, "gradient_ratio", "gradient_distance", "blockiness")
    assert found["gradient_ratio"]["whole"] == pytest.approx(1, abs=0.05)
    assert found["gradient_distance"]["whole"] < 0.02
    assert found["blockiness"]["whole"] < 0.2


def test_jpeg_blocks_are_graded_by_blockiness() -> None:
    weave = texture("grass")
    found = []
    for quality in (95, 60, 10):
        coded = cv2.imdecode(cv2.imencode(".jpg", weave, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
        found.append(whole(coded, weave, "blockiness"))
    assert found == sorted(found)
    assert found[0] < 0.1 < 0.5 < found[-1]


@pytest.mark.parametrize("step", [-6, -2, 3, 10])
def test_halo_is_the_step_at_the_edge(step: int) -> None:
    reference = np.clip(texture("gravel"), 20, 230)
    mask = np.zeros(reference.shape[:2], np.uint8)
    cv2.circle(mask, (200, 180), 60, 255, -1)
    picture = np.where(mask[..., None] > 0, reference.astype(int) + step, reference).astype(np.uint8)
    found = measured(picture, reference, "halo", "halo_signed", mask=mask)
    assert found["halo"]["ring"] == pytest.approx(abs(step) / 255, rel=1e-3)
    assert found["halo_signed"]["ring"] == pytest.approx(step / 255, rel=1e-3)
    # a picture that is brighter everywhere has no halo
    assert measured(reference + 5, reference, "halo", mask=mask)["halo"]["ring"] < 1e-5


def test_a_bright_and_a_dark_halo_do_not_cancel() -> None:
    reference = np.full((200, 400, 3), 120, np.uint8)
    mask = np.zeros((200, 400), np.uint8)
    mask[80:120, 50:100] = mask[80:120, 300:350] = 255
    picture = reference.copy()
    picture[80:120, 50:100] += 10
    picture[80:120, 300:350] -= 10
    found = measured(picture, reference, "halo", "halo_signed", mask=mask)
    assert found["halo"]["ring"] == pytest.approx(10 / 255, rel=1e-3)
    assert abs(found["halo_signed"]["ring"]) < 1e-6


def test_halo_finds_a_step_beneath_noise() -> None:
    reference = photo()
    mask = np.zeros(reference.shape[:2], np.uint8)
    mask[150:250, 150:350] = 255
    noise = np.where(mask[..., None] > 0, noisy(np.clip(reference, 30, 220), 8), np.clip(reference, 30, 220))
    lifted = np.where(mask[..., None] > 0, noise + np.uint8(6), noise)
    base = np.clip(reference, 30, 220)
    quiet, loud = (measured(p, base, "halo", mask=mask)["halo"]["ring"] for p in (noise, lifted))
    assert quiet < 2 / 255 < 5 / 255 < loud < 7 / 255


@pytest.mark.parametrize("step", [-20, -3, 8, 40])
def test_a_seam_is_the_step_at_the_edge_that_there_is_not_beside_it(step: int) -> None:
    flat = np.full((200, 240, 3), 100, np.uint8)
    mask = np.zeros(flat.shape[:2], np.uint8)
    cv2.circle(mask, (120, 100), 40, 255, -1)
    picture = np.where(mask[..., None] > 0, flat.astype(int) + step, flat).astype(np.uint8)
    # against whatever reference: itself, and another picture
    for reference in (picture, flat // 3):
        found = measured(picture, reference, "seam", "seam_signed", mask=mask)
        assert found["seam"]["ring"] == pytest.approx(abs(step) / 255, rel=1e-3)
        assert found["seam_signed"]["ring"] == pytest.approx(step / 255, rel=1e-3)


def test_what_the_picture_has_of_itself_is_no_seam() -> None:
    columns = np.arange(300, dtype=np.float64)
    ramp = np.repeat(np.tile(columns * 0.5 + 20, (200, 1)).astype(np.uint8)[..., None], 3, axis=2)
    mask = np.zeros(ramp.shape[:2], np.uint8)
    mask[:, 120:180] = 255  # from border to border: across the ramp only
    assert abs(measured(ramp, ramp, "seam", mask=mask)["seam"]["ring"]) < 0.2 / 255
    weave = np.clip(texture("grass"), 20, 235)
    mask = np.zeros(weave.shape[:2], np.uint8)
    mask[150:350, 100:400] = 255
    lifted = np.where(mask[..., None] > 0, weave + np.uint8(20), weave)
    own, seen = (measured(p, weave, "seam", mask=mask)["seam"]["ring"] for p in (weave, lifted))
    assert abs(own) < 5 / 255 < own + 10 / 255 < seen


def test_a_seam_needs_an_edge_and_room_beside_it() -> None:
    pixels = photo()[:60, :60]
    for mask in (np.zeros((60, 60), np.uint8), np.full((60, 60), 255, np.uint8)):
        assert "seam" not in measured(pixels, pixels, mask=mask)
    mask = np.full((60, 60), 255, np.uint8)
    mask[:4] = 0  # no line eight pixels outside
    assert "seam" not in measured(pixels, pixels, mask=mask)


# --- alpha ----------------------------------------------------------------------------------------------------


def test_an_opaque_alpha_is_no_alpha() -> None:
    pixels = photo()[:50, :50]
    opaque = np.full((50, 50), 255, np.uint8)
    assert measured(noisy(pixels, 5), pixels, alpha=opaque) == measured(noisy(pixels, 5), pixels)


def test_pictures_that_differ_in_alpha_alone_are_not_equal() -> None:
    pixels = photo()[:200, :200]
    alpha = np.full((200, 200), 255, np.uint8)
    alpha[50:100, 50:100] = 128
    for options in ({"alpha": alpha}, {"reference_alpha": alpha}):
        found = measured(pixels, pixels, **options)
        assert found["alpha_max"]["whole"] == pytest.approx(127 / 255)
        assert found["max"]["whole"] == pytest.approx(127 / 255)
        assert found["changed"]["whole"] == pytest.approx(50 * 50 / 200**2)
        assert found["rmse"]["whole"] == pytest.approx(127 / 255 / 4 / 2)
        for name in ("psnr", "de2000", "ssim", "gmsd"):
            assert found[name]["whole"] != metrics.METRICS[name].good, name


@pytest.mark.parametrize("colour", [0, 255])
def test_transparent_black_is_not_opaque_black(colour: int) -> None:
    pixels = np.full((20, 20, 3), colour, np.uint8)
    found = measured(pixels, pixels, "de2000", alpha=np.zeros((20, 20), np.uint8))
    assert found["de2000"]["whole"] == pytest.approx(100, abs=1e-3)  # over the other of black and white


def test_what_lies_beneath_full_transparency_counts_in_rmse_only() -> None:
    pixels = photo()[:50, :50]
    clear = np.zeros((50, 50), np.uint8)
    found = measured(noisy(pixels, 9), pixels, "rmse", "de2000", alpha=clear, reference_alpha=clear)
    assert found["rmse"]["whole"] > 0.01
    assert found["de2000"]["whole"] == 0


# --- sizes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "columns"), [(1, 1), (1, 4000), (4000, 1), (2, 2), (5, 7), (11, 11), (33, 17), (176, 176)]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_size_is_measured_without_nan(rows: int, columns: int, dtype: Any) -> None:
    rng = np.random.default_rng(5)
    first, second = rng.integers(0, np.iinfo(dtype).max + 1, (2, rows, columns, 3)).astype(dtype)
    for mask in (None, np.zeros((rows, columns), np.uint8), np.full((rows, columns), 255, np.uint8)):
        for other in (second, first, np.zeros_like(first)):
            found = measured(first, other, mask=mask)
            assert {"rmse", "psnr", "max", "changed", "alpha_max", "de2000"} <= set(found)
            assert np.isfinite([value for values in found.values() for value in values.values()]).all()
            assert ("ssim" in found) == (min(rows, columns) >= 11)
            assert ("ms_ssim" in found) == (min(rows, columns) >= 176)


def test_an_empty_region_has_no_value() -> None:
    pixels = photo()[:50, :50]
    found = measured(pixels, pixels, mask=np.zeros((50, 50), np.uint8))
    assert set(found["rmse"]) == {"whole", "outside"}
    assert "halo" not in found


@pytest.mark.parametrize(("size", "other"), [((10, 10), (10, 20)), ((20, 10), (10, 20)), ((100, 100), (50, 60))])
def test_another_shape_is_refused_even_with_scale(size: tuple[int, int], other: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="not of the same shape"):
        pair(np.zeros((*size, 3), np.uint8), np.zeros((*other, 3), np.uint8), scale="down")


@pytest.mark.parametrize(("size", "other"), [((1, 1), (106, 106)), ((67, 101), (134, 202)), ((34, 51), (67, 101))])
def test_another_size_needs_scale(size: tuple[int, int], other: tuple[int, int]) -> None:
    first, second = np.zeros((*size, 3), np.uint8), np.zeros((*other, 3), np.uint8)
    with pytest.raises(DataError, match="different sizes"):
        pair(first, second)
    assert pair(first, second, scale="down").picture.shape[:2] == size
    assert pair(second, first, scale="up").reference.shape[:2] == other


def test_scaled_pictures_of_the_same_thing_are_close() -> None:
    reference = photo()
    large = cv2.resize(reference, (1000, 800), interpolation=cv2.INTER_CUBIC)
    for scale in ("down", "up"):
        assert metrics.measure(pair(large, reference, scale=scale), ["psnr"])["psnr"]["whole"] > 35  # type: ignore[arg-type]


def test_a_thin_mask_survives_reduction() -> None:
    mask = np.zeros((400, 500), np.uint8)
    mask[201] = 1
    both = pair(photo(), photo()[::4, ::4].copy(), mask=mask, scale="down")
    inside = both.regions["inside"]
    assert inside is not None and inside.shape == (100, 125) and inside.any(axis=0).all()


# --- difference picture and threads -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_difference_picture(dtype: Any) -> None:
    full = np.iinfo(dtype).max
    reference = np.zeros((1, 5, 3), dtype)
    picture = reference.copy()
    picture[0, 1, 0], picture[0, 2, 1], picture[0, 3, 2] = 1, full // 4, full
    found = pixelwise.difference(picture, reference)
    assert found[0, 0] == 0 and found[0, 4] == 0
    assert found[0, 1] == (16 if dtype == np.uint8 else 1)
    assert found[0, 2] in (127, 128) and found[0, 3] == 255


def test_fitted_loses_no_spot() -> None:
    plane = np.zeros((90, 120), np.uint8)
    plane[37, 51] = 200
    assert fitted(plane, (30, 40)).max() == 200
    assert fitted(plane, (180, 240)).max() == 200


def test_results_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = np.tile(photo(), (3, 2, 1))
    picture = noisy(reference, 7)
    mask = np.zeros(reference.shape[:2], np.uint8)
    mask[100:900, 300:700] = 255
    found = []
    for threads in (1, 2, 4, 4):
        monkeypatch.setattr(bands, "_THREADS", threads)
        found.append(measured(picture, reference, mask=mask))
    assert found[0] == found[1] == found[2] == found[3]


def test_bands_cover_every_row_once() -> None:
    for rows, columns, pixels in ((1, 1, 10), (1, 4000, 10), (4000, 1, 64), (100, 7, 50)):
        parts = bands.bands(rows, columns, pixels)
        assert [r for part in parts for r in range(part.start, part.stop)] == list(range(rows))


def test_half_is_the_mean_of_four() -> None:
    pixels = photo()[:31, :45]
    expected = grey(pixels[:30, :44]).reshape(15, 2, 22, 2).mean(axis=(1, 3)) / 255
    np.testing.assert_allclose(structure.half(pixels), expected, atol=1e-6)
