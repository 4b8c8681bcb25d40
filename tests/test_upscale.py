"""Enlarging: within the local range, the input again when reduced, and centred, at any scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imgedit.backends.adapter import adapt
from imgedit.backends.upscale.lanczos import Lanczos
from imgedit.errors import UsageError
from imgedit.frame import Finding, Frame, MaskInfo, Region, Sidecar
from imgedit.ops import enlarge, limits, resample
from imgedit.stages.upscale import upscale

WHOLE = (2, 3, 4, 5, 8)
FRACTIONAL = (1.01, 1.5, 2.5, 2.7, 3.3, 7.9)
SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def enlarged(pixels: Any, scale: float, sharpen: float = 0.05) -> Any:
    rows, columns = (round(size * scale) for size in pixels.shape[:2])
    return Lanczos().upscale(pixels, rows, columns, sharpen=sharpen)


def noise(rows: int, columns: int, dtype: Any = np.uint8, seed: int = 0, channels: int = 3) -> Any:
    full = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, full + 1, (rows, columns, channels)).astype(dtype)


def photo(name: str) -> Any:
    data = pytest.importorskip("skimage.data")
    picture = cv2.imread(str(Path(data.__file__).parent / name), cv2.IMREAD_COLOR_RGB)
    return np.ascontiguousarray(picture[100:260, 60:300])


def reduced(pixels: Any, rows: int, columns: int) -> Any:
    """Return the mean over the ground of each of rows × columns input pixels, by areas, in float64."""
    down = resample.shares(rows, len(pixels), range(rows), range(len(pixels))) / len(pixels)
    across = resample.shares(columns, pixels.shape[1], range(columns), range(pixels.shape[1])) / pixels.shape[1]
    return np.einsum("ij,jkc,lk->ilc", down, pixels.astype(np.float64), across, optimize=True)


def allowed(pixels: Any, rows: int, columns: int) -> tuple[Any, Any]:
    """Return least and greatest of the 3×3 pixels round each output pixel's centre; of both where it is between two."""
    height, width, _ = pixels.shape
    square = np.ones((3, 3), np.uint8)
    result = []
    for spread, extreme in ((cv2.erode, np.minimum), (cv2.dilate, np.maximum)):
        near = spread(pixels, square).reshape(pixels.shape)
        y, x = (2 * np.arange(rows) + 1) * height, (2 * np.arange(columns) + 1) * width
        lines = extreme(near[(y - 1) // (2 * rows)], near[y // (2 * rows)])
        result.append(extreme(lines[:, (x - 1) // (2 * columns)], lines[:, x // (2 * columns)]))
    return result[0], result[1]


def in_range(pixels: Any, result: Any) -> bool:
    low, high = allowed(pixels, *result.shape[:2])
    return bool((result >= low).all() and (result <= high).all())


# --- the two limits --------------------------------------------------------------------------------------


@given(SHAPES, st.sampled_from(WHOLE), st.sampled_from([np.uint8, np.uint16]), st.floats(0, 1), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_whole_scales_reduce_to_the_input_and_stay_in_the_local_range(
    shape: tuple[int, int], scale: int, dtype: Any, sharpen: float, seed: int
) -> None:
    pixels = noise(*shape, dtype, seed)
    result = enlarged(pixels, scale, sharpen)
    assert result.dtype == pixels.dtype
    assert result.shape == (shape[0] * scale, shape[1] * scale, 3)
    assert in_range(pixels, result)
    assert np.abs(reduced(result, *shape) - pixels).max() <= np.iinfo(dtype).max / 255


@given(SHAPES, st.sampled_from(FRACTIONAL), st.sampled_from([np.uint8, np.uint16]), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_fractional_scales_stay_in_the_local_range(
    shape: tuple[int, int], scale: float, dtype: Any, sharpen: float
) -> None:
    pixels = noise(*shape, dtype)
    assert in_range(pixels, enlarged(pixels, scale, sharpen))


@pytest.mark.parametrize("scale", [*WHOLE, *FRACTIONAL])
@pytest.mark.parametrize("name", ["camera.png", "motorcycle_left.png"])
def test_photos_keep_both_limits(name: str, scale: float) -> None:
    pixels = photo(name)
    result = enlarged(pixels, scale)
    assert in_range(pixels, result)
    off = np.abs(reduced(result, *pixels.shape[:2]) - pixels)
    if scale in WHOLE:
        assert off.max() <= 1
    else:
        # where an output pixel belongs to two inputs, both limits cannot hold at a sharp edge
        plain = cv2.resize(pixels, result.shape[1::-1], interpolation=cv2.INTER_LANCZOS4)
        assert off.mean() < 0.8 * np.abs(reduced(plain, *pixels.shape[:2]) - pixels).mean()


def test_no_fractional_scale_could_keep_both_limits_at_an_edge() -> None:
    # scale 1.5, black beside white: the middle output pixel belongs to both; black needs it black, white needs it white
    left, middle, right = (np.linspace(0, 1, 21)[:, None, None], np.linspace(0, 1, 21)[:, None], np.linspace(0, 1, 21))
    black, white = (left + middle / 2) / 1.5, (middle / 2 + right) / 1.5
    assert np.maximum(np.abs(black - 0), np.abs(white - 1)).min() > 0.15


@given(
    hnp.arrays(np.int16, (9, 30), elements=st.integers(-500, 4000)),
    hnp.arrays(np.int16, (3, 30), elements=st.integers(0, 3825)),
)
@settings(max_examples=100, deadline=None)
def test_settle_reaches_mean_and_range_from_anywhere(cells: Any, three: Any) -> None:
    low, wanted, high = np.sort(three, axis=0)
    cells = np.clip(cells, low, high)
    weight = np.outer([5, 9, 5], [5, 9, 5]).reshape(-1)
    limits.settle(cells, wanted, np.tile(low, (9, 1)), np.tile(high, (9, 1)), weight, 6)
    assert (cells >= low).all()
    assert (cells <= high).all()
    assert np.abs(cells.mean(axis=0) - wanted).max() <= 7


def disc(scale: float, size: int = 240) -> tuple[Any, Any]:
    """Return an antialiased disc and an edge at an angle, and the same reduced by *scale* over areas."""
    y, x = (np.mgrid[: 4 * size, : 4 * size] + 0.5) / 4
    shape = (np.hypot(y - size / 2 - 0.3, x - size / 2 - 0.8) < 0.37 * size) ^ (np.cos(0.4) * y + np.sin(0.4) * x < 99)
    drawn = cv2.resize((40 + 170 * shape).astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    small = cv2.resize(drawn, (round(size / scale),) * 2, interpolation=cv2.INTER_AREA)
    return tuple(np.rint(picture)[..., None].repeat(3, axis=2).astype(np.uint8) for picture in (drawn, small))


def stairs(result: Any, scale: int) -> float:
    """Return how much more the slope jumps where two input pixels meet than inside them, as a ratio of energies."""
    ratios = []
    for lines in (result.mean(axis=2), result.mean(axis=2).T):
        slope = np.diff(lines, axis=1)
        jump = np.square(slope[:, 1:-1] - (slope[:, :-2] + slope[:, 2:]) / 2)
        border = np.arange(1, slope.shape[1] - 1) % scale == scale - 1
        ratios.append(jump[:, border].mean() / jump[:, ~border].mean())
    return float(np.mean(ratios))


def psnr(result: Any, truth: Any) -> float:
    return float(10 * np.log10(255**2 / np.square(result.astype(np.float64) - truth).mean()))


@pytest.mark.parametrize("scale", [3, 4, 8])
@pytest.mark.parametrize("name", ["camera.png", "motorcycle_left.png", "ihc.png"])
def test_photos_show_no_grid_of_input_pixels(name: str, scale: int) -> None:
    assert stairs(enlarged(photo(name)[:60, :80], scale), scale) < 2


@pytest.mark.parametrize(("scale", "gain"), [(2, 5), (3, 5), (4, 4), (8, 3), (2.5, 1.8), (7.5, 1.3)])
def test_slanting_edges_are_nearer_the_truth_than_by_plain_interpolation(scale: float, gain: float) -> None:
    truth, small = disc(scale)
    plain = cv2.resize(small, truth.shape[1::-1], interpolation=cv2.INTER_LANCZOS4)
    ours = Lanczos().upscale(small, *truth.shape[:2])
    assert psnr(ours, truth) > psnr(plain, truth) + gain


@pytest.mark.parametrize("scale", [3, 8])
def test_limits_enclose_the_input_and_do_not_jump_between_its_pixels(scale: int) -> None:
    pixels = noise(9, 12)
    own, least, most = (
        plane.transpose(2, 0, 1).astype(np.int32) * 90 for plane in (pixels, *limits.local_range(pixels))
    )
    low, high = limits.smooth_range(least, most, scale, scale)
    assert (least <= low).all()
    assert (low <= own).all()
    assert (own <= high).all()
    assert (high <= most).all()
    places = np.arange(9 * scale) // scale, (2 * np.arange(9 * scale) + 1) % (2 * scale), 2 * scale
    across = np.arange(12 * scale) // scale, (2 * np.arange(12 * scale) + 1) % (2 * scale), 2 * scale
    for limit, same in zip((low, high), limits.smooth_range_at(least, most, places, across)):
        woven = limit.transpose(2, 3, 0, 4, 1).reshape(3, 9 * scale, 12 * scale)
        assert np.abs(woven - same).max() <= 1
        assert max(np.abs(np.diff(woven, axis=axis)).max() for axis in (1, 2)) <= 255 * 90 * 2 / scale + 2


# --- where things are ------------------------------------------------------------------------------------


@given(SHAPES, st.sampled_from((*WHOLE, *FRACTIONAL)), st.sampled_from([np.uint8, np.uint16]), st.sampled_from([3, 4]))
@settings(max_examples=60, deadline=None)
def test_a_mirrored_picture_gives_the_mirrored_result(
    shape: tuple[int, int], scale: float, dtype: Any, channels: int
) -> None:
    pixels = noise(*shape, dtype, channels=channels)
    result = enlarged(pixels, scale)
    assert np.array_equal(enlarged(np.ascontiguousarray(pixels[::-1]), scale), result[::-1])
    assert np.array_equal(enlarged(np.ascontiguousarray(pixels[:, ::-1]), scale), result[:, ::-1])


@pytest.mark.parametrize("scale", [*WHOLE, *FRACTIONAL])
def test_a_ramp_is_not_shifted(scale: float) -> None:
    columns = np.arange(60)
    pixels = np.broadcast_to((500 * columns + 3000)[None, :, None], (20, 60, 3)).astype(np.uint16)
    result = enlarged(pixels, scale, sharpen=0.0)
    centres = (np.arange(result.shape[1]) + 0.5) * 60 / result.shape[1] - 0.5
    inner = (centres > 10) & (centres < 49)
    off = (result[:, inner].astype(float) - (500 * centres[inner] + 3000)[None, :, None]) / 500
    # in pixels: on the whole none, and locally the ripple of Lanczos-3
    assert abs(off.mean()) < 1e-3
    assert np.abs(off).max() <= 0.03


@given(SHAPES, st.sampled_from((*WHOLE, *FRACTIONAL)), st.integers(0, 65535), st.sampled_from([np.uint8, np.uint16]))
@settings(max_examples=60, deadline=None)
def test_a_flat_picture_stays_flat(shape: tuple[int, int], scale: float, value: int, dtype: Any) -> None:
    value = value if dtype == np.uint16 else value // 257
    assert (enlarged(np.full((*shape, 3), value, dtype), scale, 1.0) == value).all()


@pytest.mark.parametrize("scale", [2, 3, 2.5])
def test_no_pixel_depends_on_the_tiles(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.concatenate((noise(130, 215), noise(130, 215, channels=1)), axis=2)
    pixels[..., 3] |= np.uint8(255) * (np.arange(215) < 150)
    results = []
    for size in (resample.BAND, 3 * resample.BAND, 256):
        for name, value in (("_TALL", scale * size), ("_BROAD", scale * size), ("_MOST", 256), ("_FRACTIONAL", size)):
            monkeypatch.setattr(enlarge, name, int(value))
        results.append(enlarged(pixels, scale))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


@pytest.mark.parametrize("scale", [2, 2.5])
def test_a_crop_away_from_its_edges_is_the_crop_of_the_whole(scale: float) -> None:
    pixels = noise(90, 120)
    whole, crop = enlarged(pixels, scale), enlarged(np.ascontiguousarray(pixels[20:80, 32:112]), scale)
    # whole input pixels on both sides of the crop coincide: 20 · 2.5 and 32 · 2.5 are whole
    inner = slice(round(14 * scale), -round(14 * scale))
    top, left = round(20 * scale), round(32 * scale)
    part = whole[top : top + len(crop), left : left + crop.shape[1]]
    assert np.array_equal(part[inner, inner], crop[inner, inner])


# --- depth, grey, quality --------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 3, 1.5])
def test_16_bit_gives_the_8_bit_result_but_finer(scale: float) -> None:
    pixels = photo("motorcycle_left.png")
    fine = enlarged(pixels.astype(np.uint16) * 257, scale)
    off = np.abs(fine / 257 - enlarged(pixels, scale))
    assert off.mean() < 0.3
    assert np.quantile(off, 0.99) <= 1
    assert (fine % 257 != 0).mean() > 0.5


def test_grey_stays_grey() -> None:
    grey = noise(20, 31, channels=1).repeat(3, axis=2)
    for scale in (2, 2.6):
        result = enlarged(grey, scale)
        assert (result == result[..., :1]).all()


@pytest.mark.parametrize("scale", [1.5, 2, 3, 4])
@pytest.mark.parametrize("name", ["camera.png", "motorcycle_left.png", "brick.png"])
def test_a_reduced_photo_comes_back_better_than_by_plain_interpolation(name: str, scale: float) -> None:
    image = pytest.importorskip("PIL.Image")
    truth = photo(name)[:156, :240]
    size = round(240 / scale), round(156 / scale)
    small = np.asarray(image.fromarray(truth).resize(size, image.Resampling.BICUBIC))
    error = {
        method: np.square(
            np.asarray(image.fromarray(small).resize((240, 156), method), dtype=np.float64) - truth
        ).mean()
        for method in (image.Resampling.BICUBIC, image.Resampling.LANCZOS)
    }
    ours = np.square(Lanczos().upscale(small, 156, 240).astype(np.float64) - truth).mean()
    assert 10 * np.log10(min(error.values()) / ours) > 0.1


def test_sharpen_adds_contrast_to_detail() -> None:
    pixels = photo("camera.png")
    detail = [
        np.abs(np.diff(enlarged(pixels, 2.5, sharpen).astype(float), axis=1)).mean() for sharpen in (0.0, 0.3, 1.0)
    ]
    assert detail[0] < detail[1] < detail[2]


def test_it_never_makes_smaller() -> None:
    with pytest.raises(UsageError):
        Lanczos().upscale(noise(10, 10), 9, 20)


# --- alpha -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 3, 2.5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_opaque_pictures_are_as_without_alpha(scale: float, dtype: Any) -> None:
    pixels = noise(40, 50, dtype)
    full = np.full((40, 50, 1), np.iinfo(dtype).max, dtype)
    result = enlarged(np.concatenate((pixels, full), axis=2), scale)
    assert np.array_equal(result[..., :3], enlarged(pixels, scale))
    assert (result[..., 3] == np.iinfo(dtype).max).all()


@pytest.mark.parametrize("scale", [2, 5, 1.5, 3.3])
def test_hidden_colours_do_not_come_through(scale: float) -> None:
    pixels = np.zeros((60, 80, 4), np.uint8)
    pixels[..., :3] = (30, 200, 90)
    pixels[..., 3] = 255 * (noise(60, 80, channels=1)[..., 0] > 128)
    other = pixels.copy()
    other[other[..., 3] == 0, :3] = (255, 0, 255)
    result, same = enlarged(other, scale), enlarged(pixels, scale)
    assert np.array_equal(result[..., 3], same[..., 3])
    seen = result[..., 3] > 0
    assert (result[seen][:, :3] == (30, 200, 90)).all()


@pytest.mark.parametrize("scale", [2, 4])
def test_premultiplied_colour_and_alpha_reduce_to_the_input(scale: int) -> None:
    y, x = np.mgrid[0:48, 0:64]
    alpha = np.clip(20 * (20 - np.hypot(y - 24, x - 32)), 0, 255)
    pixels = np.dstack((40 + 2 * x, 200 - 3 * y, np.full(x.shape, 90), alpha)).astype(np.uint8)
    result = enlarged(pixels, scale).astype(np.float64)
    assert np.abs(reduced(result[..., 3:], 48, 64)[..., 0] - pixels[..., 3]).max() <= 1
    seen = reduced(result[..., :3] * result[..., 3:] / 255, 48, 64)
    wanted = pixels[..., :3].astype(np.float64) * pixels[..., 3:] / 255
    assert np.abs(seen - wanted).max() <= 2.5


def test_what_is_hidden_everywhere_keeps_its_colour() -> None:
    pixels = np.zeros((12, 12, 4), np.uint8)
    pixels[:, :6, :3], pixels[:, 6:, :3] = 70, 160
    result = enlarged(pixels, 2)
    assert (result[..., 3] == 0).all()
    assert (result[:, :10, :3] == 70).all()
    assert (result[:, 14:, :3] == 160).all()


# --- planes and the stage --------------------------------------------------------------------------------


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.floats(1, 8))
@settings(max_examples=100, deadline=None)
def test_planes_keep_their_extremes_everywhere(plane: Any, scale: float) -> None:
    rows, columns = (round(size * scale) for size in plane.shape)
    most = resample.enlarge_plane(plane, rows, columns, "max")
    least = resample.enlarge_plane(plane, rows, columns, "min")
    nearest = resample.enlarge_plane(plane, rows, columns, "nearest")
    assert most.shape == least.shape == nearest.shape == (rows, columns)
    assert (least <= nearest).all()
    assert (nearest <= most).all()
    touched = (
        resample.shares(plane.shape[0], rows, range(plane.shape[0]), range(rows)) > 0,
        resample.shares(plane.shape[1], columns, range(plane.shape[1]), range(columns)) > 0,
    )
    for row in range(plane.shape[0]):
        for column in range(plane.shape[1]):
            ground = np.ix_(touched[0][row], touched[1][column])
            assert (most[ground] >= plane[row, column]).all()
            assert (least[ground] <= plane[row, column]).all()
            assert (nearest[ground] == plane[row, column]).any()


def test_everything_in_a_frame_scales_along() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[4, 7] = 255
    hint = np.full((20, 30), 255, np.uint8)
    hint[4, 7] = 0
    sidecar = Sidecar(
        mask=MaskInfo("sha256:0", 0.1, grid=8, dilation_cells=1),
        regions=(Region(((3.0, 2.0), (9.0, 2.0), (9.0, 8.0))),),
        findings=(Finding("SPECK", "warning", "one", where=(3, 2, 5, 4)), Finding("EMPTY", "info", "all")),
    )
    frame = Frame(noise(20, 30), mask=mask, planes={"hint": hint, "labels": mask}, sidecar=sidecar)
    result = upscale(frame, adapt("upscale", Lanczos()), scale=2.5)
    assert (result.rows, result.columns) == (50, 75)
    assert set(np.unique(result.mask)) == {0, 255}
    assert result.mask[10:13, 17:20].all()
    assert np.array_equal(result.planes["hint"], 255 - result.mask)
    assert result.planes["labels"][11, 18] == 255
    assert result.sidecar.regions[0].polygon == ((7.5, 5.0), (22.5, 5.0), (22.5, 20.0))
    assert [finding.where for finding in result.sidecar.findings] == [(7, 5, 13, 10), None]
    assert (result.sidecar.mask.grid, result.sidecar.mask.dilation_cells) == (None, 0)
    twice = upscale(frame, adapt("upscale", Lanczos()), scale=2.0).sidecar.mask
    assert (twice.grid, twice.dilation_cells) == (8, 2)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 1), (2, 3), (17, 31)])
@pytest.mark.parametrize("scale", [1.0, 1.3, 2.0, 3.0])
def test_every_size_works_with_alpha_mask_and_planes(shape: tuple[int, int], scale: float) -> None:
    pixels = noise(*shape, channels=4)
    plane = np.ascontiguousarray(pixels[..., 1])
    frame = Frame(np.ascontiguousarray(pixels[..., :3]), alpha=np.ascontiguousarray(pixels[..., 3]), mask=plane)
    result = upscale(frame, adapt("upscale", Lanczos()), scale=scale)
    assert result.pixels.shape == (round(shape[0] * scale), round(shape[1] * scale), 3)
    assert result.alpha is not None
    if scale == 1:
        assert result is frame
