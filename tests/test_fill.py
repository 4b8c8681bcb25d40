"""Fills: what is outside stays, what was inside does not matter, and the known answers come out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import sample
import scipy.ndimage
import scipy.sparse
import scipy.sparse.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imgedit import registry
from imgedit.backends.adapter import adapt
from imgedit.backends.fill.auto import Auto
from imgedit.backends.fill.flat import Flat
from imgedit.backends.fill.harmonic import Harmonic
from imgedit.backends.fill.learned import Learned
from imgedit.backends.fill.ns import Ns
from imgedit.backends.fill.patch import Patch
from imgedit.backends.fill.telea import Telea
from imgedit.backends.protocols import Filled
from imgedit.errors import BrokenPromise, DataError
from imgedit.frame import LatentStats, Region
from imgedit.ops import holes
from imgedit.ops.choice import shaded
from imgedit.ops.fill import flat
from imgedit.ops.harmonic import harmonic
from imgedit.ops.lively import lively, sharpened

Array = NDArray[Any]
BACKENDS = [Flat, Harmonic, Telea, Ns, Patch, Learned, Auto]
FOUR = ((0, 1), (1, 0), (0, -1), (-1, 0))


def noise(shape: tuple[int, int], dtype: Any = np.uint8, seed: int = 0) -> Array:
    full = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, full + 1, (*shape, 3)).astype(dtype)


def random_mask(shape: tuple[int, int], share: float, seed: int) -> Array:
    """Return blobs and specks with some soft edges; at least one pixel in and one out."""
    rng = np.random.default_rng(seed)
    mask = (rng.random(shape) < share).astype(np.uint8) * 255
    for _ in range(int(rng.integers(0, 3))):
        y, x = int(rng.integers(0, shape[0])), int(rng.integers(0, shape[1]))
        mask[y : y + int(rng.integers(1, 12)), x : x + int(rng.integers(1, 12))] = int(rng.integers(1, 256))
    mask.flat[0], mask.flat[-1] = 0, 255
    return mask


def direct(pixels: Array, hole: Array) -> Array:
    """Return the solution of the Laplace equation by a direct solver: no flow at the picture's border."""
    number = np.full(hole.shape, -1)
    number[hole] = np.arange(hole.sum())
    rows, columns, values = [], [], []
    right = np.zeros((int(hole.sum()), 3))
    for y, x in zip(*np.nonzero(hole)):
        own, degree = number[y, x], 0
        for dy, dx in FOUR:
            if 0 <= y + dy < hole.shape[0] and 0 <= x + dx < hole.shape[1]:
                degree += 1
                if hole[y + dy, x + dx]:
                    rows.append(own), columns.append(number[y + dy, x + dx]), values.append(-1.0)
                else:
                    right[own] += pixels[y + dy, x + dx]
        rows.append(own), columns.append(own), values.append(float(degree))
    matrix = scipy.sparse.csc_matrix((values, (rows, columns)), shape=(len(right), len(right)))
    return np.asarray(scipy.sparse.linalg.spsolve(matrix, right))


# --- harmonic --------------------------------------------------------------------------------------------

SHAPES = {
    "square": ((60, 70), np.s_[15:45, 10:60]),
    "at the bottom": ((60, 70), np.s_[30:, 10:60]),
    "in a corner": ((61, 71), np.s_[30:, 40:]),
    "all but a column": ((60, 71), np.s_[:, :-1]),
    "lines": ((60, 70), np.s_[::2, :]),
    "one row": ((1, 300), np.s_[:, 4:290]),
    "one column": ((300, 1), np.s_[7:, :]),
}


@pytest.mark.parametrize("name", [*SHAPES, "noise", "one known pixel"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_harmonic_agrees_with_a_direct_solver(name: str, dtype: Any) -> None:
    shape = SHAPES[name][0] if name in SHAPES else (60, 70)
    hole = np.zeros(shape, bool)
    if name in SHAPES:
        hole[SHAPES[name][1]] = True
    elif name == "noise":
        hole = np.random.default_rng(3).random(shape) < 0.8
    else:
        hole[:] = True
        hole[20, 30] = False
    pixels = noise(shape, dtype)
    filled = harmonic(pixels, hole.astype(np.uint8) * 255)
    # half a level comes from rounding
    assert np.abs(filled[hole] - direct(pixels, hole)).max() <= 0.5 + 0.25
    assert np.array_equal(filled[~hole], pixels[~hole])


@given(st.integers(0, 10_000), st.floats(0.05, 0.95))
@settings(max_examples=25, deadline=None)
def test_harmonic_obeys_the_maximum_principle(seed: int, share: float) -> None:
    pixels, mask = noise((23, 31), seed=seed), random_mask((23, 31), share, seed)
    filled = harmonic(pixels, mask)
    labels, count = scipy.ndimage.label(mask > 0)
    for label in range(1, count + 1):
        part = labels == label
        edge = scipy.ndimage.binary_dilation(part) & (mask == 0)
        assert (filled[part] >= pixels[edge].min(axis=0)).all() and (filled[part] <= pixels[edge].max(axis=0)).all()


def test_harmonic_continues_a_slope_exactly() -> None:
    y, x = np.mgrid[0:80, 0:90]
    pixels = np.repeat((x + y)[..., None], 3, axis=2).astype(np.uint8)
    mask = np.zeros((80, 90), np.uint8)
    mask[20:60, 20:70] = 255
    assert np.array_equal(harmonic(pixels, mask), pixels)


# --- flat, auto ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_flat_is_exact_on_a_plane_and_says_so(dtype: Any) -> None:
    y, x = np.mgrid[0:60, 0:90]
    unit = 1 if dtype is np.uint8 else 257
    truth = np.stack([20 + x, 200 - 2 * y, 60 + x // 1 + y], axis=2).astype(dtype) * unit
    mask = np.zeros((60, 90), np.uint8)
    mask[10:50, 30:60] = 255
    filled, residual = flat(truth, mask)
    assert np.array_equal(filled, truth) and residual < 0.01


def test_flat_does_not_let_a_leaf_tilt_the_wall() -> None:
    wall = np.full((60, 90, 3), 180, np.uint8)
    mask = np.zeros((60, 90), np.uint8)
    mask[20:40, 30:60] = 255
    leaf = wall.copy()
    leaf[14:20, 30:40] = 20
    filled, residual = flat(leaf, mask)
    assert np.abs(filled[mask > 0].astype(int) - 180).max() <= 1
    assert residual > 10  # the residual leaves nothing out


def test_auto_picks_what_fits() -> None:
    def filled(pixels: Array, mask: Array) -> Filled:
        return Auto().fill(pixels, mask, seed=0)

    rng = np.random.default_rng(0)
    even = np.full((340, 340, 3), 128, np.uint8)
    rough = np.clip(128 + rng.normal(0, 12, even.shape), 0, 255).astype(np.uint8)
    stroke, wide, deep = (np.zeros((340, 340), np.uint8) for _ in range(3))
    stroke[90:98, 60:160] = wide[80:140, 80:160] = deep[60:230, 60:230] = 255
    assert filled(even, deep).method == "harmonic"
    picked = filled(rough, stroke)
    assert picked.method == "learned" and "levels per pixel" in picked.why
    assert filled(rough, wide).method == "learned+patch"
    assert filled(rough, deep).method == "harmonic+patch"
    deep[260:266, 20:240] = 255
    both = filled(rough, deep)
    assert both.method == "harmonic+patch, learned" and "beside" in both.why
    assert np.array_equal(both.pixels[deep == 0], rough[deep == 0])


@pytest.mark.parametrize("method", ["learned", "auto"])
def test_a_wide_hole_is_as_lively_as_what_is_round_it(method: str) -> None:
    pixels = sample.photos(["brick"])["brick"]
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[200:270, 200:280] = 255
    result = registry.backend("fill", method).fill(pixels, mask, seed=0).pixels
    energies = [float(np.square(np.diff(p[202:268, 202:278].mean(axis=2), axis=1)).mean()) for p in (result, pixels)]
    smooth = float(np.square(np.diff(harmonic(pixels, mask)[202:268, 202:278].mean(axis=2), axis=1)).mean())
    assert 0.4 * energies[1] < energies[0] < 1.2 * energies[1] and smooth < 0.2 * energies[1]


def test_detail_is_added_only_in_the_hole_and_only_where_it_lacks() -> None:
    rng = np.random.default_rng(3)
    rough = np.clip(128 + rng.normal(0, 20, (80, 90, 3)), 0, 255).astype(np.float32)
    mask = np.zeros((80, 90), np.uint8)
    mask[30:50, 30:60] = 255
    smooth = np.where(mask[..., None] > 0, cv2.GaussianBlur(rough, (0, 0), 1.0), rough)
    sharp = sharpened(smooth, mask)
    assert np.array_equal(sharp[mask == 0], smooth[mask == 0])
    assert (
        np.abs(np.diff(sharp[30:50, 30:60], axis=0)).mean() > 1.2 * np.abs(np.diff(smooth[30:50, 30:60], axis=0)).mean()
    )
    # what is as rough as its surroundings stays as it is
    assert np.array_equal(sharpened(rough, mask), rough)


def test_the_better_other_fill_fits_the_more_of_its_shapes_are_taken() -> None:
    mask = np.zeros((360, 360), np.uint8)
    mask[40:320, 40:320] = 255
    inside = mask[..., None] > 0
    ground = np.full((360, 360, 3), 100, np.uint8)
    other = np.where(inside, np.uint8(140), ground)

    def share(misfit: float, dtype: Any = np.uint8) -> Array:
        unit = np.iinfo(dtype).max // 255
        pair = (ground.astype(dtype) * unit, other.astype(dtype) * unit)
        mean = lively(*pair, mask, misfit=np.full(mask.shape, misfit, np.float32))
        assert np.array_equal(mean[mask == 0], pair[0][mask == 0])
        return (mean[..., 1].astype(float) / unit - 100) / 40

    assert share(0)[60, 180] == pytest.approx(0.88, abs=0.03)
    assert share(40.0**2 / 6)[60, 180] == pytest.approx(0.38, abs=0.03)
    assert share(40.0**2)[60, 180] == pytest.approx(0.3, abs=0.03)
    # deep in the hole pieces fit each other whatever was there
    assert share(0)[180, 180] == pytest.approx(0.3, abs=0.03)
    np.testing.assert_allclose(share(100, np.uint16)[60:300, 60:300], share(100)[60:300, 60:300], atol=0.03)
    # nothing is known of it: half of each; and on even ground none of the shapes
    assert lively(ground, other, mask)[60, 180, 1] == 120
    assert lively(ground, other, mask, even=True)[60, 180, 1] == 100


def test_detail_is_added_where_shapes_are_in_doubt_more_than_where_they_are_right() -> None:
    rng = np.random.default_rng(2)
    grain = cv2.GaussianBlur(rng.standard_normal((200, 200)), (0, 0), 1)
    grain *= 10 / grain.std()
    mask = np.zeros((200, 200), np.uint8)
    mask[50:150, 50:150] = 255
    inside = mask > 0
    picture = np.clip(np.rint(np.repeat(120 + grain[..., None], 3, axis=2)), 0, 255).astype(np.uint8)
    smooth = np.where(inside[..., None], np.uint8(120), picture)
    y, x = np.mgrid[:200, :200]

    def kept(off: float, calm: float = 1.0) -> float:
        away = off * np.sin(2 * np.pi * (x - 50) / 100) * np.sin(2 * np.pi * (y - 50) / 100)
        other = np.clip(np.rint(np.repeat((120 + calm * grain + away)[..., None], 3, axis=2)), 0, 255)
        done = lively(smooth, np.where(inside[..., None], other, picture).astype(np.uint8), mask)
        assert np.array_equal(done[~inside], picture[~inside])
        detail = done[..., 0] - cv2.GaussianBlur(done[..., 0].astype(float), (0, 0), 4)
        true = picture[..., 0] - cv2.GaussianBlur(picture[..., 0].astype(float), (0, 0), 4)
        middle = np.s_[70:130, 70:130]
        return float(np.square(np.diff(detail[middle])).sum() / np.square(np.diff(true[middle])).sum())

    assert kept(0) == pytest.approx(0.45, abs=0.08)
    assert kept(0) + 0.15 < kept(30) < kept(60) + 0.1 and kept(60) > 0.8
    # what is copied was calm: so is the fill, whatever lies round the hole
    assert kept(0, 0.3) < 0.1


def test_a_plane_with_noise_is_told_from_texture_spots_and_bends() -> None:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:200, :240]
    slope = (90 + 0.3 * x + 0.1 * y)[..., None]
    hole = np.zeros((200, 240), np.uint8)
    hole[70:130, 90:150] = 255

    def plane(ground: Array) -> bool:
        levels = np.clip(np.rint(ground), 0, 255).astype(np.uint8)
        deep = shaded(levels.astype(np.uint16) * 257, hole, hole)
        assert deep == shaded(levels, hole, hole)
        return deep

    noise = rng.normal(0, 3, (200, 240, 3))
    assert plane(slope + noise)
    crossed = slope + noise
    crossed[60:66, 100:112] = 20  # something else, beside the hole
    assert plane(crossed)
    assert not plane(slope + 4 * noise)
    assert not plane(slope + noise + 25 * np.sin(x / 20)[..., None])
    assert not plane(sample.photos(["grass"])["grass"][:200, :240].astype(float))


def test_auto_goes_on_with_a_plane_and_its_noise() -> None:
    rng = np.random.default_rng(6)
    y, x = np.mgrid[:200, :260]
    slope = (90 + 0.3 * x + 0.1 * y)[..., None]
    truth = np.clip(np.rint(slope + rng.normal(0, 3, (200, 260, 3))), 0, 255)
    hole = np.zeros((200, 260), np.uint8)
    hole[60:124, 60:124] = 255
    hole[90:94, 150:230] = 255  # and a stroke beside it
    given = np.where(hole[..., None] > 0, 0, truth).astype(np.uint8)
    filled = Auto().fill(given, hole, seed=0)
    assert filled.method == "flat+patch, learned" and "plane" in filled.why
    inside = (slice(62, 122), slice(62, 122))
    errors = (filled.pixels - slope)[inside].mean(axis=2)
    assert np.abs(cv2.GaussianBlur(errors, (0, 0), 8)).max() < 1.5
    assert (
        0.3 < filled.pixels[inside].astype(float).std(axis=(0, 1)).mean() / truth[inside].std(axis=(0, 1)).mean() < 1.1
    )
    assert np.array_equal(filled.pixels[hole == 0], given[hole == 0])


# --- all backends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 24), columns=st.integers(2, 24), share=st.floats(0, 0.9))
@settings(max_examples=12, deadline=None)
def test_outside_stays_and_inside_does_not_matter(
    backend: Any, dtype: Any, seed: int, rows: int, columns: int, share: float
) -> None:
    pixels, mask = noise((rows, columns), dtype, seed), random_mask((rows, columns), share, seed)
    other = pixels.copy()
    other[mask > 0] = noise((rows, columns), dtype, seed + 1)[mask > 0]
    pixels.flags.writeable = other.flags.writeable = False
    a, b = (adapt("fill", backend()).fill(p, mask, seed=0) for p in (pixels, other))
    assert a.pixels.dtype == dtype and a.why
    assert a.method in {"flat", "harmonic", "telea", "ns", "patch", "learned", "learned+patch"}
    assert np.array_equal(a.pixels[mask == 0], pixels[mask == 0])
    assert np.array_equal(a.pixels, b.pixels) and a.method == b.method


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 4000), (4000, 1), (2, 3)])
def test_lines_and_tiny_pictures(backend: Any, shape: tuple[int, int]) -> None:
    mask = np.zeros(shape, np.uint8)
    mask[: shape[0] // 2 + 1, : shape[1] // 2 + 1] = 255
    mask[0, 0] = 0
    pixels = np.full((*shape, 3), 77, np.uint8)
    filled = backend().fill(pixels, mask, seed=0).pixels
    # OpenCV's Telea rounds at every step and drifts along a line; the others are exact
    assert (filled == 77).all() or backend is Telea
    assert np.array_equal(filled[mask == 0], pixels[mask == 0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_outside_is_an_error_with_a_hint(backend: Any) -> None:
    with pytest.raises(DataError) as error:
        backend().fill(noise((9, 9)), np.full((9, 9), 255, np.uint8), seed=0)
    assert error.value.hint


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_empty_hole_changes_nothing(backend: Any) -> None:
    pixels = noise((9, 9))
    assert np.array_equal(backend().fill(pixels, np.zeros((9, 9), np.uint8), seed=0).pixels, pixels)


def test_the_registry_lists_them() -> None:
    assert {"flat", "harmonic", "telea", "ns", "auto"} <= set(registry.backend_names("fill"))


# --- holes -----------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.sampled_from([1e-4, 1e-3, 0.01, 0.3]), st.integers(0, 80))
@settings(max_examples=40, deadline=None)
def test_holes_cover_the_mask_and_do_not_overlap(seed: int, share: float, margin: int) -> None:
    rng = np.random.default_rng(seed)
    mask = (rng.random((int(rng.integers(1, 300)), int(rng.integers(1, 300)))) < share).astype(np.uint8)
    cover = np.zeros(mask.shape, int)
    for hole in holes.find(mask, margin):
        cover[hole.slices] += 1
        part = mask[hole.slices]
        assert part[0].any() and part[-1].any() and part[:, 0].any() and part[:, -1].any()
    assert cover.max() <= 1 and (cover[mask > 0] == 1).all()


def test_letters_of_a_line_are_one_hole_and_far_stamps_are_two() -> None:
    mask = np.zeros((1000, 1500), np.uint8)
    for letter in range(8):
        mask[900:930, 100 + 40 * letter : 120 + 40 * letter] = 255
    mask[20:50, 1300:1400] = 255
    assert [h.where for h in holes.find(mask)] == [(1300, 20, 100, 30), (100, 900, 300, 30)]


def test_many_holes_are_joined() -> None:
    mask = np.zeros((1500, 2000), np.uint8)
    mask[::40, ::40] = 255
    assert len(holes.find(mask, 1)) <= holes.MANY


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_composite_is_exact(dtype: Any) -> None:
    pixels, fill = noise((64, 64), dtype, 1), noise((64, 64), dtype, 2)
    mask = np.arange(64 * 64, dtype=np.uint32).reshape(64, 64).astype(np.uint8)
    out = holes.composite(pixels, fill, mask)
    weight = mask[..., None].astype(np.float64)
    assert np.array_equal(out, np.rint((pixels * (255 - weight) + fill * weight) / 255))
    assert np.array_equal(out[mask == 0], pixels[mask == 0]) and np.array_equal(out[mask == 255], fill[mask == 255])


# --- adapter ---------------------------------------------------------------------------------------------


class Fake:
    """Returns what it was made with, whatever it is asked."""

    bit_depths = (8,)
    fingerprint = "fake/1"

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def fill(self, pixels: Array, mask: Array, *, seed: int) -> Any:
        return self.answer(pixels) if callable(self.answer) else self.answer

    def upscale(self, pixels: Array, rows: int, columns: int, **options: Any) -> Any:
        return self.answer

    def detect(self, pixels: Array, *, read: bool, part: bool = False) -> Any:
        assert pixels.dtype == np.uint8
        return self.answer

    def encode(self, pixels: Array) -> Any:
        return self.answer


MASK = np.pad(np.full((2, 2), 255, np.uint8), 2)


@pytest.mark.parametrize(
    "answer",
    [
        lambda p: Filled(p[1:], "x", ""),
        lambda p: Filled(p.astype(np.float32), "x", ""),
        lambda p: Filled(p + 1, "x", ""),
        lambda p: p,
        None,
    ],
    ids=["shape", "dtype", "outside", "bare array", "nothing"],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_fill_that_breaks_its_word_is_named(answer: Any, dtype: Any) -> None:
    with pytest.raises(BrokenPromise, match="'fake'") as error:
        adapt("fill", Fake(answer)).fill(noise((6, 6), dtype), MASK, seed=0)
    assert error.value.exit_code == 70 and error.value.hint


def test_sixteen_bit_stays_exact_outside_an_eight_bit_fill() -> None:
    pixels = noise((6, 6), np.uint16)

    def white(given: Array) -> Filled:
        assert given.dtype == np.uint8
        out = given.copy()
        out[MASK > 0] = 255
        return Filled(out, "white", "")

    filled = adapt("fill", Fake(white)).fill(pixels, MASK, seed=0).pixels
    assert (filled[MASK > 0] == 65535).all() and np.array_equal(filled[MASK == 0], pixels[MASK == 0])


def test_other_kinds_are_checked_too() -> None:
    pixels = noise((4, 6), np.uint16)
    assert adapt("metrics", 5) == 5
    assert adapt("upscale", Fake(noise((8, 12), np.uint16))).upscale(pixels, 8, 12).pixels.shape == (8, 12, 3)
    with pytest.raises(BrokenPromise, match="'fake'"):
        adapt("upscale", Fake(noise((8, 11), np.uint16))).upscale(pixels, 8, 12)
    beyond = Region(((-3.0, 1.0), (9.0, 1.0), (9.0, 3.0), (-3.0, 3.0)), text="a", score=0.5)
    away = Region(((7.0, 1.0), (9.0, 1.0), (9.0, 3.0)))
    found = adapt("detect", Fake([beyond, away])).detect(pixels, read=True)
    assert found == [Region(((0.0, 1.0), (6.0, 1.0), (6.0, 3.0), (0.0, 3.0)), text="a", score=0.5)]
    for wrong in (None, [None], "text"):
        with pytest.raises(BrokenPromise, match="'fake'"):
            adapt("detect", Fake(wrong)).detect(pixels, read=False)
    good = LatentStats("x", 8, (2, 1, 1), (0.0, 1.0), (0.0, 1.0))
    assert adapt("latents", Fake(good)).encode(pixels) is good
    with pytest.raises(BrokenPromise):
        adapt("latents", Fake(SimpleNamespace(shape=(3, 1, 1), mean=(0.0, 1.0), std=(0.0, 1.0)))).encode(pixels)
    assert adapt("fill", Fake(None)).fingerprint == "fake/1"
    with pytest.raises(AttributeError):
        _ = adapt("fill", Fake(None)).no_such_thing
