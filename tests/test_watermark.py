"""Semi-transparent overlays over the whole picture: found, followed from known text, and never where there is none."""

from __future__ import annotations

from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest
import sample
from numpy.typing import NDArray
from test_glyph import WHITE, box, ground, likeness

from imgedit import registry
from imgedit.frame import Frame, Region
from imgedit.ops import masks, regions, watermark
from imgedit.ops.overlay import Overlay
from imgedit.stage import Around
from imgedit.stages.mask import mask

Plane = NDArray[np.uint8]


def tiled(clean: Plane, opacity: float) -> tuple[Plane, Plane]:
    """Return *clean* with white slanted text all over, and its coverage."""
    layer = np.zeros(clean.shape[:2], np.uint8)
    for row in range(30, clean.shape[0], 70):
        for column in range(10, clean.shape[1] - 120, 150):
            cv2.putText(layer, "SAMPLE", (column, row), cv2.FONT_HERSHEY_SIMPLEX, 1.0, 255, 5, cv2.LINE_AA)
    share = layer[..., None] / 255 * opacity
    return np.rint(clean * (1 - share) + 255 * share).astype(np.uint8), layer


@pytest.mark.parametrize("opacity", [0.3, 0.5])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_watermark_is_found_without_any_region(opacity: float, kind: Any) -> None:
    stamped, truth = tiled(ground(300, 500, texture=2), opacity)
    frame = Frame(stamped if kind == np.uint8 else stamped.astype(np.uint16) * 257)
    result = mask(frame, shape="watermark", dilate=1)
    note = result.notes["watermark"]
    assert note["found"] and note["opacity"] == pytest.approx(opacity, abs=0.04)
    assert note["colour"] == [frame.full_scale] * 3
    assert result.mask is not None and (result.mask[truth > 127] > 0).mean() > 0.93
    assert likeness(result.mask, truth) > 0.8


def test_from_one_region_the_others_are_found() -> None:
    stamped, truth = tiled(ground(300, 500, texture=4), 0.35)
    first = truth.copy()
    first[:, 150:] = first[60:] = 0
    found = watermark.find(stamped, [box(first)])
    assert found.overlay is not None and found.overlay.opacity == pytest.approx(0.35, abs=0.05)
    assert (masks.dilate(found.mask, 1)[truth > 127] > 0).mean() > 0.85


def test_where_no_ground_tells_nothing_is_alike() -> None:
    # white ground says nothing of a white overlay
    soft = np.zeros((60, 80), np.float32)
    soft[20:30, 20:26] = soft[20:30, 50:56] = 1
    inside = masks.empty(60, 80)
    inside[15:35, 15:35] = 255
    kept = watermark._alike(np.full((60, 80, 3), 250, np.uint8), soft, Overlay(WHITE, 0.4), inside)
    assert kept[20:30, 20:26].all() and kept.sum() == 255 * 10 * 6


@pytest.mark.parametrize("name", ["", "brick", "camera", "retina"])
def test_where_there_is_no_watermark_the_picture_is_not_masked(name: str) -> None:
    photos = sample.photos([name]) if name else {"": ground(300, 400)}
    if not photos:
        pytest.skip(f"{name} is not installed here")
    result = mask(Frame(np.ascontiguousarray(photos[name][:400, :400])), shape="watermark")
    assert result.mask is not None and not result.mask.any()
    assert not result.notes["watermark"]["found"]
    (said,) = result.sidecar.findings
    assert said.code == "IM303" and result.notes["watermark"]["why"] in said.message


def test_without_a_watermark_the_regions_are_taken() -> None:
    frame = Frame(np.full((60, 80, 3), 90, np.uint8)).with_sidecar(
        regions=(Region(((10.0, 10.0), (60.0, 10.0), (60.0, 30.0), (10.0, 30.0))),)
    )
    result, usual = mask(frame, shape="watermark"), mask(frame)
    assert result.mask is not None and usual.mask is not None
    np.testing.assert_array_equal(result.mask, usual.mask)
    assert not result.notes["watermark"]["found"]


def test_a_watermark_does_not_spread_along_the_joints_of_a_wall() -> None:
    photo = sample.photos(["brick"])["brick"]
    given, drawn = sample.stamp(photo, kind="watermark", seed=2)
    points = np.argwhere(drawn > 128)[:, ::-1].astype(np.float32)
    found = watermark.find(given, [cv2.boxPoints(cv2.minAreaRect(points)).astype(np.float64)])
    away = masks.dilate(drawn, 4) == 0
    assert (found.mask[drawn > 128] > 0).mean() > 0.85
    assert (found.mask[away] > 0).mean() < 0.03


def turned(truth: Plane, margin: float = 8) -> NDArray[np.float64]:
    """Return the rotated box round what *truth* covers, within the picture."""
    rows, columns = np.nonzero(truth > 25)
    points = np.stack([columns + 0.5, rows + 0.5], axis=1).astype(np.float32)
    centre, (width, height), angle = cv2.minAreaRect(points)
    corners = cv2.boxPoints((centre, (width + margin, height + margin), angle)).astype(np.float64)
    return regions.clip(corners, *truth.shape)


@pytest.mark.parametrize("name", ["camera", "coins", "moon"])
def test_what_is_known_to_be_text_is_masked_as_well_as_without_a_watermark(name: str) -> None:
    photo = sample.photos([name])[name][:512, :512]
    stamped, truth = sample.stamp(np.ascontiguousarray(photo[:, :380]), kind="watermark", seed=8)
    region = Region(regions.corners(turned(truth)), "text")
    frame = Frame(stamped).with_sidecar(regions=(region,))
    around = Around(partial(registry.backend, "strokes", "learned"))
    usual, sought = mask(frame, around, dilate=0), mask(frame, around, shape="watermark", dilate=0)
    assert sought.notes["watermark"]["found"]
    assert usual.mask is not None and sought.mask is not None
    assert likeness(sought.mask, truth) > likeness(usual.mask, truth) - 0.02 > 0.6


def repeated(photo: Plane, one: Overlay, angle: float = 0) -> tuple[Plane, list[Plane]]:
    """Return *photo* with a word over it again and again, and the coverage of each that is at least half inside."""
    rows, columns = photo.shape[:2]
    letters = np.zeros((60, 140), np.uint8)
    cv2.putText(letters, "STOCK", (12, 42), cv2.FONT_HERSHEY_SIMPLEX, 1.1, 255, 3, cv2.LINE_AA)
    matrix = cv2.getRotationMatrix2D((70.0, 30.0), angle, 1).astype(np.float64)
    out, words = photo.astype(np.float32), []
    for number, top in enumerate(range(-20, rows, 110)):
        for left in range(-40 - 60 * (number % 2), columns, 190):
            there = matrix.copy()
            there[:, 2] += (left, top)
            word = cv2.warpAffine(letters, there, (columns, rows), flags=cv2.INTER_CUBIC)
            share = word[..., None].astype(np.float32) / 255 * one.opacity
            out += (np.array(one.colour, np.float32) - out) * share
            if word.sum() > 0.5 * letters.sum():
                words.append(word)
    return np.rint(out).astype(np.uint8), words


def uncut(word: Plane) -> bool:
    """Tell whether *word* does not touch the border of the picture."""
    return not (word[[0, -1]].any() or word[:, [0, -1]].any())


@pytest.mark.parametrize(
    ("name", "one", "angle"),
    [
        ("camera", Overlay(WHITE, 0.3), 0),
        ("brick", Overlay(WHITE, 0.45), 30),
        ("moon", Overlay((0.0,) * 3, 0.35), -25),
        ("motorcycle_left", Overlay(WHITE, 0.43), 0),
    ],
)
def test_a_word_that_is_known_is_found_wherever_it_stands_again(name: str, one: Overlay, angle: float) -> None:
    photo = np.ascontiguousarray(sample.photos([name])[name][:440, :500])
    stamped, words = repeated(photo, one, angle)
    middle = next(word for word in words if uncut(word))
    again, count = watermark.copies(stamped, (middle > 127) * np.uint8(255), [turned(middle)], one)
    everything = np.maximum.reduce(words)
    here = (everything > 127) & (middle == 0)
    found = [(masks.dilate(again, 2)[(word > 127)] > 0).mean() > 0.9 for word in words if word is not middle]
    assert np.mean(found) > 0.8 and (masks.dilate(again, 2)[here] > 0).mean() > 0.8
    assert count >= sum(found)
    # what one known word finds, another does not find again
    other = next(word for word in words if uncut(word) and word is not middle)
    both = np.maximum(middle, other)
    _, fewer = watermark.copies(stamped, (both > 127) * np.uint8(255), [turned(middle), turned(other)], one)
    assert fewer == count - 1
    # none where there is none; cut ones are copies too
    cut = repeated(np.zeros_like(photo), Overlay(WHITE, 0.9), angle)[0].max(axis=2) > 20
    assert not (again[masks.dilate(cut.view(np.uint8) * np.uint8(255), 4) == 0]).any()


@pytest.mark.parametrize("name", ["camera", "brick", "grass", "motorcycle_left", "grace_hopper"])
def test_a_word_that_stands_once_has_no_copies(name: str) -> None:
    photo = np.ascontiguousarray(sample.photos([name])[name][:440, :500])
    style = sample.Style(36, (255, 255, 255), opacity=0.4)
    stamped, truth = sample.stamp(photo, "STOCK", seed=1, style=style)
    again, count = watermark.copies(stamped, (truth > 127) * np.uint8(255), [turned(truth)], Overlay(WHITE, 0.4))
    assert count == 0 and not again.any()


def test_of_what_is_not_of_the_overlay_no_copies_are_sought() -> None:
    """Find none of opaque words, as of a sign in the photo, however often they stand there."""
    stamped, words = repeated(ground(400, 500, texture=4), Overlay((200.0, 30.0, 30.0), 0.95))
    again, count = watermark.copies(stamped, (words[3] > 127) * np.uint8(255), [turned(words[3])], Overlay(WHITE, 0.4))
    assert count == 0 and not again.any()


def test_the_record_says_how_many_copies_were_found() -> None:
    one = Overlay(WHITE, 0.4)
    stamped, words = repeated(ground(330, 400, texture=4), one)
    region = Region(regions.corners(turned(next(word for word in words if uncut(word)))), "text")
    result = mask(Frame(stamped).with_sidecar(regions=(region,)), shape="watermark")
    assert result.notes["watermark"]["copies"] >= len(words) - 1
    assert result.mask is not None and (result.mask[np.maximum.reduce(words) > 127] > 0).mean() > 0.95
