"""The exemplar fill: texture goes on, nothing is looked at that must not be, and the search finds the best."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imgedit import registry
from imgedit.backends.fill.auto import Auto
from imgedit.backends.fill.learned import Learned
from imgedit.backends.fill.patch import Patch
from imgedit.errors import DataError
from imgedit.ops import enlivened as trial
from imgedit.ops import nearest, patchmatch, reduced
from imgedit.ops.enlivened import enlivened
from imgedit.ops.exemplar import copied, exemplar, way
from imgedit.ops.harmonic import harmonic
from imgedit.ops.lively import lively
from imgedit.ops.nearest import estimates
from imgedit.ops.patches import Votes, closed, over, square, whole

Array = NDArray[Any]


def noise(shape: tuple[int, int], dtype: Any = np.uint8, seed: int = 0) -> Array:
    full = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, full + 1, (*shape, 3)).astype(dtype)


def grain(shape: tuple[int, int], seed: int = 0) -> Array:
    """Return noise with some extent, as of sand: mid grey, grains of about three pixels."""
    values = np.random.default_rng(seed).standard_normal(shape)
    values = cv2.GaussianBlur(values, (0, 0), 1.2)
    return np.repeat(np.clip(128 + 40 * values / values.std(), 0, 255)[..., None], 3, axis=2).astype(np.uint8)


def bricks(shape: tuple[int, int]) -> Array:
    """Return a wall with a period of 16 rows and 24 columns, every second course shifted by half a brick."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    joint = (y % 8 == 0) | ((x + 12 * (y // 8 % 2)) % 24 == 0)
    return np.where(joint[..., None], (210, 200, 190), (150, 60, 40)).astype(np.uint8)


def box(shape: tuple[int, int], top: int, left: int, rows: int, columns: int) -> Array:
    mask = np.zeros(shape, np.uint8)
    mask[top : top + rows, left : left + columns] = 255
    return mask


def strokes(shape: tuple[int, int]) -> Array:
    mask = np.zeros(shape, np.uint8)
    cv2.putText(mask, "2019", (20, shape[0] // 2 + 15), cv2.FONT_HERSHEY_SIMPLEX, 1.4, 255, 5)
    return mask


def energy(pixels: Array, where: Array) -> float:
    luma = pixels.astype(np.float64).mean(axis=2)
    return float(sum(np.square(g)[where].sum() for g in np.gradient(luma)))


HOLES = {
    "strokes": (strokes((96, 160)), "strokes"),
    "square": (box((96, 160), 30, 50, 40, 48), "scales"),
    "at the border": (box((96, 160), 60, 0, 36, 40), "scales"),
    "in a corner": (box((96, 160), 0, 130, 30, 30), "scales"),
    "thin at the border": (box((96, 160), 90, 10, 6, 60), "strokes"),
    "no whole patch": (255 - box((96, 160), 30, 40, 6, 90), "harmonic"),
}


# --- known answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in HOLES if name != "no whole patch"])
def test_a_wall_goes_on_brick_by_brick(name: str) -> None:
    wall, mask = bricks((96, 160)), HOLES[name][0]
    hole = mask > 0
    filled = exemplar(np.where(hole[..., None], np.uint8(0), wall), mask).astype(int)
    close = np.abs(filled - wall).max(axis=2) <= 8
    assert close[hole].mean() > 0.93
    smooth = np.abs(harmonic(wall, mask).astype(int) - wall).max(axis=2) <= 8
    assert smooth[hole].mean() < 0.8


@pytest.mark.parametrize("name", HOLES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_flat_ground_stays_flat(name: str, dtype: Any) -> None:
    ground = np.empty((96, 160, 3), dtype)
    ground[:] = (77, 12, 250) if dtype is np.uint8 else (12345, 3, 65535)
    assert np.array_equal(exemplar(ground, HOLES[name][0]), ground)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_pattern_that_patches_continue_outweighs_a_smooth_fill(dtype: Any) -> None:
    wall = bricks((200, 220)).astype(dtype) * (np.iinfo(dtype).max // 255)
    mask = box((200, 220), 70, 80, 48, 60) | box((200, 220), 10, 10, 20, 30)
    part = box((200, 220), 70, 80, 48, 60)
    inside, smooth = part > 0, harmonic(wall, mask)
    mean = enlivened(harmonic, wall, mask, 0, part).pixels
    assert np.array_equal(mean[~inside], smooth[~inside])
    errors = [np.square(fill.astype(float) - wall)[inside].mean() for fill in (smooth, mean)]
    assert errors[1] < 0.15 * errors[0]


def blobs(shape: tuple[int, int], seed: int = 0) -> Array:
    """Return soft spots of all colours, of which none is like another."""
    values = np.random.default_rng(seed).standard_normal((*shape, 3))
    values = cv2.GaussianBlur(values, (0, 0), 14)
    return np.clip(128 + 45 * values / values.std(), 0, 255).astype(np.uint8)


def test_patches_count_as_they_prove_right_beside_the_hole() -> None:
    shape = (400, 421)
    mask = box(shape, 160, 171, 72, 64)
    said = {}
    for name, ground in (("wall", bricks(shape)), ("blobs", blobs(shape)), ("sand", grain(shape))):
        done = enlivened(harmonic, ground, mask, 0, mask)
        assert done.tried == 4 and f"{done.trust:.1f} times" in done.why
        assert np.array_equal(done.pixels[mask == 0], ground[mask == 0])
        said[name] = done.trust
    assert said["wall"] > 1.05 and said["blobs"] < 0.7 and said["sand"] < 0.8


def test_what_the_trial_says_makes_the_fill_better() -> None:
    shape = (400, 421)
    mask = box(shape, 160, 171, 72, 64)

    def errors(pixels: Array) -> list[float]:
        copy, misfit = copied(pixels, mask)
        blind = lively(harmonic(pixels, mask), copy, mask, misfit=misfit)
        seen = enlivened(harmonic, pixels, mask, 0, mask).pixels
        return [float(np.square(done.astype(float) - pixels)[mask > 0].mean()) for done in (blind, seen)]

    blind, seen = errors(bricks(shape))
    assert seen < 0.6 * blind
    blind, seen = np.sum([errors(blobs(shape, seed)) for seed in range(4)], axis=0)
    assert seen < blind


def test_the_trial_knows_nothing_of_what_the_hole_held_and_sees_sixteen_bits_alike() -> None:
    ground, mask = blobs((300, 330)), box((300, 330), 130, 140, 60, 50)
    done = enlivened(harmonic, ground, mask, 0, mask)
    other = np.where((mask > 0)[..., None], np.uint8(0), ground)
    assert done.tried > 0 and np.array_equal(enlivened(harmonic, other, mask, 0, mask).pixels, done.pixels)
    deep = enlivened(harmonic, ground.astype(np.uint16) * 257, mask, 0, mask)
    assert deep.tried == done.tried and deep.trust == pytest.approx(done.trust, abs=0.1)


def test_without_room_beside_it_nothing_is_tried() -> None:
    wall, mask = bricks((160, 160)), box((160, 160), 50, 50, 60, 60)
    done = enlivened(harmonic, wall, mask, 0, mask)
    assert (done.tried, done.trust) == (0, 1.0) and "not tried" in done.why


@given(
    shape=st.tuples(st.integers(40, 420), st.integers(40, 420)),
    holes=st.lists(st.tuples(*[st.integers(0, 400)] * 2, *[st.integers(1, 120)] * 2), min_size=1, max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_places_to_try_are_known_apart_and_near(shape: tuple[int, int], holes: list[tuple[int, int, int, int]]) -> None:
    unknown = np.zeros(shape, np.uint8)
    for top, left, rows, columns in holes:
        unknown[top % shape[0] : top % shape[0] + rows, left % shape[1] : left % shape[1] + columns] = 255
    top, left, rows, columns = holes[0][0] % shape[0], holes[0][1] % shape[1], *holes[0][2:]
    found = trial._places(unknown, (top, left, rows, columns))
    taken = cv2.dilate(unknown, np.ones((2 * trial.APART + 1,) * 2, np.uint8)) > 0
    gaps = []
    for y, x in found:
        assert not taken[y : y + trial.SIDE, x : x + trial.SIDE].any()
        assert min(y, x, shape[0] - y - trial.SIDE, shape[1] - x - trial.SIDE) >= trial.EDGE
        taken[
            max(y - trial.APART, 0) : y + trial.SIDE + trial.APART,
            max(x - trial.APART, 0) : x + trial.SIDE + trial.APART,
        ] = True
        down, right = max(top - y - trial.SIDE, y - top - rows), max(left - x - trial.SIDE, x - left - columns)
        gaps.append(max(down, right, 0) // trial.GRID)
    assert len(found) <= trial.PLACES and gaps == sorted(gaps)
    if len(found) < trial.PLACES:  # there was no more room
        free = cv2.erode(
            (~taken).view(np.uint8), np.ones((trial.SIDE, trial.SIDE), np.uint8), anchor=(0, 0), borderValue=0
        )
        inner = free[
            trial.EDGE : shape[0] - trial.SIDE - trial.EDGE + 1, trial.EDGE : shape[1] - trial.SIDE - trial.EDGE + 1
        ]
        assert not inner[:: trial.GRID, :: trial.GRID].any()


@pytest.mark.parametrize("name", ["square", "at the border", "strokes"])
def test_grain_stays_as_lively_as_it_is(name: str) -> None:
    ratios = []
    for seed in range(3):
        sand = grain((96, 160), seed)
        hole = HOLES[name][0] > 0
        ratios.append(energy(exemplar(sand, HOLES[name][0]), hole) / energy(sand, hole))
    assert 0.6 < np.mean(ratios) < 1.2
    assert energy(harmonic(sand, HOLES[name][0]), hole) / energy(sand, hole) < 0.4


def test_no_blob_is_repeated() -> None:
    mask = box((160, 160), 50, 50, 60, 60)
    filled = exemplar(grain((160, 160), 4), mask)[50:110, 50:110, 0].astype(np.float64)
    spectrum = np.abs(np.fft.fft2(filled - filled.mean())) ** 2
    correlation = np.fft.ifft2(spectrum).real
    correlation /= correlation[0, 0]
    correlation[:4, :4] = correlation[-3:, :4] = correlation[:4, -3:] = correlation[-3:, -3:] = 0
    assert correlation.max() < 0.4


def test_a_shade_is_followed_without_a_seam() -> None:
    across = np.arange(160)[:, None]
    shaded = np.clip(grain((96, 160), 1) * 0.2 + 30 + across * 0.9, 0, 255).astype(np.uint8)
    for name in ("square", "strokes"):
        hole = HOLES[name][0] > 0
        difference = exemplar(shaded, HOLES[name][0]).astype(float) - shaded
        blurred = cv2.GaussianBlur(difference, (0, 0), 6)
        assert np.abs(blurred[hole]).max() < 12  # the shade alone runs over 43 levels in the square


# --- promises --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOLES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_outside_stays_and_inside_does_not_matter(name: str, dtype: Any) -> None:
    mask, kind = HOLES[name]
    hole = mask > 0
    pixels = noise((96, 160), dtype)
    other = np.where(hole[..., None], noise((96, 160), dtype, 1), pixels)
    pixels.flags.writeable = other.flags.writeable = False
    a, b = exemplar(pixels, mask), exemplar(other, mask)
    assert way(mask) == kind
    assert a.dtype == dtype and np.array_equal(a[~hole], pixels[~hole]) and np.array_equal(a, b)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_small_pictures_of_any_shape(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    mask = (rng.random((rows, columns)) < rng.choice([0.02, 0.5])).astype(np.uint8) * 255
    y, x, size = int(rng.integers(0, rows)), int(rng.integers(0, columns)), int(rng.integers(0, 24))
    mask[y : y + size, x : x + size] = int(rng.integers(1, 256))
    mask.flat[0] = 0
    pixels = noise((rows, columns), seed=seed)
    other = np.where((mask > 0)[..., None], np.uint8(9), pixels)
    a, b = exemplar(pixels, mask), exemplar(other, mask)
    assert np.array_equal(a, b) and np.array_equal(a[mask == 0], pixels[mask == 0])


def test_the_seed_decides_and_nothing_else() -> None:
    sand, mask = grain((96, 160)), HOLES["square"][0]
    first = exemplar(sand, mask, 1)
    assert np.array_equal(first, exemplar(sand, mask, 1))
    assert not np.array_equal(first, exemplar(sand, mask, 2))


def test_threads_change_nothing() -> None:
    code = """if True:
        import hashlib, sys
        import cv2, numpy as np
        from imgedit.ops.exemplar import exemplar
        cv2.setNumThreads(int(sys.argv[1]))
        pixels = np.random.default_rng(0).integers(0, 256, (96, 160, 3)).astype(np.uint8)
        for rows in (6, 36):
            mask = np.zeros((96, 160), np.uint8)
            mask[30 : 30 + rows, 40:90] = 255
            print(hashlib.sha256(exemplar(pixels, mask).tobytes()).hexdigest())
    """
    seen = set()
    for threads in ("1", "2"):
        env = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
        run = [sys.executable, "-c", code, threads]
        seen.add(subprocess.run(run, env=env, capture_output=True, check=True, timeout=120).stdout)
    assert len(seen) == 1


def test_sixteen_bit_is_searched_alike_and_copied_in_full() -> None:
    sand, mask = grain((96, 160)), HOLES["square"][0]
    eight, sixteen = exemplar(sand, mask), exemplar(sand.astype(np.uint16) * 257, mask)
    assert np.abs(sixteen / 257 - eight).max() <= 0.51


def test_a_scratch_across_a_large_picture_takes_little_memory() -> None:
    pixels = np.tile(grain((256, 256)), (5, 5, 1))
    mask = np.zeros(pixels.shape[:2], np.uint8)
    cv2.line(mask, (10, 1250), (1270, 30), 255, 2)
    tracemalloc.start()
    try:
        filled = exemplar(pixels, mask)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 120e6
    assert 0.5 < energy(filled, mask > 0) / energy(pixels, mask > 0) < 1.2


# --- the search ------------------------------------------------------------------------------------------


def test_the_nearest_patches_are_the_nearest() -> None:
    pixels, mask = grain((50, 60), 3), box((50, 60), 20, 20, 6, 14)
    hole = mask > 0
    levels = np.zeros((50, 60, 4), np.float32)
    levels[..., :3] = np.round(harmonic(pixels, mask) / nearest.STEP) * nearest.STEP
    search = nearest._Search(levels, hole, whole(hole, nearest.SIDE))
    place = np.array([22 * 60 + 23, 18 * 60 + 30])
    candidates = np.flatnonzero(search.sources)
    near, cost = search._nearest(place, candidates)
    flat = levels.reshape(-1, 4)[:, :3].astype(np.float64) / nearest.STEP
    for i, own in enumerate(place):
        weight = search.weights[own + search.offsets][:, None] / search.weights[own + search.offsets].sum()
        difference = flat[candidates[:, None] + search.offsets] - flat[own + search.offsets]
        shift = (difference * weight).sum(axis=1, keepdims=True)
        direct = (np.square(difference) * weight).sum(axis=(1, 2)) - nearest.SHIFT * np.square(shift).sum(axis=(1, 2))
        best = np.sort(direct)[: nearest.NEAREST]
        assert np.allclose(cost[i], best, rtol=1e-3, atol=1e-3)
        assert np.allclose(direct[np.searchsorted(candidates, near[i])], best, rtol=1e-3, atol=1e-3)


def test_estimates_keep_what_is_known_and_are_harmonic_without_a_source() -> None:
    for dtype in (np.uint8, np.uint16):
        pixels, mask = noise((60, 80), dtype), strokes((60, 80))
        mean, texture = estimates(pixels, mask)
        assert mean.dtype == texture.dtype == np.float32
        assert not np.array_equal(mean, texture)
        assert np.array_equal(mean[mask == 0], pixels[mask == 0])
        assert np.array_equal(texture[mask == 0], pixels[mask == 0])
        assert min(mean.min(), texture.min()) >= 0 and max(mean.max(), texture.max()) <= np.iinfo(dtype).max
    mean, texture = estimates(noise((8, 80)), box((8, 80), 2, 10, 4, 30))
    assert np.array_equal(mean, texture)
    assert np.array_equal(mean, harmonic(noise((8, 80)), box((8, 80), 2, 10, 4, 30)))


def test_the_mean_is_closer_and_the_texture_livelier() -> None:
    sand, mask = grain((96, 160), 2), strokes((96, 160))
    hole = mask > 0
    mean, texture = estimates(sand, mask)
    error = [float(np.square(fill[hole] - sand[hole]).mean()) for fill in (mean, texture)]
    assert error[0] < error[1]
    assert energy(mean, hole) < energy(texture, hole)


def test_a_guess_that_is_known_is_not_solved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sand, mask = grain((60, 80)), strokes((60, 80))
    own = estimates(sand, mask)
    guess = harmonic(sand, mask).astype(np.float32)
    monkeypatch.setattr(nearest, "harmonic", None)
    given = estimates(sand, mask, guess)
    assert np.array_equal(own.mean, given.mean) and np.array_equal(own.texture, given.texture)


def test_a_lattice_whose_whole_patches_lie_on_one_colour_of_a_chessboard() -> None:
    mask = np.zeros((400, 400), np.uint8)
    mask[0::10] = mask[:, 1::10] = 255
    y, x = np.nonzero(whole(mask > 0, nearest.SIDE))
    assert ((y + x) % 2 == 1).all()
    pixels = noise((400, 400))
    assert np.array_equal(exemplar(pixels, mask)[mask == 0], pixels[mask == 0])


def test_an_exhaustive_start_finds_the_source_of_a_copy() -> None:
    pixels = noise((60, 60))
    pixels[35:55, 35:55] = pixels[5:25, 5:25]
    hole = box((60, 60), 42, 42, 5, 5) > 0
    levels = np.zeros((60, 60, 4), np.float32)
    levels[..., :3] = pixels
    level = patchmatch.Level(levels, hole, stride=1)
    level.start(levels, (8, 0))
    expected = level.place - 30 * 60 - 30
    assert (level.match == expected).mean() > 0.95
    # and the finer scale inherits it: matches move by twice as much
    fine = patchmatch.Level(np.repeat(np.repeat(levels, 2, axis=0), 2, axis=1), np.kron(hole, np.ones((2, 2))) > 0, 2)
    fine.inherit(level)
    assert (fine.match == fine.place - 60 * 120 - 60).mean() > 0.95


def test_nothing_is_copied_from_what_is_banned_unless_nothing_else_is_left() -> None:
    levels = np.zeros((60, 60, 4), np.float32)
    levels[..., :3] = noise((60, 60))
    hole, banned = (box((120, 120), *place) > 0 for place in ((50, 50, 20, 20), (0, 0, 120, 61)))
    small = hole[::2, ::2]
    level = patchmatch.Level(levels, small, stride=1, banned=banned)
    level.start(levels, (8, 0))
    level.improve(np.random.default_rng(0))
    pixels = (level.match[:, None] + level.square.offsets) % 60
    assert pixels.min() >= 31  # columns; half of the thirtieth is banned too
    everything = patchmatch.Level(levels, small, stride=1, banned=np.ones((120, 120), bool))
    assert np.array_equal(everything.sources, patchmatch.Level(levels, small, stride=1).sources)


def test_votes_are_weighted_means_even_of_tiny_weights() -> None:
    votes = Votes((9, 9), 3)
    place = np.array([40])
    offsets = square(3, 9).offsets
    for value, weight in ((10.0, -2000.0), (20.0, -2000.0 + np.log(3))):
        patch = np.full((1, 9, 4), value, np.float32)
        votes.add(place, patch, np.full((1, 9), weight, np.float32))
    out = votes.result(np.full((9, 9, 4), 5, np.float32)).reshape(-1, 4)
    assert np.allclose(out[40 + offsets, :3], 17.5, atol=0.01)
    assert (np.delete(out, 40 + offsets, axis=0) == 5).all()


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
def test_patches_over_a_hole_cover_it(stride: int) -> None:
    hole = np.random.default_rng(stride).random((40, 53)) < 0.05
    y, x = over(hole, 7, stride)
    covered = np.zeros(hole.shape, bool)
    for a, b in zip(y, x):
        assert hole[a - 3 : a + 4, b - 3 : b + 4].any()
        covered[a - 3 : a + 4, b - 3 : b + 4] = True
    assert covered[hole].all()


def test_closing_the_seam_removes_a_constant_difference() -> None:
    hole = box((30, 30), 10, 10, 9, 9) > 0
    levels = np.zeros((30, 30, 4), np.float32)
    levels[..., :3] = grain((30, 30))
    moved = levels - 17.25
    assert np.abs(closed(moved, levels, hole)[hole] - levels[hole][:, :3]).max() < 0.02


# --- very large holes ------------------------------------------------------------------------------------


@pytest.fixture
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduced, "LARGE", 1500)
    monkeypatch.setattr(reduced, "BAND", 16)


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize("calm", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_very_large_hole_keeps_its_grain(calm: bool, dtype: Any) -> None:
    sand = grain((203, 231), 5).astype(dtype) * dtype(1 if dtype is np.uint8 else 257)
    mask = box((203, 231), 61, 70, 80, 91)
    hole = mask > 0
    assert way(mask) == "reduced"
    filled = exemplar(sand, mask, calm=calm)
    assert filled.dtype == dtype and np.array_equal(filled[~hole], sand[~hole])
    assert np.array_equal(filled, exemplar(np.where(hole[..., None], dtype(0), sand), mask, calm=calm))
    assert 0.3 < energy(filled, hole) / energy(sand, hole) < 1.2
    assert energy(harmonic(sand, mask), hole) / energy(sand, hole) < 0.1


@pytest.mark.usefixtures("small_is_large")
def test_a_very_large_hole_in_even_ground_or_almost_everywhere() -> None:
    even = np.full((120, 160, 3), (77, 12, 250), np.uint8)
    mask = box((120, 160), 0, 30, 70, 90)
    assert way(mask) == "reduced" and np.array_equal(exemplar(even, mask), even)
    mask = 255 - box((120, 160), 40, 40, 8, 8)
    assert way(mask) == "harmonic" and np.array_equal(exemplar(even, mask), even)


def test_half_the_size_is_the_mean_of_what_is_known() -> None:
    hole = np.random.default_rng(2).random((9, 13)) < 0.4
    levels = np.random.default_rng(3).uniform(0, 255, (9, 13, 4)).astype(np.float32)
    mean, less = reduced.half(levels, hole)
    assert np.array_equal(less, reduced.smaller(hole))
    for y in range(4):
        for x in range(6):
            known = ~hole[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            assert less[y, x] == (known.sum() < 2)
            if known.any():
                expected = levels[2 * y : 2 * y + 2, 2 * x : 2 * x + 2][known].mean(axis=0)
                assert np.allclose(mean[y, x, :3], expected[:3], atol=1e-3)


def test_memory_does_not_follow_a_very_large_hole() -> None:
    pixels = np.tile(grain((256, 256)), (6, 8, 1))
    mask = box(pixels.shape[:2], 200, 200, 1000, 1500)
    tracemalloc.start()
    try:
        filled = exemplar(pixels, mask)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 400e6
    assert np.array_equal(filled[mask == 0], pixels[mask == 0])


# --- the backend -----------------------------------------------------------------------------------------


def test_the_backend_is_listed_and_says_what_it_did() -> None:
    assert "patch" in registry.backend_names("fill")
    for mask, kind in HOLES.values():
        filled = Patch().fill(bricks((96, 160)), mask, seed=0)
        assert filled.method == ("harmonic" if kind == "harmonic" else "patch")
        assert ("no whole patch" in filled.why) == (kind == "harmonic")


@pytest.mark.parametrize("backend", [Patch, Learned, Auto])
def test_what_was_done_at_a_reduced_scale_says_so(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduced, "LARGE", 8000)
    mask = box((240, 260), 30, 30, 170, 180)
    filled = backend().fill(grain((240, 260)), mask, seed=0)
    assert "patch" in filled.method and "reduced scale" in filled.why


def test_everything_masked_is_an_error_and_nothing_masked_is_nothing() -> None:
    with pytest.raises(DataError) as error:
        Patch().fill(noise((40, 40)), np.full((40, 40), 255, np.uint8), seed=0)
    assert error.value.hint
    pixels = noise((40, 40))
    assert np.array_equal(Patch().fill(pixels, np.zeros((40, 40), np.uint8), seed=0).pixels, pixels)
