"""Masks: drawn exactly, cleaned, grown, laid on a grid without losing a stroke, fitted to letters."""

from __future__ import annotations

import itertools
import time
from typing import Any

import cv2
import numpy as np
import pytest
import sample
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imgedit.engine import Engine, call
from imgedit.errors import DataError, GateFailed, UsageError
from imgedit.frame import Frame, Region
from imgedit.ops import fitting, glyph, masks
from imgedit.stages.mask import DILATE, mask

planes = st.builds(
    lambda rows, columns, seed, share: np.where(
        np.random.default_rng(seed).random((rows, columns)) < share, 255, 0
    ).astype(np.uint8),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.02, 0.2, 0.6, 1.0]),
)
fast = settings(max_examples=60, deadline=None)


def blank(rows: int = 60, columns: int = 80, dtype: Any = np.uint8) -> Frame:
    return Frame(np.full((rows, columns, 3), 90, dtype))


def with_regions(frame: Frame, *corners: tuple[float, float]) -> Frame:
    return frame.with_sidecar(regions=(Region(tuple(corners)),))


def made(frame: Frame, **options: Any) -> NDArray[np.uint8]:
    result = mask(frame, **options)
    assert result.mask is not None
    return result.mask


def inside_by_crossings(x: float, y: float, corners: list[tuple[float, float]]) -> bool:
    """The textbook test, one point at a time."""
    inside = False
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1]):
        if (y0 <= y) != (y1 <= y) and x >= x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            inside = not inside
    return inside


def near_edge(x: float, y: float, corners: list[tuple[float, float]]) -> bool:
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1]):
        length2 = (x1 - x0) ** 2 + (y1 - y0) ** 2
        share = min(max(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length2, 0), 1) if length2 else 0.0
        if np.hypot(x0 + share * (x1 - x0) - x, y0 + share * (y1 - y0) - y) < 1e-6:
            return True
    return False


# --- drawing ---------------------------------------------------------------------------------------------


@fast
@given(st.lists(st.tuples(st.floats(-9, 30), st.floats(-9, 30)), min_size=3, max_size=7))
def test_a_polygon_holds_the_pixels_whose_centre_is_in_it(corners: list[tuple[float, float]]) -> None:
    drawn = masks.empty(17, 23)
    any_drawn = masks.draw(drawn, masks.points(corners))
    for row, column in itertools.product(range(17), range(23)):
        x, y = column + 0.5, row + 0.5
        # a centre on the very edge may fall on either side
        expected = 255 * inside_by_crossings(x, y, corners)
        assert drawn[row, column] == expected or near_edge(x, y, corners)
    assert any_drawn == drawn.any()


def test_a_polygon_of_a_rectangle_is_the_rectangle() -> None:
    corners = ((10.0, 5.0), (30.0, 5.0), (30.0, 25.0), (10.0, 25.0))
    np.testing.assert_array_equal(made(blank(), polygon=(corners,)), made(blank(), rect=((10, 5, 20, 20),)))


def test_corners_far_outside_do_no_harm() -> None:
    assert made(blank(), polygon=(((-1e300, -1e300), (1e300, -1e300), (1e300, 1e300), (-1e300, 1e300)),)).all()


def test_rect_counts_from_the_right_and_bottom_when_negative() -> None:
    drawn = made(blank(), rect=((-20, -10, 20, 10),))
    assert drawn[50:, 60:].all() and drawn.sum() == 200 * 255
    # what sticks out is cut off
    assert made(blank(), rect=((75, 55, 50, 50),)).sum() == 25 * 255


@pytest.mark.parametrize("options", [{"rect": ((200, 0, 5, 5),)}, {"polygon": (((900, 1), (950, 1), (930, 9)),)}])
def test_a_shape_outside_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"the picture is 80×60"):
        mask(blank(), **options)


# --- sources ---------------------------------------------------------------------------------------------


def test_no_regions_give_an_empty_mask() -> None:
    result = mask(blank())
    assert result.mask is not None and not result.mask.any()
    assert result.sidecar.mask is not None and result.sidecar.mask.grid is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_picture_as_mask(dtype: Any) -> None:
    full = np.iinfo(dtype).max
    pixels = np.zeros((60, 80, 3), dtype)
    pixels[10:20, 30:50] = full
    pixels[30:, :] = int(full * 0.3)
    expected = masks.empty(60, 80)
    expected[10:20, 30:50] = 255
    np.testing.assert_array_equal(made(blank(), from_=Frame(pixels)), expected)
    lower = made(blank(), from_=Frame(pixels), threshold=50)
    assert lower[30:].all() and not lower[:10].any()
    # one colour: the mask is in alpha
    alpha = np.ascontiguousarray(pixels[..., 0])
    np.testing.assert_array_equal(made(blank(), from_=Frame(np.zeros_like(pixels), alpha=alpha)), expected)
    # transparent white is kept
    assert not made(blank(), from_=Frame(np.full_like(pixels, full), alpha=np.zeros_like(alpha))).any()


def test_a_picture_of_another_size_is_refused() -> None:
    with pytest.raises(DataError, match="80×60"):
        mask(blank(), from_=blank(61, 80))


def test_what_is_given_goes_before_regions_and_both_can_be_joined() -> None:
    frame = with_regions(blank(), (0, 0), (5, 0), (5, 5), (0, 5))
    alone = made(frame, rect=((20, 20, 4, 4),), fit="polygon")
    assert not alone[:10, :10].any() and alone[20:24, 20:24].all()
    both = made(frame, rect=((20, 20, 4, 4),), regions=True, fit="polygon")
    assert both[:5, :5].all() and both[20:24, 20:24].all() and both.sum() == 41 * 255


def test_modes() -> None:
    old, new = masks.empty(60, 80), masks.empty(60, 80)
    old[:, :40], new[:30] = 255, 255
    frame = blank().replace(mask=old)
    rect = ((0, 0, 80, 30),)
    for mode, expected in {
        "replace": new,
        "add": old | new,
        "subtract": old & ~new,
        "intersect": old & new,
    }.items():
        np.testing.assert_array_equal(made(frame, rect=rect, mode=mode), expected)
    np.testing.assert_array_equal(made(frame, rect=rect, invert=True), ~new)
    assert not made(blank(), rect=rect, mode="subtract").any()
    # a mask alone is worked on as it is
    np.testing.assert_array_equal(made(frame), old)
    assert made(frame, dilate=2)[:, :42].all()


# --- normalisation ---------------------------------------------------------------------------------------


@fast
@given(planes, st.integers(0, 12))
def test_dilation_is_by_distance(plane: NDArray[np.uint8], radius: int) -> None:
    grown = masks.dilate(plane, radius)
    rows, columns = np.nonzero(plane)
    if len(rows) == 0:
        assert not grown.any()
        return
    r, c = np.mgrid[: plane.shape[0], : plane.shape[1]]
    nearest = np.hypot(r[..., None] - rows, c[..., None] - columns).min(axis=2)
    np.testing.assert_array_equal(grown > 0, nearest <= (radius + 0.5 if radius else 0))


@fast
@given(planes, st.integers(0, 5), st.integers(0, 12), st.floats(0, 9))
def test_what_cleans_removes_or_adds_only(plane: NDArray[np.uint8], radius: int, least: int, width: float) -> None:
    assert (masks.close(plane, radius) >= plane).all()
    assert (masks.fill_holes(plane) >= plane).all()
    assert (masks.remove_specks(plane, least) <= plane).all()
    assert (masks.feather(plane, width) >= plane).all()
    # done twice is done once
    for function, number in ((masks.remove_specks, least), (masks.close, radius)):
        once = function(plane, number)
        np.testing.assert_array_equal(function(once, number), once)


def test_specks_holes_and_gaps() -> None:
    plane = masks.empty(40, 40)
    plane[5:15, 5:15] = 255
    plane[8:12, 8:12] = 0
    plane[30, 30] = plane[31, 31] = 255
    assert masks.remove_specks(plane, 3).sum() == 84 * 255
    assert masks.remove_specks(plane, 2).sum() == 86 * 255
    assert masks.fill_holes(plane)[5:15, 5:15].all()
    open_ring = plane.copy()
    open_ring[9, 5:8] = 0
    assert not masks.fill_holes(open_ring)[9, 9]
    split = masks.empty(40, 40)
    split[10:30, 10:18] = split[10:30, 22:30] = 255
    assert not masks.close(split, 1)[20, 20]
    assert masks.close(split, 2)[20, 18:22].all()
    # the picture's edge is no gap
    np.testing.assert_array_equal(masks.close(masks.invert(masks.empty(9, 9)), 3), 255)


def test_feather_falls_off_over_its_width() -> None:
    plane = masks.empty(1, 40)
    plane[0, 10] = 255
    weights = masks.feather(plane, 4)[0, 10:17]
    assert weights.tolist() == [255, 204, 153, 102, 51, 0, 0]


# --- grid ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_no_stroke_is_lost_at_any_alignment(width: int, upright: bool) -> None:
    for row, column in itertools.product(range(8), repeat=2):
        stroke = masks.empty(64, 64)
        if upright:
            stroke[16 + row : 41 + row, 24 + column : 24 + column + width] = 255
        else:
            stroke[24 + row : 24 + row + width, 16 + column : 41 + column] = 255
        gridded = masks.to_grid(stroke, 8, 0)
        assert (gridded >= stroke).all()
        cells = stroke.reshape(8, 8, 8, 8).any(axis=(1, 3))
        np.testing.assert_array_equal(gridded, np.kron(cells, np.ones((8, 8))) * 255)


@fast
@given(planes, st.integers(1, 9), st.integers(0, 3))
def test_grid_covers_and_is_made_of_whole_cells(plane: NDArray[np.uint8], cell: int, grow: int) -> None:
    gridded = masks.to_grid(plane, cell, grow)
    assert (gridded >= plane).all() and set(np.unique(gridded)) <= {0, 255}
    np.testing.assert_array_equal(masks.to_grid(gridded, cell, 0), gridded)
    rows, columns = np.nonzero(plane)
    own = {(int(r), int(c)) for r, c in zip(rows // cell, columns // cell)}
    got = {(int(r), int(c)) for r, c in zip(*(axis // cell for axis in np.nonzero(gridded)))}
    steps = range(-grow, grow + 1)
    last = ((plane.shape[0] - 1) // cell, (plane.shape[1] - 1) // cell)
    around = {(r + i, c + j) for r, c in own for i in steps for j in steps}
    assert got == {(r, c) for r, c in around if 0 <= r <= last[0] and 0 <= c <= last[1]}


def test_grid_is_written_into_the_sidecar() -> None:
    info = mask(blank(), rect=((9, 9, 1, 1),), grid=8, dilate_cells=1).sidecar.mask
    assert info is not None and (info.grid, info.dilation_cells) == (8, 1)
    with pytest.raises(UsageError, match="--dilate-cells"):
        mask(blank(), dilate_cells=1)


# --- letters ---------------------------------------------------------------------------------------------


def stamped(kind: str, seed: int = 0) -> tuple[Frame, NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a frame with one stamp and its region, where the text is, and the photo without it."""
    clean = sample.photos(["grace_hopper"])["grace_hopper"]
    pixels, truth = sample.stamp(clean, kind=kind, seed=seed)
    x, y, width, height = cv2.boundingRect((truth > 0).view(np.uint8))
    corners = ((x - 3, y - 3), (x + width + 3, y - 3), (x + width + 3, y + height + 3), (x - 3, y + height + 3))
    return with_regions(Frame(pixels), *corners), truth, clean


@pytest.mark.parametrize("kind", ["date", "caption"])
@pytest.mark.parametrize("seed", range(4))
def test_glyph_finds_the_strokes(kind: str, seed: int) -> None:
    frame, truth, clean = stamped(kind, seed)
    result = mask(frame)
    assert result.mask is not None and "unsure" not in result.notes
    strokes, boxes = result.mask > 0, made(frame, fit="polygon") > 0
    assert strokes.sum() < 0.75 * boxes.sum()
    # what changed the picture is in the mask, nearly all of it; a dark outline on black changes nothing
    changed = np.abs(frame.pixels.astype(int) - clean).max(axis=2) > 25
    assert strokes[changed & (truth > 64)].mean() > 0.95


def test_glyph_works_in_16_bit() -> None:
    frame, _, _ = stamped("date")
    deep = with_regions(Frame(frame.pixels.astype(np.uint16) * 257), *frame.sidecar.regions[0].polygon)
    np.testing.assert_array_equal(made(deep), made(frame))


def test_where_there_are_no_strokes_the_region_is_taken() -> None:
    corners = ((10.0, 10.0), (60.0, 10.0), (60.0, 30.0), (10.0, 30.0))
    result = mask(with_regions(blank(), *corners))
    assert result.notes["polygons"] == 1 and result.notes["unsure"][0]["where"] == [10, 10]
    assert result.mask is not None
    np.testing.assert_array_equal(
        result.mask, made(with_regions(blank(), *corners), fit="polygon", dilate=DILATE["glyph"])
    )


def test_a_region_that_is_taken_whole_is_said(caplog: pytest.LogCaptureFixture) -> None:
    frame = with_regions(blank(), (10.0, 10.0), (60.0, 10.0), (60.0, 30.0), (10.0, 30.0))
    done = Engine([call("mask")]).run(frame)
    (found,) = done.sidecar.findings
    assert (found.code, found.severity) == ("IM301", "warning") and "in 1 of 1 regions" in found.message
    assert "IM301 letters are not told from their ground" in caplog.text
    with pytest.raises(GateFailed, match="IM301"):
        Engine([call("preflight", fail_on="warning")]).run(done)
    # it is of that mask alone
    assert not Engine([call("mask", fit="polygon")]).run(done).sidecar.findings


@pytest.mark.parametrize(("opacity", "said"), [(0.25, ["IM302"]), (1.0, [])])
def test_a_large_faint_watermark_is_said_to_be_hard_to_see(opacity: float, said: list[str]) -> None:
    photos = sample.photos(["astronaut", "brick"])
    for photo in photos.values():
        style = sample.Style(110, (255, 255, 255), opacity=opacity)
        pixels, truth = sample.stamp(photo, "SAMPLE", style=style)
        x, y, width, height = cv2.boundingRect((truth > 0).view(np.uint8))
        corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
        done = Engine([call("mask")]).run(with_regions(Frame(pixels), *corners))
        assert [finding.code for finding in done.sidecar.findings] == said


@pytest.mark.parametrize("kind", ["date", "caption", "small"])
def test_of_usual_letters_nothing_is_said(kind: str) -> None:
    assert not Engine([call("mask")]).run(stamped(kind)[0]).sidecar.findings


def test_the_warnings_are_documented() -> None:
    assert [line.split()[0] for line in fitting.explain("").splitlines()] == ["IM301", "IM302", "IM303"]
    assert fitting.explain("im302").startswith("IM302: letters that are hard to see (warning)")
    with pytest.raises(UsageError, match="mask has no code 'IE101'"):
        fitting.explain("IE101")


def test_box_polygon_and_growth() -> None:
    frame = with_regions(blank(), (40, 10), (60, 30), (40, 50), (20, 30))
    box, diamond = made(frame, fit="box"), made(frame, fit="polygon")
    assert box[10:50, 20:60].all() and box.sum() == 1600 * 255
    assert (diamond <= box).all() and 780 * 255 < diamond.sum() < 820 * 255
    assert DILATE["polygon"] == DILATE["box"] == 0
    np.testing.assert_array_equal(made(frame, fit="polygon", dilate=2), masks.dilate(diamond, 2))


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (3, 2)])
@pytest.mark.parametrize("fit", ["glyph", "polygon", "box"])
def test_tiny_pictures(size: tuple[int, int], fit: str) -> None:
    rows, columns = size
    frame = with_regions(blank(rows, columns), (-5, -5), (columns + 5, -5), (columns + 5, rows + 5), (-5, rows + 5))
    result = made(frame, fit=fit, fill_holes=True, close=3, dilate=20, grid=8, dilate_cells=1, feather=2.5, min_area=1)
    assert result.shape == size and result.all()


@pytest.mark.parametrize("fit", ["glyph", "polygon", "box"])
@pytest.mark.parametrize(
    "corners",
    [
        ((5, 5), (9, 9), (7, 7)),
        ((-90, -90), (-80, -90), (-80, -80)),
        ((-1e9, 0), (1e9, 0), (1e9, 1e9), (-1e9, 1e9)),
        ((5.1, 5.1), (5.2, 5.1), (5.2, 5.2)),
    ],
)
def test_regions_that_make_no_sense_do_no_harm(corners: tuple[tuple[float, float], ...], fit: str) -> None:
    drawn = made(with_regions(blank(), *corners), fit=fit, dilate=0)
    if corners[:1] == ((5.1, 5.1),):
        # small as it is, it is not lost
        assert drawn[5, 5] == 255 and drawn.sum() == 255


def test_letters_larger_than_the_search() -> None:
    ground = np.full((1200, 4000, 3), (60, 90, 120), np.uint8)
    style = sample.Style(500, (240, 240, 240), place=(0.5, 0.5))
    pixels, truth = sample.stamp(ground, "2019-07", style=style)
    frame = with_regions(Frame(pixels), (50, 300), (3950, 300), (3950, 950), (50, 950))
    strokes = made(frame)
    assert (strokes[truth > 127] > 0).mean() > 0.99
    assert (masks.dilate(truth, 10)[strokes > 0] > 0).mean() > 0.99


def test_cost_follows_the_mask_and_not_the_picture() -> None:
    frame = Frame(np.zeros((3000, 4000, 3), np.uint8))
    start = time.process_time()
    mask(frame, rect=((3000, 2900, 300, 40),), fill_holes=True, close=3, dilate=3, grid=8, feather=4, min_area=5)
    assert time.process_time() - start < 1.0


def test_glyph_does_not_change_the_picture() -> None:
    frame, _, _ = stamped("caption")
    before = frame.pixels.copy()
    drawn = masks.empty(frame.rows, frame.columns)
    assert glyph.draw(drawn, frame.pixels, masks.points(frame.sidecar.regions[0].polygon)) == ""
    np.testing.assert_array_equal(frame.pixels, before)
