"""Strokes found by colour and by edges, and what belongs to them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import sample
from numpy.typing import NDArray

from imgedit.frame import Frame, Region
from imgedit.ops import glyph, inks, masks, overlay, rims
from imgedit.ops.overlay import Overlay
from imgedit.stages.mask import mask

Plane = NDArray[np.uint8]
WHITE, BLACK = (255.0, 255.0, 255.0), (0.0, 0.0, 0.0)


def ground(rows: int = 80, columns: int = 240, *, texture: float = 4.0, seed: int = 0) -> Plane:
    """Return a smooth coloured picture with some texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:rows, 0:columns] / max(rows, columns)
    waves = np.stack([np.sin(4 * x + y), np.cos(3 * y - 2 * x), np.sin(5 * x * y + 1)], axis=2)
    rough = cv2.GaussianBlur(rng.standard_normal((rows, columns, 3)), (0, 0), 1.0) * 3
    return np.clip(105 + 45 * waves + texture * rough, 0, 255).astype(np.uint8)


def written(clean: Plane, colour: tuple[float, ...], opacity: float, text: str = "PREVIEW") -> tuple[Plane, Plane]:
    """Return *clean* with *text* of one colour and opacity across it, and its coverage, 0…255."""
    fill = tuple(round(level) for level in colour)
    style = sample.Style(0.5 * clean.shape[0], (fill[0], fill[1], fill[2]), opacity=opacity)
    return sample.stamp(clean, text, seed=1, style=style)


def box(truth: Plane, margin: float = 3) -> NDArray[np.float64]:
    x, y, width, height = cv2.boundingRect((truth > 25).view(np.uint8))
    left, top, right, bottom = x - margin, y - margin, x + width + margin, y + height + margin
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)


def likeness(strokes: Plane, truth: Plane) -> float:
    """Return the IoU of both grown by 2 pixels."""
    one, other = (masks.dilate((plane > 25).view(np.uint8) * np.uint8(255), 2) > 0 for plane in (strokes, truth))
    return float((one & other).sum() / (one | other).sum())


# --- overlays --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("colour", "opacity"), [(WHITE, 0.4), (BLACK, 0.5), ((220.0, 40.0, 30.0), 0.5)])
def test_the_cut_finds_the_strokes_of_an_overlay(colour: tuple[float, float, float], opacity: float) -> None:
    stamped, truth = written(ground(), colour, opacity)
    everywhere = np.ones(truth.shape, bool)
    found = overlay.cut(stamped, everywhere, [Overlay(colour, opacity)], rounds=80, channels=True)[0]
    assert likeness((found.soft > 0.5).view(np.uint8) * np.uint8(255), truth) > 0.9
    assert found.soft.min() >= 0 and found.soft.max() <= 1


def test_the_true_overlay_explains_most() -> None:
    stamped, truth = written(ground(), WHITE, 0.4)
    tried = [Overlay(WHITE, 0.15), Overlay(WHITE, 0.4), Overlay(WHITE, 0.7), Overlay(BLACK, 0.4)]
    gains = [cut.gain for cut in overlay.cut(stamped, np.ones(truth.shape, bool), tried, rounds=40, channels=False)]
    assert int(np.argmax(gains)) == 1
    # what is ranked together is ranked alike alone
    alone = overlay.cut(stamped, np.ones(truth.shape, bool), tried[1:2], rounds=40, channels=False)[0].gain
    assert alone == pytest.approx(gains[1], rel=1e-4)


def test_nothing_is_cut_out_of_a_flat_picture() -> None:
    flat = np.full((40, 60, 3), 90, np.uint8)
    cut = overlay.cut(flat, np.ones((40, 60), bool), [Overlay(WHITE, 0.4)], rounds=40, channels=True)[0]
    assert not cut.soft.any() and cut.gain == 0


def test_pixels_that_the_overlay_cannot_give_are_left_out() -> None:
    picture = np.zeros((9, 9, 3), np.uint8)
    picture[4, 4] = 200
    may = overlay.possible(picture, Overlay(WHITE, 0.5))
    # half of white over anything is brighter than black; the rim round what is possible may fade
    assert may[3:6, 3:6].all() and may.sum() == 9


def test_the_colour_of_letters_is_a_peak() -> None:
    stamped, truth = written(ground(texture=12), (150.0, 120.0, 110.0), 1.0)
    inside = masks.empty(*truth.shape)
    masks.draw(inside, box(truth))
    assert (150.0, 120.0, 110.0) in inks.peaks(stamped, inside > 0)


# --- strokes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["brick", "gravel", "motorcycle_left"])
@pytest.mark.parametrize("kind", ["low-contrast", "watermark"])
def test_faint_and_semi_transparent_letters_on_textured_ground(name: str, kind: str) -> None:
    photos = sample.photos([name])
    if not photos:
        pytest.skip(f"{name} is not installed here")
    stamped, truth = sample.stamp(photos[name][:512, :512], kind=kind, seed=4)
    rows, columns = np.nonzero(truth > 25)
    corners = cv2.boxPoints(cv2.minAreaRect(np.stack([columns, rows], axis=1).astype(np.float32)))
    corners = (corners - corners.mean(axis=0)) * 1.05 + corners.mean(axis=0) + 0.5
    drawn = masks.empty(*truth.shape)
    assert glyph.draw(drawn, stamped, corners.astype(np.float64)) == ""
    strokes = masks.dilate(drawn, 2) > 0
    assert strokes[truth > 127].mean() > 0.95
    assert likeness(drawn, truth) > 0.5


def test_letters_are_followed_out_of_their_box_but_not_into_the_picture() -> None:
    picture = np.full((80, 200, 3), 60, np.uint8)
    picture[20:50, 40:46] = picture[20:50, 100:106] = 230
    # one stroke goes on to the border of the picture
    picture[50:, 100:106] = 230
    inside = masks.empty(80, 200)
    inside[16:46, 20:180] = 255
    strokes = np.where(inside > 0, (picture[..., 0] > 128) * np.uint8(255), 0).astype(np.uint8)
    followed = rims.follow(picture, strokes, inside, 30.0)
    assert followed[46:50, 40:46].all() and (followed >= strokes).all()
    assert not followed[46 + round(rims.BEYOND * 30) + 1 :].any()


def test_a_soft_shadow_belongs_to_the_strokes() -> None:
    clean = np.full((80, 240, 3), (150, 160, 140), np.uint8)
    style = sample.Style(34, (250, 240, 60), glow=2, edge=(40, 20, 20))
    stamped, _ = sample.stamp(clean, "2019-07", seed=1, style=style)
    letters = (np.abs(stamped.astype(int) - (250, 240, 60)).max(axis=2) < 60).view(np.uint8) * np.uint8(255)
    grown = rims.shadow(stamped, letters, 34.0)
    changed = np.abs(stamped.astype(int) - clean).max(axis=2) > 30
    assert (masks.dilate(grown, 1) > 0)[changed].mean() > 0.97
    assert (masks.dilate(letters, 1) > 0)[changed].mean() < 0.9
    # letters without one stay as they are
    plain, _ = sample.stamp(clean, "2019-07", seed=1, style=sample.Style(34, (250, 240, 60)))
    np.testing.assert_array_equal(rims.shadow(plain, letters, 34.0), letters)


def test_a_logo_is_taken_whole() -> None:
    corners = ((20.0, 20.0), (90.0, 20.0), (90.0, 60.0), (20.0, 60.0))
    stamped, _ = written(ground(), WHITE, 1.0)
    frame = Frame(stamped).with_sidecar(regions=(Region(corners, "logo"),))
    result = mask(frame, dilate=0)
    assert result.mask is not None and result.mask[20:60, 20:90].all() and result.mask.sum() == 255 * 40 * 70
    assert "polygons" not in result.notes


@pytest.mark.parametrize("seed", [1, 3])
def test_large_letters_are_masked_with_their_glow(seed: int) -> None:
    photo = sample.photos(["coins"])["coins"]
    large = cv2.resize(photo, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    given, drawn = sample.stamp(large, kind="date", seed=seed)
    x, y, width, height = cv2.boundingRect((drawn > 20).astype(np.uint8))
    room = height // 8
    box = masks.box(np.array([(x - room, y - room), (x + width + room, y + height + room)], np.float64))
    mask = masks.empty(*drawn.shape)
    assert not glyph.draw(mask, given, box)
    mask = masks.dilate(mask, 2)
    # without the growth for large letters a tenth is left out
    assert np.count_nonzero((drawn > 8) & (mask == 0)) <= 0.04 * np.count_nonzero(drawn > 8)
    assert np.count_nonzero(mask) < 2.5 * np.count_nonzero(drawn > 8)


def test_what_is_known_only_beside_a_region_says_nothing_of_it() -> None:
    stamped = ground(120, 300, texture=0)
    polygon = np.array([[60, 40], [240, 40], [240, 80], [60, 80]], float)
    beside, within = np.zeros((120, 300), np.uint8), np.zeros((120, 300), np.uint8)
    beside[30:34, 100:140] = within[50:70, 100:140] = 255
    assert glyph.fit(stamped, polygon, known=beside).why == glyph.fit(stamped, polygon).why != ""
    assert glyph.fit(stamped, polygon, known=within).why == ""
