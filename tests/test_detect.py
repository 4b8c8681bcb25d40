"""Finding text: boxes merged across tiles, real stamps on real photos, the gate, and what must not happen."""

from __future__ import annotations

import itertools
import math
import socket
from typing import Any

import cv2
import numpy as np
import pytest
import sample
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imgedit.backends.detect.opencv import Opencv
from imgedit.backends.detect.rapidocr import Rapidocr
from imgedit.errors import GateFailed, UsageError
from imgedit.frame import Frame, Region
from imgedit.ops import masks, regions
from imgedit.stages.detect_text import detect_text

fast = settings(max_examples=60, deadline=None)
angles = st.floats(-1.5, 1.5)


@pytest.fixture(scope="session")
def ocr() -> Rapidocr:
    return Rapidocr()


@pytest.fixture(scope="session")
def dated() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    photo = sample.photos(["moon"])["moon"]
    style = sample.Style(26, (255, 140, 0), place=(0.95, 0.95))
    return sample.stamp(photo, "2019-07-14", style=style)


def bar(x: float, y: float, length: float, height: float, angle: float) -> NDArray[np.float64]:
    along = np.array([math.cos(angle), math.sin(angle)])
    across = np.array([-along[1], along[0]])
    steps = [(0, 0), (length, 0), (length, height), (0, height)]
    return np.array([[x, y] + a * along + b * across for a, b in steps])


def covered(found: tuple[Region, ...], truth: NDArray[np.uint8]) -> float:
    drawn = masks.empty(*truth.shape)
    for region in found:
        masks.draw(drawn, masks.points(region.polygon))
    return float((drawn[truth > 127] > 0).mean())


# --- geometry --------------------------------------------------------------------------------------------


@fast
@given(st.integers(1, 900), st.integers(1, 900), st.integers(32, 300), st.integers(0, 31))
def test_tiles_cover_and_overlap(rows: int, columns: int, size: int, overlap: int) -> None:
    parts = regions.tiles(rows, columns, size, overlap)
    hits = np.zeros((rows, columns), int)
    for top, left, high, wide in parts:
        assert top >= 0 and left >= 0 and top + high <= rows and left + wide <= columns
        assert high <= size and wide <= size
        hits[top : top + high, left : left + wide] += 1
    assert hits.min() >= 1
    tops = sorted({(part.top, part.rows) for part in parts})
    assert all(a + high - b >= overlap for (a, high), (b, _) in itertools.pairwise(tops))
    # fewer would not do, and no tile is larger than so many need: pixels seen twice cost as much as others
    assert len(tops) == 1 or (len(tops) - 1) * (size - overlap) + overlap < rows
    assert len(tops) * (tops[0][1] - 1) - (len(tops) - 1) * overlap < rows and len({high for _, high in tops}) == 1


@fast
@given(angles, st.floats(60, 300), st.floats(10, 50), st.floats(-4, 4), st.floats(-4, 4))
def test_the_same_box_seen_twice_is_one(angle: float, length: float, height: float, dx: float, dy: float) -> None:
    one = bar(300, 300, length, height, angle)
    other = one + np.array([dx / 2, dy / 2])
    merged = regions.merge([one, other], [0.6, 0.9])
    assert len(merged) == 1 and merged[0].members == (1, 0)
    for original in (one, other):
        assert regions.overlap(original, merged[0].polygon) > 0.9


@fast
@given(angles, st.floats(100, 300), st.floats(10, 40), st.floats(0.15, 0.5))
def test_pieces_of_a_line_that_a_border_cut_are_joined(angle: float, length: float, height: float, cut: float) -> None:
    step = np.array([math.cos(angle), math.sin(angle)]) * length * (1 - cut)
    pieces = [bar(400, 400, length, height, angle), bar(400, 400, length, height, angle) + step]
    merged = regions.merge(pieces, [0.9, 0.8])
    assert len(merged) == 1
    assert regions.area(merged[0].polygon) == pytest.approx(length * (2 - cut) * height, rel=0.05)
    # neither says what the whole line says
    assert merged[0].whole == ()


@fast
@given(angles, st.floats(80, 300), st.floats(10, 40))
def test_lines_of_a_paragraph_stay_apart(angle: float, length: float, height: float) -> None:
    # boxes have margins: they overlap a little
    across = np.array([-math.sin(angle), math.cos(angle)]) * height * 0.85
    lines = [bar(400, 400, length, height, angle) + i * across for i in range(3)]
    assert len(regions.merge(lines, [0.9, 0.8, 0.7])) == 3


@fast
@given(
    st.lists(st.tuples(st.floats(0, 300), st.floats(0, 300), st.floats(8, 90), st.floats(8, 40), angles), max_size=8)
)
def test_merging_ends_and_loses_no_box(given_: list[tuple[float, ...]]) -> None:
    boxes = [bar(*numbers) for numbers in given_]
    merged = regions.merge(boxes, [0.5] * len(boxes))
    assert sorted(i for one in merged for i in one.members) == list(range(len(boxes)))
    for one in merged:
        assert max(regions.area(boxes[i]) for i in one.members) <= regions.area(one.polygon) * 1.01


def test_boxes_of_a_score_map() -> None:
    scores = np.zeros((100, 200), np.float32)
    scores[40:50, 60:140] = 0.9
    scores[5:7, 5:7] = 0.9
    scores[80:90, 20:40] = 0.4
    found = regions.boxes_of_map(scores, threshold=0.3, min_score=0.5, grow=0.0)
    assert len(found) == 1 and found[0][1] == pytest.approx(0.9, abs=0.01)
    assert regions.bounds(found[0][0], 0, 100, 200) == (60, 40, 80, 10)
    # by area / perimeter × 2 on both sides together: 800 / 180 each way at 1.0
    grown = regions.boxes_of_map(scores, threshold=0.3, min_score=0.5, grow=1.0)[0][0]
    assert np.ptp(grown[:, 1]) == pytest.approx(10 + 800 / 90, abs=0.01)


def test_clipping() -> None:
    box = bar(-10, -10, 30, 30, 0)
    assert regions.area(regions.clip(box, 100, 100)) == pytest.approx(400)
    assert len(regions.clip(box - 100, 100, 100)) == 0
    np.testing.assert_array_equal(regions.clip(box + 20, 100, 100), box + 20)


# --- real text -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["ocr", "opencv"])
def test_a_stamp_is_found_and_nothing_else(backend: str, ocr: Rapidocr, dated: Any) -> None:
    pixels, truth = dated
    result = detect_text(Frame(pixels), ocr if backend == "ocr" else Opencv())
    assert len(result.sidecar.regions) == 1 and result.notes["found"] == 1
    assert covered(result.sidecar.regions, truth) > 0.99
    region = result.sidecar.regions[0]
    assert region.label == "text" and region.text is None and 0.75 <= (region.score or 0) <= 1
    _, _, width, height = cv2.boundingRect(truth)
    assert regions.area(masks.points(region.polygon)) < 3 * width * height


def test_a_clean_photo_has_none(ocr: Rapidocr) -> None:
    for name, pixels in sample.photos(["brick", "moon", "grass"]).items():
        assert not detect_text(Frame(pixels), ocr).sidecar.regions, name
        assert not detect_text(Frame(pixels), Opencv()).sidecar.regions, name


def test_rotated_text_is_read(ocr: Rapidocr) -> None:
    photo = sample.photos(["moon"])["moon"]
    for angle in (90, -90, 30):
        style = sample.Style(30, (255, 255, 120), outline=1, angle=angle, place=(0.3, 0.4))
        pixels, truth = sample.stamp(photo, "Summer 2014", style=style)
        result = detect_text(Frame(pixels), ocr, match="Summer")
        assert covered(result.sidecar.regions, truth) > 0.95, angle


def test_match_keeps_what_it_says(ocr: Rapidocr, dated: Any) -> None:
    frame = Frame(dated[0])
    found = detect_text(frame, ocr, match=r"\d{4}[-/.]\d{2}[-/.]\d{2}").sidecar.regions
    assert [region.text for region in found] == ["2019-07-14"]
    assert not detect_text(frame, ocr, match="copyright").sidecar.regions
    with pytest.raises(UsageError, match="cannot read"):
        detect_text(frame, Opencv(), match="2019")
    with pytest.raises(UsageError, match="regular expression"):
        detect_text.stage.check({"match": "(2019"})  # type: ignore[attr-defined]


def test_the_gate(ocr: Rapidocr, dated: Any) -> None:
    clean = Frame(sample.photos(["moon"])["moon"])
    assert detect_text(clean, ocr, assert_none=True).sidecar.regions == ()
    with pytest.raises(GateFailed, match=r"1 place: '2019-07-14' at \d+,\d+ of \d+×\d+ pixels") as failed:
        detect_text(Frame(dated[0]), ocr, assert_none=True)
    assert failed.value.exit_code == 1 and failed.value.frame is not None
    assert [f.code for f in failed.value.frame.sidecar.findings] == ["text-found"]
    assert len(failed.value.frame.sidecar.regions) == 1
    # what an earlier gate found is not carried on once it is gone
    again = clean.with_sidecar(findings=failed.value.frame.sidecar.findings)
    assert detect_text(again, ocr, assert_none=True).sidecar.findings == ()


def test_new_text_regions_replace_old_ones_only(ocr: Rapidocr, dated: Any) -> None:
    corners = ((0.0, 0.0), (9.0, 0.0), (9.0, 9.0))
    frame = Frame(dated[0]).with_sidecar(regions=(Region(corners), Region(corners, "face")))
    found = detect_text(frame, ocr).sidecar.regions
    assert [region.label for region in found] == ["face", "text"]


def test_16_bit_finds_the_same(ocr: Rapidocr, dated: Any) -> None:
    deep = Frame(dated[0].astype(np.uint16) * 257)
    assert detect_text(deep, ocr).sidecar.regions == detect_text(Frame(dated[0]), ocr).sidecar.regions


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (2, 3), (5, 9), (17, 31), (1500, 2)])
def test_tiny_pictures_have_no_text(size: tuple[int, int], ocr: Rapidocr) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for backend in (ocr, Opencv()):
        assert detect_text(Frame(noise.copy()), backend).sidecar.regions == ()


def test_twice_is_the_same(ocr: Rapidocr, dated: Any) -> None:
    for backend in (ocr, Opencv()):
        first, second = (detect_text(Frame(dated[0]), backend).sidecar.regions for _ in range(2))
        assert first == second


def test_text_across_tiles_is_one_line(ocr: Rapidocr) -> None:
    ground = np.full((400, 1500, 3), 120, np.uint8)
    style = sample.Style(24, (250, 250, 250), place=(0.5, 0.5))
    text = "one line of small letters that runs across the borders of several tiles from left to right"
    pixels, truth = sample.stamp(ground, text, style=style)
    result = detect_text(Frame(pixels), ocr, tile=512, overlap=128, read=True)
    assert result.notes["tiles"] == 4 and len(result.sidecar.regions) == 1
    assert covered(result.sidecar.regions, truth) > 0.98
    assert "across the borders of several tiles" in (result.sidecar.regions[0].text or "")


def test_flat_tiles_are_not_searched() -> None:
    class Counting:
        reads = False
        calls = 0

        def detect(self, pixels: Any, *, read: bool, part: bool = False) -> list[Region]:
            self.calls += 1
            return []

    ground = np.full((2000, 2000, 3), 120, np.uint8)
    ground[100:110, 100:110] = 255
    backend = Counting()
    result = detect_text(Frame(ground), backend)
    assert result.notes == {"tiles": 1, "flat": 8, "found": 0}
    assert backend.calls == 2


def test_what_a_tile_cuts_is_taken_from_where_it_was_seen_whole(ocr: Rapidocr) -> None:
    ground = np.full((700, 2600, 3), 90, np.uint8)
    style = sample.Style(120, (250, 250, 250), place=(0.0, 0.5))
    last = regions.tiles(700, 2600, 1024, 128)[-1]
    width = cv2.boundingRect(sample.stamp(ground, "Photo: M. Keller", style=style)[1])[2]
    # the last tile cuts half of the first letter
    pixels, truth = sample.stamp(
        ground, "Photo: M. Keller", style=style._replace(place=((last.left - 40) / (2600 - width), 0.5))
    )
    assert width < last.columns - 100
    found = detect_text(Frame(pixels), ocr).sidecar.regions
    assert len(found) == 1 and covered(found, truth) > 0.99


class Bars:
    """Finds the white bar in a part that shows at least 210 columns of it, and nothing in a reduced picture."""

    reads = False

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def detect(self, pixels: Any, *, read: bool, part: bool = False) -> list[Region]:
        if not part:
            return []
        self.shapes.append(pixels.shape[:2])
        x, y, width, height = cv2.boundingRect((pixels[..., 0] == 255).view(np.uint8))
        corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
        return [Region(tuple((float(a), float(b)) for a, b in corners), "text", None, 0.9)] if width >= 210 else []


def test_what_was_only_seen_cut_is_looked_at_again_in_the_middle() -> None:
    pixels = np.full((900, 2000, 3), 60, np.uint8)
    first, second = regions.tiles(900, 2000, 1024, 128)[:2]
    end = first.left + first.columns
    # 230 columns of it in one tile, 200 in the other
    pixels[400:430, end - 230 : second.left + 200] = 255
    backend = Bars()
    (found,) = detect_text(Frame(pixels), backend).sidecar.regions
    assert len(backend.shapes) == 3
    xs = [x for x, _ in found.polygon]
    assert (min(xs), max(xs)) == (end - 230, second.left + 200)
    # what one tile shows whole is not looked at again
    whole = np.full((900, 2000, 3), 60, np.uint8)
    whole[400:430, 200:500] = 255
    backend = Bars()
    assert len(detect_text(Frame(whole), backend).sidecar.regions) == 1 and len(backend.shapes) == 1


def test_a_part_round_a_box_lies_in_the_picture() -> None:
    middle = regions.around(bar(900, 400, 200, 40, 0), 512, 1000, 2000)
    assert middle == (164, 744, 512, 512) and middle.shows(bar(900, 400, 200, 40, 0), 100)
    assert regions.around(bar(5, 5, 20, 10, 0), 512, 300, 2000) == (0, 0, 300, 512)
    corner = regions.around(bar(1990, 990, 10, 10, 0), 512, 1000, 2000)
    assert corner == (488, 1488, 512, 512) and not corner.shows(bar(1990, 990, 10, 10, 0), 1)


def test_a_member_that_lacks_a_letter_is_not_the_whole_of_a_line() -> None:
    line, part = bar(0, 0, 400, 40, 0), bar(0, 0, 355, 40, 0)
    assert regions.merge([line, part], [0.5, 0.9])[0].whole == (0,)
    assert regions.merge([line, bar(0, 0, 380, 40, 0)], [0.5, 0.9])[0].whole == (1, 0)


@pytest.mark.slow
def test_a_small_stamp_in_12_megapixels(ocr: Rapidocr) -> None:
    photo = cv2.resize(sample.photos(["retina"])["retina"], (4000, 3000), interpolation=cv2.INTER_CUBIC)
    style = sample.Style(20, (255, 140, 0), place=(0.97, 0.97))
    pixels, truth = sample.stamp(photo, "2019-07-14", style=style)
    found = detect_text(Frame(pixels), ocr, match="2019-07-14").sidecar.regions
    assert len(found) == 1 and covered(found, truth) > 0.99


def test_no_socket_no_file_no_word(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], dated: Any
) -> None:
    from imgedit.backends.detect import _ppocr

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    # loaded anew under these eyes
    _ppocr._session.cache_clear()
    _ppocr.characters.cache_clear()
    detect_text(Frame(dated[0]), Rapidocr(), read=True)
    assert capfd.readouterr() == ("", "")


def test_the_networks_have_names() -> None:
    prints = Rapidocr().fingerprint
    assert set(prints) == {"det", "rec"} and all("sha256:" in value for value in prints.values())
