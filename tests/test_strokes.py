"""The learned strokes: boxes laid straight, the network in tiles, what it finds, the shipped weights, their making."""

from __future__ import annotations

import hashlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import sample
from conftest import ROOT
from numpy.typing import NDArray
from training.letters import Letters
from training.scenes import SOURCES, WALLPAPERS, used

from imgedit import registry
from imgedit.backends.adapter import adapt
from imgedit.backends.strokes import learned as backend
from imgedit.errors import BrokenPromise
from imgedit.frame import Frame, Region
from imgedit.ops import glyph, masks, strokes
from imgedit.stage import Around
from imgedit.stages.mask import mask

Array = NDArray[Any]
UNSEEN = ("grace_hopper", "gravel", "moon")


def turned_box(centre: tuple[float, float], wide: float, high: float, angle: float) -> Array:
    """Return the corners of a box turned by *angle* degrees."""
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    corners = np.array([(-wide, -high), (wide, -high), (wide, high), (-wide, high)]) / 2
    return corners @ np.array([[cosine, sine], [-sine, cosine]]) + centre


def noise(rows: int, columns: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), np.uint8)


def learned(crop: Array, polygon: Array) -> Array:
    found: Array = registry.backend("strokes", "learned").likely(crop, polygon)
    return found


def inside(given: Array) -> Array:
    """Stand in for the network: what is in the box is a stroke."""
    return np.clip((given[:, -1:] + 1) / 2, 0, 1)


# --- laid straight ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [0, 30, -75, 90, 179, 3])
@pytest.mark.parametrize("high", [10, 24, 48, 110])
def test_a_box_is_laid_straight_at_one_height(angle: float, high: float) -> None:
    polygon = turned_box((150, 160), 2.1 * high, high, angle)
    laid = strokes.straight(noise(300, 320), polygon)
    there = polygon @ laid.matrix[:, :2].T + laid.matrix[:, 2] + 0.5 - laid.matrix[:, :2] @ (0.5, 0.5)
    scale = min(strokes.HEIGHT / high, strokes.ENLARGED)
    expected = np.array([(0, 0), (2.1 * high, high)]) * scale + strokes.MARGIN
    np.testing.assert_allclose([there.min(axis=0), there.max(axis=0)], expected, atol=0.01)
    assert laid.area[1] == pytest.approx(high * scale + 2 * strokes.MARGIN, abs=1.01)
    assert not any(side % strokes.MULTIPLE for side in laid.planes.shape[:2])


@pytest.mark.parametrize("angle", [0, 30, 90, -60])
@pytest.mark.parametrize("high", [9, 30, 130])
def test_what_is_found_comes_back_to_its_place(angle: float, high: float) -> None:
    polygon = turned_box((200.3, 190.7), 2.2 * high, high, angle)
    drawn = masks.empty(400, 400)
    masks.draw(drawn, polygon)
    likely = strokes.likely(noise(400, 400), polygon, inside)
    assert likely.shape == (400, 400) and likely.dtype == np.float32
    found = likely > 0.5
    assert (found & (drawn > 0)).sum() / (found | (drawn > 0)).sum() > 0.9
    assert not likely[masks.dilate(drawn, round(2 * strokes.MARGIN * max(high / strokes.HEIGHT, 0.5))) == 0].any()


def test_what_is_seen_only_one_way_up_is_found_all_the_same() -> None:
    def upper(given: Array) -> Array:
        """Stand in for a network that sees strokes in the upper half alone."""
        found = inside(given)
        found[:, :, found.shape[2] // 2 :] = 0
        return found

    polygon = turned_box((60, 40), 100, 40, 0)
    likely = strokes.likely(noise(80, 120), polygon, upper)
    assert (likely[24:34, 20:100] > 0.9).all() and (likely[46:56, 20:100] > 0.9).all()


def test_faint_text_is_shown_like_any_other() -> None:
    planes = np.full((64, 96, 5), 100, np.uint8)
    planes[20:40, 30:34, :3] = 180
    weak = planes.copy()
    weak[20:40, 30:34, :3] = 120
    strong, faint = strokes.given(planes), strokes.given(weak)
    assert strong.shape == (strokes.CHANNELS, 64, 96)
    assert np.abs(strong[:3]).max() > 3.5 * np.abs(faint[:3]).max()
    assert np.abs(strong[3:6]).max() < 1.6 * np.abs(faint[3:6]).max()
    # how bright the picture is does not matter
    np.testing.assert_allclose(strokes.given(planes + np.uint8(40))[:6], strong[:6], atol=1e-4)


# --- the network -----------------------------------------------------------------------------------------


def test_tiles_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    crop, polygon = noise(60, 900), turned_box((450, 30), 860, 30, 0)
    monkeypatch.setattr(strokes, "TILE", 1 << 20)
    whole = learned(crop, polygon)
    monkeypatch.setattr(strokes, "TILE", 64)
    assert np.abs(learned(crop, polygon) - whole).max() < 1e-4
    assert whole.max() > whole.min()


def test_a_smaller_overlap_would_show() -> None:
    network = backend._network()
    rng = np.random.default_rng(5)
    given = rng.normal(size=(1, strokes.CHANNELS, 72, 320)).astype(np.float32)
    before = network(given)[..., 160:168]
    changes = []
    for reach in (strokes.REACH, strokes.REACH // 4):
        other = given.copy()
        other[..., : 160 - reach] = rng.normal(size=other[..., : 160 - reach].shape)
        other[..., 168 + reach :] = rng.normal(size=other[..., 168 + reach :].shape)
        changes.append(float(np.abs(network(other)[..., 160:168] - before).max()))
    assert changes[0] < 1e-5 < changes[1]


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    crop, polygon = noise(80, 300), turned_box((150, 40), 280, 40, 2)
    first = learned(crop, polygon)
    monkeypatch.setattr(backend, "MAX_THREADS", 1)
    backend._network.cache_clear()
    try:
        np.testing.assert_array_equal(learned(crop, polygon), first)
    finally:
        backend._network.cache_clear()


@pytest.mark.parametrize("result", [np.zeros((9, 9), np.float32), np.full((20, 30), 1.5, np.float32), None])
def test_a_backend_that_answers_wrongly_is_named(result: Any) -> None:
    class Fake:
        def likely(self, crop: Array, polygon: Array) -> Any:
            return result

    with pytest.raises(BrokenPromise, match="'fake'"):
        adapt("strokes", Fake()).likely(noise(20, 30), turned_box((15, 10), 20, 8, 0))


# --- what it finds ---------------------------------------------------------------------------------------


def loose(truth: Array, factor: float) -> Array:
    """Return the box round what is drawn, *factor* times as high and a little longer."""
    rows, columns = np.nonzero(truth > 25)
    centre, sides, angle = cv2.minAreaRect(np.stack([columns, rows], axis=1).astype(np.float32))
    height = min(sides)
    grown = tuple(side + (factor - 1) * height if side == height else side + 0.3 * height for side in sides)
    return cv2.boxPoints((centre, grown, angle)).astype(np.float64) + 0.5


def likeness(strokes: Array, truth: Array) -> float:
    """Return the IoU of both grown by 2 pixels."""
    one, other = (masks.dilate((plane > 25).view(np.uint8) * np.uint8(255), 2) > 0 for plane in (strokes, truth))
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("name", UNSEEN)
@pytest.mark.parametrize("kind", ["low-contrast", "watermark"])
@pytest.mark.parametrize("quality", [0, 85])
def test_faint_letters_are_found_in_boxes_twice_their_height(name: str, kind: str, quality: int) -> None:
    photo = sample.photos([name])[name][:512, :512]
    stamped, truth = sample.stamp(photo, kind=kind, seed=6)
    stamped = sample.jpeg(stamped, quality) if quality else stamped
    drawn, plain = masks.empty(*truth.shape), masks.empty(*truth.shape)
    assert glyph.draw(drawn, stamped, loose(truth, 2.2), learned) == ""
    glyph.draw(plain, stamped, loose(truth, 2.2))
    assert (masks.dilate(drawn, 2) > 0)[truth > 127].mean() > 0.9
    # on gravel whose grain JPEG has smeared as it has the letters, a little of the ground is taken too
    least = 0.45 if (name, kind, quality) == ("gravel", "low-contrast", 85) else 0.5
    assert likeness(drawn, truth) > max(least, likeness(plain, truth) + 0.05)


def test_where_there_is_no_text_it_says_so() -> None:
    """Ask for text on photos without any: it is hardly ever sure of some."""
    sure = []
    rng = np.random.default_rng(1)
    for photo in sample.photos(UNSEEN).values():
        for _ in range(8):
            place = (rng.uniform(0.3, 0.7) * photo.shape[1], rng.uniform(0.3, 0.7) * photo.shape[0])
            polygon = turned_box(place, float(rng.uniform(100, 240)), float(rng.uniform(16, 60)), 0)
            box = masks.empty(*photo.shape[:2])
            masks.draw(box, polygon)
            sure.append(strokes.parted(learned(photo, polygon), box, 40)[1] >= glyph.SURE)
    assert np.mean(sure) < 0.15


@pytest.mark.parametrize("far", [1e3, 1e7])
def test_a_box_that_runs_out_of_the_picture_is_looked_at_in_it(far: float) -> None:
    stamped, truth = sample.stamp(noise(90, 300, 4) // 8 + np.uint8(90), "2019-07-14", kind="date", seed=1)
    _, y, _, high = cv2.boundingRect((truth > 25).view(np.uint8))
    polygon = np.array([(-far, y - 3), (far, y - 3), (far, y + high + 3), (-far, y + high + 3)])
    drawn = masks.empty(90, 300)
    glyph.draw(drawn, stamped, polygon, learned)
    assert (masks.dilate(drawn, 2) > 0)[truth > 127].mean() > 0.95 and likeness(drawn, truth) > 0.6


def test_other_text_beside_the_box_is_not_taken() -> None:
    stamped, first = sample.stamp(
        np.full((120, 300, 3), 90, np.uint8), "2019-07-14", style=sample.Style(24, (250, 200, 60), place=(0.5, 0.3))
    )
    stamped, second = sample.stamp(stamped, "Lot 118", style=sample.Style(24, (250, 200, 60), place=(0.5, 0.62)))
    drawn = masks.empty(120, 300)
    assert glyph.draw(drawn, stamped, loose(first, 1.2), learned) == ""
    assert (masks.dilate(drawn, 2) > 0)[first > 127].mean() > 0.98
    assert not drawn[masks.dilate((second > 25).view(np.uint8), 1) > 0].any()


def test_what_is_hard_to_see_is_a_stroke_all_the_same() -> None:
    likely = np.zeros((40, 200), np.float32)
    likely[10:30, 20:26] = 0.95
    likely[10:30, 15:20] = 0.3
    likely[10:30, 150:156] = 0.3
    inside = np.full((40, 200), 255, np.uint8)
    found, expected = strokes.parted(likely, inside, 30)
    # beside a sure one it is its rim, alone it is what there is
    assert found[12:28, 20:26].all() and found[12:28, 150:156].all() and not found[12:28, 15:20].any()
    # 240 pixels are taken that hold 150, and 30 are left out
    assert expected == pytest.approx(150 / 270, rel=1e-3)
    inside[:, 100:] = 0
    assert not strokes.parted(likely, inside, 30)[0][:, 100:].any()
    assert strokes.parted(np.zeros((40, 200), np.float32), inside, 30)[1] == 0


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_the_network_is_opened_for_letters_alone(kind: Any) -> None:
    opened = []

    def other() -> Any:
        opened.append(1)
        return registry.backend("strokes", "learned")

    stamped, truth = sample.stamp(noise(90, 300), "2019-07-14", seed=1)
    corners = tuple((float(x), float(y)) for x, y in loose(truth, 1.5))
    frame = Frame(stamped.astype(kind) * kind(257 if kind is np.uint16 else 1))
    mask(frame, Around(other), rect=((2, 2, 9, 9),))
    boxed = frame.with_sidecar(regions=(Region(corners),))
    mask(boxed, Around(other), fit="polygon")
    mask(boxed, Around(other), fit="box")
    assert not opened
    found = mask(boxed, Around(other))
    assert len(opened) == 1 and found.notes["model"] == backend.Learned().fingerprint


# --- what it learned from --------------------------------------------------------------------------------


def test_samples_show_text_where_they_say_so() -> None:
    letters = Letters(256, UNSEEN)
    rng = np.random.default_rng(3)
    scene = np.full((256, 256, 3), 120, np.uint8)
    drawn = [one for one in (letters.draw(scene, rng) for _ in range(60)) if one is not None]
    assert len(drawn) > 30
    with_text = [one for one in drawn if one.text.any()]
    assert 0 < len(drawn) - len(with_text) < 0.3 * len(drawn)
    for picture, text, box in with_text:
        # compression moves the ground a little, and round letters more
        away = masks.dilate(text, 12) == 0
        assert np.abs(picture.astype(int) - 120)[away].mean() < 2
        assert np.abs(picture.astype(int) - 120)[text > 0].mean() > 4
        within = masks.empty(256, 256)
        masks.draw_covering(within, box)
        assert within.any() and box.min() > -1e-6 and box.max() < 256 + 1e-6


def test_the_shipped_weights_are_small_and_documented() -> None:
    note = json.loads(backend.WEIGHTS.with_name(backend.WEIGHTS.name + ".json").read_text())
    packed = backend.WEIGHTS.read_bytes()
    assert len(packed) <= 800_000
    assert hashlib.sha256(packed).hexdigest() == note["sha256"]
    assert backend.Learned().fingerprint == {"net": f"strokes sha256:{note['sha256']}"}
    seen = {source["file"].rsplit(".", 1)[0] for source in note["photographs"]}
    assert seen and not seen & {*sample.HELD_OUT, *UNSEEN}
    assert all(source["licence"] for source in note["photographs"])
    # what a plain call of the script does is what was done
    script = (ROOT / "scripts" / "train_strokes.py").read_text()
    defaults = dict(re.findall(r'"--(steps|scenes|seed)", type=int, default=(\d+)', script))
    left_out = re.findall(r'"--leave-out", nargs="\*", default=\[(.*?)\]', script)[0].replace('"', "").split(", ")
    words = [word for name in ("steps", "scenes", "seed") for word in (f"--{name}", defaults[name])]
    command = ["python", "scripts/train_strokes.py", "strokes.onnx", *words, "--leave-out", *left_out]
    assert note["command"].split() == command
    assert note["photographs"] == [s._asdict() for s in used((*SOURCES, *WALLPAPERS), tuple(left_out))]


@pytest.mark.slow
def test_the_training_script_makes_a_network_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "strokes.onnx"
    program = [sys.executable, ROOT / "scripts" / "train_strokes.py", out, "--steps", "4", "--scenes", "3"]
    # these are of a Debian package, which pip does not bring
    program += ["--leave-out", *(source.name for source in WALLPAPERS)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "step 4 of 4" in done.stderr
    note = json.loads(Path(f"{out}.json").read_text())
    assert note["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    monkeypatch.setattr(backend, "WEIGHTS", out)
    backend._network.cache_clear()
    try:
        # after a few steps it is sure of nothing
        likely = learned(noise(60, 200), turned_box((100, 30), 180, 40, 0))
        assert 0.05 < likely[30, 100] < 0.95
    finally:
        backend._network.cache_clear()
