"""What the detector does not see by itself: drawn colours, lines followed by reading, watermarks, and given logos."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
import sample
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from imgedit.backends.detect import _faint, _found
from imgedit.backends.detect._found import Found
from imgedit.backends.detect.rapidocr import Rapidocr
from imgedit.errors import DataError, GateFailed
from imgedit.frame import Frame, Region
from imgedit.ops import lines, logo, logo_search, looks, masks
from imgedit.ops.lines import Line, Reading
from imgedit.stages.detect_text import detect_text

fast = settings(max_examples=40, deadline=None)
TEXT = "WATERMARKSAMPLE"


@pytest.fixture(scope="module")
def ocr() -> Rapidocr:
    return Rapidocr()


def covered(polygons: list[Any], truth: NDArray[np.uint8]) -> float:
    drawn = masks.empty(*truth.shape)
    for polygon in polygons:
        masks.draw(drawn, masks.points(polygon))
    return float((drawn[truth > 127] > 0).mean())


class Written:
    """A reader of one line of TEXT: the worse the strip lies on it, the less sure; it sees what the strip covers."""

    def __init__(self, line: Line, text: str = TEXT) -> None:
        self.line = line
        self.text = text
        self.reads = 0

    def __call__(self, at: Line) -> Reading:
        self.reads += 1
        truth = self.line
        signs = []
        for number, sign in enumerate(self.text):
            spot = truth.moved(((number + 0.5) / len(self.text) - 0.5) * truth.length, 0)
            x, y = spot.x - at.x, spot.y - at.y
            along = x * math.cos(at.angle) + y * math.sin(at.angle)
            across = y * math.cos(at.angle) - x * math.sin(at.angle)
            off = abs(across) / truth.height + abs(math.log(at.height / truth.height))
            off += 2 * abs(math.sin(at.angle - truth.angle))
            if abs(along) < at.length / 2:
                signs.append((sign, max(0.05, 1 - 0.6 * off), along / at.length + 0.5))
        text = "".join(sign for sign, _, _ in signs)
        return Reading(text, float(np.mean([s for _, s, _ in signs])) if signs else 0.0, tuple(signs))


# --- lines -----------------------------------------------------------------------------------------------


@fast
@given(st.floats(50, 200), st.floats(50, 200), st.floats(-0.7, 0.7), st.floats(60, 200), st.floats(8, 30))
def test_a_line_and_its_box_are_the_same(x: float, y: float, angle: float, length: float, height: float) -> None:
    line = Line(x, y, angle, length, height)
    assert lines.of_box(lines.box(line)) == pytest.approx(line, abs=0.05)


def test_a_strip_is_what_lies_in_the_line() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    level = lines.cut(pixels, Line(40, 20, 0.0, 30, 10), 10, 999)
    np.testing.assert_array_equal(level, pixels[15:25, 25:55])
    turned = lines.cut(pixels, Line(40, 20, math.pi, 30, 10), 10, 999)
    assert abs(turned.astype(int) - level[::-1, ::-1].astype(int)).max() <= 1


@fast
@given(st.floats(-0.6, 0.6), st.floats(-0.08, 0.08), st.floats(-0.1, 0.1), st.floats(0.85, 1.2), st.floats(-0.2, 0.2))
def test_a_line_is_followed_from_a_bad_start(angle: float, turn: float, up: float, taller: float, on: float) -> None:
    truth = Line(500, 400, angle, 360, 40)
    reader = Written(truth)
    start = truth.moved(on * 360, up * 40)._replace(angle=angle + turn, height=40 * taller, length=200)
    followed = lines.follow(reader, [start])
    assert followed is not None and followed[1].text == TEXT
    line = followed[0]
    ends = [truth.moved(side * truth.length / 2, 0) for side in (-1, 1)]
    for end in ends:
        assert cv2.pointPolygonTest(lines.box(line).astype(np.float32), (end.x, end.y), False) >= 0
    assert line.length < 1.5 * truth.length and reader.reads < 70


def test_nothing_is_followed_where_nothing_is_read() -> None:
    reader = Written(Line(500, 400, 0.0, 360, 40))
    assert lines.follow(reader, [Line(100, 100, 0.0, 200, 40)]) is None
    assert reader.reads == 1


def test_a_part_of_a_line_is_made_whole() -> None:
    truth = Line(300, 200, 0.3, 360, 40)
    part = truth.moved(-60, 0)._replace(length=160)
    grown = lines.extended(Written(truth), part)
    assert grown is not None and grown[1].text == TEXT
    assert grown[0].length >= 0.95 * truth.length and abs(grown[0].x - truth.x) < 20
    whole = truth._replace(length=truth.length + 20)
    assert lines.extended(Written(truth), whole) is None


def test_what_is_read_otherwise_when_cut_otherwise_is_no_text() -> None:
    truth = Line(300, 200, 0.0, 360, 40)
    reading = Written(truth)(truth)
    assert lines.steady(Written(truth), truth, reading)
    answers = iter(("QX7", "LLM2", "0"))
    assert not lines.steady(lambda _: Reading(next(answers), 0.9, ()), truth, reading)
    assert lines.agree("Photo: M. Keller", "photo M Keler") and not lines.agree("Photo", "2019")


def test_faint_letters_may_change_where_they_are_read_as_surely() -> None:
    line = Line(300, 200, 0.0, 360, 40)

    def reading(text: str, sure: float) -> Reading:
        return Reading(text, sure, tuple((sign, sure, 0.5) for sign in text))

    def held(*others: Reading) -> bool:
        answers = iter(others)
        return lines.held(lambda _: next(answers), line, reading("stackimages", 0.95))

    assert held(reading("stodkimoges", 0.9), reading("srockimapss", 0.9))
    assert not held(reading("stodkimoges", 0.9), reading("MLLWM0", 0.9))
    # what is hardly read any more must read the same
    assert not held(reading("stodkimoges", 0.9), reading("srodkimapss", 0.55))
    assert held(reading("stodkimoges", 0.9), reading("stockimages", 0.55))


def test_a_line_ends_at_its_last_sign_though_that_is_no_letter() -> None:
    truth = Line(500, 400, 0.1, 360, 40)
    followed = lines.follow(Written(truth, "©©WATERMARK©©"), [truth._replace(length=200)])
    assert followed is not None and followed[0].length >= truth.length


def test_a_sign_beside_a_line_joins_it() -> None:
    line = Line(300, 200, 0.0, 200, 40)
    beside = lines.box(Line(170, 202, 0.0, 40, 36))
    assert lines.joined(line, [beside]).length == pytest.approx(250, abs=1)
    for other in (Line(100, 202, 0.0, 40, 36), Line(170, 240, 0.0, 40, 36), Line(170, 202, 0.0, 40, 8)):
        assert lines.joined(line, [lines.box(other)]) == line


# --- looks -----------------------------------------------------------------------------------------------


def test_a_drawn_colour_is_known_and_a_photographed_one_is_not() -> None:
    rng = np.random.default_rng(1)
    pixels = np.clip(rng.normal(120, 40, (200, 300, 3)), 2, 253).astype(np.uint8)
    assert looks.drawn_colours(pixels) == []
    drawn = pixels.copy()
    drawn[80:100, 50:200] = (130, 110, 90)
    assert looks.drawn_colours(drawn) == [(130, 110, 90)]
    keyed = looks.keyed(drawn, (130, 110, 90))
    assert not keyed[80:100, 50:200].any() and keyed[:70].mean() > 240
    # a smooth sky has many flat colours, and none stands out
    sky = np.repeat(np.linspace(90, 200, 400).astype(np.uint8)[None, :, None], 200, 0).repeat(3, 2)
    assert looks.drawn_colours(np.ascontiguousarray(sky)) == []


def test_points_of_a_look_lie_where_they_lie_in_the_picture() -> None:
    pixels = np.zeros((400, 600, 3), np.uint8)
    pixels[200:240, 320:360] = 255
    for look in looks.overlays(pixels):
        grey = look.pixels[..., 0].astype(float)
        # beyond its edge a turned look mirrors the picture: the square itself is the largest
        _, labels, stats, _ = cv2.connectedComponentsWithStats((grey > 0.8 * grey.max()).astype(np.uint8))
        rows, columns = np.nonzero(labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax())
        there = looks.back(np.array([[columns.mean() + 0.5, rows.mean() + 0.5]]), look.matrix)[0]
        np.testing.assert_allclose(there, (340, 220), atol=4)


def square(photo: str) -> NDArray[np.uint8]:
    pixels = sample.photos([photo])[photo]
    side = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    part = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    return np.asarray(cv2.resize(part, (512, 512), interpolation=cv2.INTER_AREA if side > 512 else cv2.INTER_CUBIC))


# seen by the colour alone; among specks of its colour; longer than what the picture itself shows
@pytest.mark.parametrize(("photo", "seed"), [("grass", 6), ("coins", 6), ("gravel", 7), ("coins", 2006)])
def test_letters_lost_in_texture_are_found_by_their_colour(photo: str, seed: int, ocr: Rapidocr) -> None:
    pixels, truth = sample.stamp(square(photo), kind="low-contrast", seed=seed)
    found = detect_text(Frame(pixels), ocr).sidecar.regions
    assert covered([region.polygon for region in found], truth) > 0.97


def test_a_watermark_over_texture_is_found_whole(ocr: Rapidocr) -> None:
    photo = cv2.resize(sample.photos(["brick"])["brick"], (512, 512))
    style = sample.Style(60, (255, 255, 255), opacity=0.4, angle=30)
    pixels, truth = sample.stamp(photo, "SAMPLE COPY", style=style)
    found = detect_text(Frame(pixels), ocr).sidecar.regions
    assert covered([region.polygon for region in found], truth) > 0.95
    assert not detect_text(Frame(photo), ocr).sidecar.regions


@pytest.mark.parametrize(("photo", "seed"), [("ihc", 4), ("gravel", 1007)])
def test_a_watermark_that_reads_now_so_now_otherwise_is_found(photo: str, seed: int, ocr: Rapidocr) -> None:
    pixels, truth = sample.stamp(square(photo), kind="watermark", seed=seed)
    found = detect_text(Frame(pixels), ocr).sidecar.regions
    assert covered([region.polygon for region in found], truth) > 0.95


def test_a_line_followed_from_beside_a_known_one_is_that_line() -> None:
    known = Line(300, 200, 0.7, 300, 40)
    found = [Found(lines.box(known) * 2, known, "Summer 2014", 1.0)]

    def again(line: Line, text: str) -> bool:
        return _faint._repeated(found, Found(lines.box(line), line, text, 0.9), 0.5)

    askew = known.moved(0, 30)._replace(angle=0.45, height=90)
    assert again(askew, "Summer 2014") and again(askew, "Sumer 2014l")
    # more of the same line, another line across it
    assert not again(known.moved(100, 0)._replace(length=500), "Summer 2014 in Oslo")
    assert not again(askew, "PREVIEW")
    assert not again(known.moved(0, 200), "Summer 2014")


def test_rings_and_posts_are_told_from_words() -> None:
    assert all(map(_found.plain, ("6007", "OOo", "I1lI", "o10C")))
    assert not any(map(_found.plain, ("2019", "Studio", "Nr118", "5x")))


# --- logos -----------------------------------------------------------------------------------------------


def mark() -> NDArray[np.uint8]:
    """Return a logo, (160, 240, 4): a disc with a wedge, a bar and a word."""
    canvas = np.full((160, 240, 4), (250, 250, 250, 255), np.uint8)
    cv2.circle(canvas, (70, 80), 60, (200, 30, 40, 255), -1)
    cv2.fillPoly(canvas, [np.array([[70, 30], [110, 120], [40, 100]])], (255, 220, 40, 255))
    cv2.rectangle(canvas, (140, 30), (230, 55), (20, 60, 160, 255), -1)
    cv2.putText(canvas, "Nord", (138, 110), cv2.FONT_HERSHEY_DUPLEX, 1.1, (20, 60, 160, 255), 2, cv2.LINE_AA)
    return canvas


def printed(photo: NDArray[np.uint8], own: NDArray[np.uint8], scale: float, degrees: float, opacity: float) -> Any:
    rows, columns = own.shape[:2]
    matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), degrees, scale)
    matrix[:, 2] += (260 - columns / 2, 240 - rows / 2)
    size = photo.shape[1::-1]
    share = cv2.warpAffine(own[..., 3].astype(np.float32) / 255, matrix, size)
    colours = cv2.warpAffine(own[..., :3].astype(np.float32), matrix, size, borderMode=cv2.BORDER_REPLICATE)
    weight = (share * opacity)[..., None]
    return np.rint(photo * (1 - weight) + colours * weight).astype(np.uint8), (share * 255).astype(np.uint8)


@pytest.mark.parametrize(("scale", "degrees", "opacity"), [(0.4, 0, 1.0), (0.7, 35, 1.0), (1.2, -120, 0.6)])
def test_a_logo_is_found_at_any_size_and_turn(scale: float, degrees: float, opacity: float) -> None:
    own, photo = mark(), sample.photos(["gravel"])["gravel"]
    wanted = logo.logo(own[..., :3], own[..., 3])
    pixels, truth = printed(photo, own, scale, degrees, opacity)
    places = logo_search.find(pixels, wanted)
    assert len(places) == 1 and places[0].score > 0.75
    assert covered([places[0].polygon], truth) > 0.97
    assert cv2.contourArea(places[0].polygon.astype(np.float32)) < 1.3 * (truth > 127).sum()
    assert logo_search.find(photo, wanted) == []


def test_a_small_logo_of_few_features_is_found_in_a_busy_picture() -> None:
    """Print a disc and a word, turned, where thousands of features of the picture match by chance."""
    drawn = Image.new("RGBA", (200, 80))
    pen = ImageDraw.Draw(drawn)
    pen.ellipse((5, 5, 75, 75), fill=(220, 30, 30, 255))
    pen.polygon([(20, 60), (40, 15), (60, 60)], fill=(255, 255, 255, 255))
    pen.text((85, 20), "ACME", fill=(20, 40, 160, 255), font=ImageFont.load_default(40))
    own = np.asarray(drawn)
    photo = Image.fromarray(sample.photos(["motorcycle_left"])["motorcycle_left"]).resize((1800, 1215))
    shown = photo.convert("RGBA")
    shown.alpha_composite(drawn.resize((160, 64)).rotate(90, expand=True), (900, 600))
    wanted = logo.logo(own[..., :3], own[..., 3])
    places = logo_search.find(np.asarray(shown.convert("RGB")), wanted, closely=False)
    assert len(places) == 1 and places[0].score > 0.75
    assert np.abs(places[0].polygon.mean(axis=0) - (932, 680)).max() < 50
    low, high = places[0].polygon.min(axis=0), places[0].polygon.max(axis=0)
    assert np.abs(low - (900, 604)).max() < 12 and np.abs(high - (960, 756)).max() < 12
    assert logo_search.find(np.asarray(photo.convert("RGB")), wanted, closely=False) == []


def test_a_logo_that_shows_nothing_is_refused() -> None:
    flat = np.full((60, 60, 3), 200, np.uint8)
    with pytest.raises(DataError, match="no features") as refused:
        logo.logo(flat, None)
    assert refused.value.hint
    with pytest.raises(DataError, match="transparent everywhere"):
        logo.logo(flat, np.zeros((60, 60), np.uint8))


class Nothing:
    reads = True

    def detect(self, pixels: Any, *, read: bool, part: bool = False) -> list[Region]:
        return []


def test_the_gate_counts_logos_and_new_ones_replace_old() -> None:
    own, photo = mark(), sample.photos(["moon"])["moon"]
    given_logo = Frame(np.ascontiguousarray(own[..., :3]))
    corners = ((0.0, 0.0), (9.0, 0.0), (9.0, 9.0))
    frame = Frame(printed(photo, own, 0.5, 0, 1.0)[0])
    frame = frame.with_sidecar(regions=(Region(corners, "logo"), Region(corners, "face")))
    found = detect_text(frame, Nothing(), logo=given_logo)
    assert [region.label for region in found.sidecar.regions] == ["face", "logo"] and found.notes["logos"] == 1
    # without --logo, logos are nobody's business
    assert len(detect_text(frame, Nothing()).sidecar.regions) == 2
    with pytest.raises(GateFailed, match="the logo at") as failed:
        detect_text(frame, Nothing(), logo=given_logo, assert_none=True)
    assert failed.value.frame is not None
    assert [finding.code for finding in failed.value.frame.sidecar.findings] == ["logo-found"]
    assert detect_text(Frame(photo), Nothing(), logo=given_logo, assert_none=True).sidecar.regions == ()
