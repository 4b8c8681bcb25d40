"""The ladder: one knob from faithful to pleasing, held to the input, with texture of what was photographed alone."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import picture
from PIL import Image

pytest.importorskip("skimage")  # brings the photos

import sample

from imgedit import registry
from imgedit.backends.hint import plain
from imgedit.backends.upscale import ladder as backend
from imgedit.backends.upscale._by_refining import Refining
from imgedit.backends.upscale.hybrid import Hybrid, _network
from imgedit.engine import Engine, call
from imgedit.errors import UsageError
from imgedit.ops import knob, ladder, refine
from imgedit.ops.gradients import distance, gradients

LADDER = registry.backend("upscale", "ladder")


def photo(name: str, rows: int = 120, columns: int = 150) -> Any:
    found = sample.photos([name])[name]
    top, left = (found.shape[0] - rows) // 2, (found.shape[1] - columns) // 2
    return np.ascontiguousarray(found[top : top + rows, left : left + columns])


def enlarged(pixels: Any, scale: float, hint: Any = None, **own: Any) -> Any:
    rows, columns = (round(length * scale) for length in pixels.shape[:2])
    return LADDER.upscale(pixels, rows, columns, sharpen=0.05, hint=hint, own=own).pixels


def levels(pixels: Any, scale: int, tile: int = 512, share: float = 1.0, hint: Any = None, rounds: int = 3) -> Any:
    """Return the result before it is rounded, in levels of 0…255."""
    beyond = refine.Beyond(1.3, rounds, ladder.Exemplars(share, hint))
    size = pixels.shape[0] * scale, pixels.shape[1] * scale
    result = np.empty((*size, pixels.shape[2]), np.float32)
    for part in Refining(refine.Refined(pixels, size, _network(), beyond=beyond), tile):
        rows, columns = part.values.shape[1:]
        result[part.top : part.top + rows, part.left : part.left + columns] = part.values.transpose(1, 2, 0)
    return result


def energy(pixels: Any) -> float:
    return gradients(pixels, {"all": None})["all"].energy


def missed(large: Any, small: Any, scale: int) -> float:
    """Return by how many levels *large*, reduced as Pillow does it, misses *small*: root mean square."""
    again = np.asarray(Image.fromarray(large).resize(small.shape[1::-1], Image.Resampling.BICUBIC), np.float64)
    return float(np.sqrt(np.square(again - small).mean()))


# --- the knob ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 4])
def test_the_knob_leads_from_faithful_to_pleasing(scale: int) -> None:
    truth = photo("grace_hopper", 180, 180)
    small = np.array(Image.fromarray(truth).resize((180 // scale,) * 2, Image.Resampling.BICUBIC))
    results = [enlarged(small, scale, faithful=faithful) for faithful in (1, 0.75, 0.5, 0.25, 0)]
    errors = [float(np.square(result.astype(float) - truth).mean()) for result in results]
    energies = [energy(result) for result in results]
    wanted = gradients(truth, {"all": None})["all"]
    off = [distance(gradients(result, {"all": None})["all"], wanted) for result in results]
    # each step has more contrast, distributed more like the truth's, and none more than the truth
    assert energies == sorted(energies)
    assert energies[-1] < wanted.energy
    assert off == sorted(off, reverse=True)
    # what pleases is farther from the truth: from half way on each step costs more than the one before
    assert errors[2] < errors[3] < errors[4]
    plain_network = Hybrid().upscale(small, 180, 180).pixels
    assert min(errors[:2]) < np.square(plain_network.astype(float) - truth).mean()


@pytest.mark.parametrize("faithful", [1, 0.75, 0])
def test_the_result_reduced_again_is_the_input(faithful: float) -> None:
    small = photo("motorcycle_left", 80, 90)
    assert missed(enlarged(small, 2, faithful=faithful), small, 2) < 0.7
    # each round brings it nearer
    rounds = [missed(enlarged(small, 2, faithful=faithful, rounds=n), small, 2) for n in (1, 2, 4)]
    assert rounds == sorted(rounds, reverse=True)


def test_edges_stay_where_they_are() -> None:
    rows, columns = np.indices((160, 160))
    truth = np.where(np.hypot(rows - 80, columns - 75) < 50, 200, 60).astype(np.float32)
    truth = cv2.GaussianBlur(np.repeat(truth[..., None], 3, axis=2), (0, 0), 1.5)
    small = np.array(Image.fromarray(np.rint(truth).astype(np.uint8)).resize((80, 80), Image.Resampling.BICUBIC))
    result = enlarged(small, 2, faithful=0).astype(np.float64)[..., 0]
    # the area inside an edge says where it lies on average, to far less than a pixel
    for name, part in {"whole": np.s_[:], "right": np.s_[:, 80:], "top": np.s_[:80]}.items():
        moved = (result[part] - truth[..., 0][part]).sum() / 140
        length = 2 * np.pi * 50 * (1 if name == "whole" else 0.5)
        assert abs(moved / length) < 0.1, name


def test_the_first_pass_leaves_noise_as_it_is_and_the_knob_hardly_adds_to_it() -> None:
    noise = np.random.default_rng(0).normal(128, 6, (100, 100, 1))
    small = np.rint(np.repeat(noise, 3, axis=2)).astype(np.uint8)

    def strength(large: Any) -> float:
        return float(large[20:-20, 20:-20].std() / small.std())

    assert 0.9 < strength(plain(small, 200, 200)) < 1.12
    # what is held to noisy pixels has their noise; each round takes back what reducing would smooth away
    faithful, pleasing = (strength(enlarged(small, 2, faithful=value)) for value in (1, 0))
    assert strength(Hybrid().upscale(small, 200, 200).pixels) < faithful < 1.3
    assert faithful < pleasing < 1.03 * faithful


def test_each_of_what_the_knob_says_can_be_given() -> None:
    small = photo("grass", 60, 70)
    base = enlarged(small, 2, faithful=1)
    assert np.array_equal(base, enlarged(small, 2, detail=1.0, texture=0.0, rounds=2))
    assert np.array_equal(
        enlarged(small, 2, faithful=0.5), enlarged(small, 2, faithful=0.2, detail=1.3, texture=0.25, rounds=2)
    )
    assert energy(base) < energy(enlarged(small, 2, faithful=1, texture=1.0))
    assert energy(base) < energy(enlarged(small, 2, faithful=1, detail=1.5))
    done = LADDER.upscale(small, 120, 140, sharpen=0.05, own={"faithful": 0.5})
    said = {"faithful": 0.5, "detail": 1.3, "texture": 0.25, "rounds": 2}
    assert {name: done.notes[name] for name in said} == said


def test_others_refuse_the_knob_and_it_is_given_once() -> None:
    frame = picture("rgb8", 20, 22)
    for name in ("lanczos", "hybrid"):
        with pytest.raises(UsageError, match="--faithful"):
            Engine([call("upscale", backend=name, faithful=0.5)]).run(frame)
    with pytest.raises(UsageError, match="--calibrate"):
        Engine([call("upscale", calibrate=True)]).run(frame)
    assert Engine([call("upscale", calibrate=False)]).run(frame).rows == 40
    with pytest.raises(UsageError, match="--calibrate"):
        enlarged(photo("coins"), 2, faithful=0.5, calibrate=True)


# --- calibration -------------------------------------------------------------------------------------------


def test_calibration_is_a_measurement_on_the_picture() -> None:
    small = photo("grace_hopper", 120, 120)
    done = LADDER.upscale(small, 240, 240, sharpen=0.05, own={"calibrate": True})
    table = done.notes["calibrated"]
    assert [one["faithful"] for one in table] == list(knob.STEPS)
    first = table[0]
    allowed = [
        one
        for one in table
        if one["psnr"] >= first["psnr"] - knob.COST and one["missed"] <= first["missed"] + knob.MISSED
    ]
    assert done.notes["faithful"] == min(allowed, key=lambda one: one["distance"])["faithful"]
    assert np.array_equal(done.pixels, enlarged(small, 2, faithful=done.notes["faithful"]))


def test_calibration_tells_pictures_apart() -> None:
    # what has no more detail than it had when reduced gains nothing by more
    smooth = np.ascontiguousarray(cv2.GaussianBlur(photo("grace_hopper", 100, 100), (0, 0), 2.5))
    chosen = [
        LADDER.upscale(pixels, 200, 200, sharpen=0.05, own={"calibrate": True}).notes["faithful"]
        for pixels in (photo("gravel", 100, 100), smooth)
    ]
    assert chosen[0] < 0.5 <= chosen[1]


def test_what_is_too_small_or_all_invented_is_not_measured() -> None:
    for size in ((30, 90), (1, 1), (1, 300)):
        with pytest.raises(UsageError, match="too small"):
            enlarged(photo("coins", *size), 2, calibrate=True)
    with pytest.raises(UsageError, match="photographed"):
        enlarged(photo("coins", 60, 90), 2, np.zeros((60, 90), np.uint8), calibrate=True)


# --- the hint ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_where_all_was_invented_the_result_is_the_conservative_one(dtype: Any) -> None:
    pixels = photo("grass", 70, 80).astype(dtype) * (257 if dtype == np.uint16 else 1)
    hint = np.zeros((70, 80), np.uint8)
    assert np.array_equal(enlarged(pixels, 2, hint, faithful=0), plain(pixels, 140, 160))
    hint[:, 40:] = 255
    result = enlarged(pixels, 2, hint, faithful=0)
    assert np.array_equal(result[:, :80], plain(pixels, 140, 160)[:, :80])
    assert energy(result[:, 80:]) > 1.1 * energy(plain(pixels, 140, 160)[:, 80:])


@pytest.mark.parametrize("scale", [2, 3])
def test_texture_is_not_taken_from_what_was_invented(scale: int) -> None:
    small = photo("grass", 60, 70).astype(np.float32)
    hint = np.full((80, 90), 255, np.uint8)
    hint[30:42, 40:49] = 0
    hint[10, 20] = 254
    large = np.repeat(np.repeat(small, scale, axis=0), scale, axis=1)
    # the window lies in the picture at 5, 8
    texture = ladder.Exemplars(1, hint)
    usable = texture._usable(60, 70, scale, 5, 8)
    weight, (down, across) = texture._matches(ladder._smoothed(small, scale), large, scale, usable)
    side = ladder._sides(scale)[0]
    lent = np.zeros((80, 90), bool)
    for y, x in {(y, x) for y, x, w in zip(down.flat, across.flat, weight.flat) if w > 0}:
        assert 0 <= y <= 60 - side
        assert 0 <= x <= 70 - side
        lent[5 + y : 5 + y + side, 8 + x : 8 + x + side] = True
    assert not lent[hint < 255].any()
    # and from nearly everywhere else
    assert lent[5:65, 8:78].sum() > 0.9 * (hint[5:65, 8:78] == 255).sum()


# --- tiles, depth, alpha -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 4])
def test_no_pixel_depends_on_the_tiles(scale: int) -> None:
    pixels = photo("grass", 64, 79)
    hint = np.full((64, 79), 255, np.uint8)
    hint[20:40, 30:50] = 0
    whole = levels(pixels, scale, hint=hint)
    for tile in (30, 56):
        assert np.abs(levels(pixels, scale, tile, hint=hint) - whole).max() <= 1e-5 * 255


def test_sixteen_bits_decide_alike_in_all_tiles() -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (60, 50, 3)).astype(np.uint16)
    assert np.abs(levels(pixels, 2, 30) - levels(pixels, 2)).max() <= 1e-5 * 255


def test_too_small_a_reach_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = photo("grass", 70, 90)
    reach = ladder.Exemplars(1).reach(4)
    whole = levels(pixels, 4, rounds=1)
    monkeypatch.setattr(refine, "_SEEDED", 0)
    assert np.abs(levels(pixels, 4, 40, rounds=1) - whole).max() < 0.01
    monkeypatch.setattr(ladder.Exemplars, "reach", lambda self, scale: reach // 2)
    assert np.abs(levels(pixels, 4, 40, rounds=1) - whole).max() > 0.01


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_texture_reaches_no_farther_than_is_said(scale: int) -> None:
    texture = ladder.Exemplars(1)
    small = np.random.default_rng(0).integers(0, 256, (9, 121, 3)).astype(np.float32)
    results = []
    for level in (0, 255):
        small[4, 60] = level
        large = np.repeat(np.repeat(small, scale, axis=0), scale, axis=1)
        results.append(texture(small, large, scale, 0, 0))
    changed = np.flatnonzero((np.abs(results[0] - results[1]) > 1e-3).any(axis=(0, 2))) // scale
    assert changed.min() >= 60 - texture.reach(scale)
    assert changed.max() <= 60 + texture.reach(scale)
    assert len(changed)


def test_sixteen_bits_are_as_eight() -> None:
    pixels = photo("motorcycle_left", 60, 70)
    deep = enlarged(pixels.astype(np.uint16) * 257, 2) / 257
    # a patch as good as another may be chosen: on average no more than rounding
    assert np.abs(deep - enlarged(pixels, 2)).mean() < 0.4


def test_alpha_and_grey_stay_what_they_are() -> None:
    grey = photo("gravel", 60, 70)
    result = enlarged(grey, 2, faithful=0)
    assert (result == result[..., :1]).all()
    alpha = np.zeros((60, 70, 1), np.uint8)
    alpha[:, 20:] = 255
    clear = np.concatenate((photo("motorcycle_left", 60, 70), alpha), axis=2)
    loud = clear.copy()
    loud[:, :20, :3] = np.random.default_rng(0).integers(0, 256, (60, 20, 3))
    results = [enlarged(pixels, 2, faithful=0) for pixels in (clear, loud)]
    assert np.array_equal(results[0][..., 3], results[1][..., 3])
    seen = results[0][..., 3] > 0
    assert np.array_equal(results[0][seen], results[1][seen])


@pytest.mark.parametrize(("size", "scale"), [((1, 1), 2), ((3, 2), 4), ((5, 40), 3), ((30, 31), 2.6), ((20, 20), 8)])
def test_any_size_and_scale(size: tuple[int, int], scale: float) -> None:
    pixels = photo("motorcycle_left", *size)
    result = enlarged(pixels, scale, faithful=0)
    assert result.shape == (round(size[0] * scale), round(size[1] * scale), 3)
    assert np.array_equal(result, enlarged(pixels, scale, faithful=0))
    assert abs(result.mean() - pixels.mean()) < 3


def test_what_is_flat_stays_flat() -> None:
    assert (enlarged(np.full((40, 50, 3), (10, 120, 250), np.uint8), 2, faithful=0) == (10, 120, 250)).all()


def test_a_smaller_result_is_refused() -> None:
    with pytest.raises(UsageError):
        backend.Ladder().upscale(photo("coins"), 10, 10)


def test_the_shell_records_the_knob(run: Callable[..., Any], tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), photo("coins", 64, 80))
    done = run("upscale", "in.png", "--backend", "ladder", "--calibrate", "-o", "out.png")
    assert done.returncode == 0, done.stderr
    said = run("info", "out.png")
    assert b'"calibrated"' in said.stdout or b'"calibrated"' in (tmp_path / "out.png.json").read_bytes()
    refused = run("upscale", "in.png", "--faithful", "0.5", "-o", "no.png")
    assert refused.returncode == 2
    assert b"--faithful" in refused.stderr
    assert not (tmp_path / "no.png").exists()


def test_memory_does_not_grow_with_the_picture() -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    beyond = []
    try:
        for rows in (100, 600):
            pixels = np.tile(photo("grass", 50, 60), (rows // 50, 1, 1))
            result = np.empty((2 * rows, 120, 3), np.uint8)
            both = refine.Beyond(texture=ladder.Exemplars(1))
            refined = refine.Refined(pixels, (2 * rows, 120), _network(), beyond=both)
            tracemalloc.start()
            for part in Refining(refined, 40):
                refined.write(result, part.values, part.top, part.left)
            beyond.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    finally:
        cv2.setNumThreads(before)
    assert beyond[1] < 1.2 * beyond[0]


def test_the_place_in_memory_changes_nothing() -> None:
    pixels = photo("grass", 40, 50).astype(np.uint16) * 251
    first = levels(pixels, 2)
    for count in range(1, 12):
        kept = np.empty(997 * count, np.uint8)
        assert np.array_equal(levels(pixels.copy(), 2), first), kept.size
