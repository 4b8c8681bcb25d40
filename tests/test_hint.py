"""The hint map: what was invented once is not sharpened or invented upon, and all else stays bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgedit import registry
from imgedit.backends.adapter import adapt
from imgedit.backends.hint import plain
from imgedit.backends.upscale.lanczos import Lanczos
from imgedit.engine import Engine, call
from imgedit.errors import DataError, UsageError
from imgedit.frame import Frame
from imgedit.stages.plane import plane
from imgedit.stages.upscale import upscale


class Bold:
    """Overdoes what it enlarges: the contrast of fine detail is tripled, and a pattern invented."""

    summary, requires, extra, deterministic = "for tests", (), "", True
    native_scale, bit_depths = None, (8, 16)

    def upscale(self, pixels: Any, rows: int, columns: int, *, sharpen: float) -> Any:
        large = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        detail = large - cv2.GaussianBlur(large, (0, 0), 3)
        pattern = 6 * (np.indices((rows, columns)).sum(axis=0) % 2)[..., None]
        return np.clip(np.rint(large + 2 * detail + pattern), 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)


BOLD = adapt("upscale", Bold())


def scene(rows: int, columns: int, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    smooth = cv2.resize(random.random((7, 8, 3)), (columns, rows), interpolation=cv2.INTER_CUBIC)
    return np.clip(60 + 130 * smooth + 12 * random.random((rows, columns, 3)), 0, 255).astype(np.uint8)


def hinted(rows: int, columns: int, value: int = 0) -> Any:
    hint = np.full((rows, columns), 255, np.uint8)
    hint[rows // 3 : 2 * rows // 3, columns // 4 : columns // 2] = value
    return hint


@given(
    st.tuples(st.integers(1, 50), st.integers(1, 50)),
    st.sampled_from([2, 3, 1.5, 2.7]),
    st.integers(0, 99),
    st.booleans(),
)
@settings(max_examples=40)
def test_what_was_photographed_stays_bit_for_bit(size: tuple[int, int], scale: float, seed: int, sharp: bool) -> None:
    random = np.random.default_rng(seed)
    hint = np.where(random.random(size) < 0.2, random.integers(0, 255, size), 255).astype(np.uint8)
    backend = adapt("upscale", Lanczos()) if sharp else BOLD
    pixels = scene(*size, seed)
    rows, columns = round(size[0] * scale), round(size[1] * scale)
    given_, plainly = (backend.upscale(pixels, rows, columns, sharpen=0.8, hint=h).pixels for h in (hint, None))
    # an output pixel is photographed if all that it covers is
    down = [range(r * size[0] // rows, ((r + 1) * size[0] - 1) // rows + 1) for r in range(rows)]
    across = [range(c * size[1] // columns, ((c + 1) * size[1] - 1) // columns + 1) for c in range(columns)]
    known = np.array([[hint[r.start : r.stop, c.start : c.stop].min() == 255 for c in across] for r in down])
    assert np.array_equal(given_[known], plainly[known])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [2, 2.5])
def test_what_was_invented_is_enlarged_plainly(scale: float, dtype: Any) -> None:
    pixels = scene(60, 80).astype(dtype) * (1 if dtype == np.uint8 else 257)
    rows, columns = round(60 * scale), round(80 * scale)
    made, notes = BOLD.upscale(pixels, rows, columns, hint=hinted(60, 80))
    calm = plain(pixels, rows, columns)
    inner = np.s_[round(22 * scale) : round(38 * scale), round(22 * scale) : round(38 * scale)]
    assert np.array_equal(made[inner], calm[inner])
    assert 0 < notes["hinted"] < 20 * 20 / (60 * 80)


def energy(pixels: Any) -> float:
    """Return the energy of the finest detail."""
    return float(np.square(cv2.Laplacian(pixels.astype(np.float64).mean(axis=2), cv2.CV_64F)).mean())


def test_less_is_invented_inside_and_the_more_the_less_the_hint() -> None:
    pixels = scene(90, 120)
    inner = np.s_[70:110, 70:110]
    found = []
    for value in (255, 170, 85, 0):
        frame = Frame(pixels, planes={"hint": hinted(90, 120, value)})
        found.append(energy(upscale(frame, BOLD, scale=2.0).pixels[inner]))
    assert found[0] > 1.5 * found[1] > 1.5 * found[2] and found[2] > found[3]
    assert found[3] < 0.1 * found[0]


@pytest.mark.parametrize(
    ("name", "own", "amplified"),
    [("bold", {}, 1.5), ("hybrid", {}, 1.3), ("ladder", {}, 1.3), ("ladder", {"faithful": 0.0}, 1.5)],
)
def test_a_halo_is_not_amplified_where_the_hint_marks_it(name: str, own: dict[str, Any], amplified: float) -> None:
    # a bad repair: its edge is too bright by some levels, over two pixels
    pixels = np.full((90, 120, 3), 110, np.uint8)
    pixels += (scene(90, 120) // 16).astype(np.uint8)
    hint = hinted(90, 120)
    inside = (hint == 0).astype(np.uint8)
    rim = inside - cv2.erode(inside, np.ones((5, 5), np.uint8))
    pixels[rim > 0] += 24
    backend = BOLD if name == "bold" else registry.backend("upscale", name)
    heights = []
    for planes in ({}, {"hint": hint}):
        made = upscale(Frame(pixels, planes=planes), backend, scale=2.0, **own).pixels.astype(float).mean(axis=2)
        along = made[75:105]
        # across the left side of the repair: columns 30 and 31 are too bright
        profile = along.mean(axis=0)
        heights.append(profile[58:66].max() - profile[68:90].mean())
    assert heights[0] > amplified * 24
    # what was there all the same is no larger than it was
    assert heights[1] < 1.05 * 24


def test_the_hint_of_a_file_and_of_the_mask(run: Callable[..., Any], tmp_path: Path) -> None:
    pixels = scene(48, 64)
    cv2.imwrite(str(tmp_path / "in.png"), pixels[..., ::-1])
    hint = np.full((48, 64), 255, np.uint8)
    hint[10:30, 20:40] = 0
    cv2.imwrite(str(tmp_path / "hint.png"), hint)
    # of a network or not: sharpening is what lanczos adds
    options = ("--sharpen", "1", "-o")
    one = run("upscale", "in.png", "--hint", "hint.png", *options, "one.png")
    assert one.returncode == 0, one.stderr
    drawn = run("mask", "in.png", "--rect", "20,10,20,20")
    marked = run("plane", stdin=drawn.stdout)
    assert marked.returncode == 0, marked.stderr
    two = run("upscale", *options, "two.png", stdin=marked.stdout)
    assert two.returncode == 0, two.stderr
    pictures = [cv2.imread(str(tmp_path / f"{name}.png")) for name in ("one", "two")]
    assert np.array_equal(*pictures)
    assert np.array_equal(cv2.imread(str(tmp_path / "two.hint.png"))[::2, ::2, 0], hint)
    bare = run("upscale", "in.png", *options, "bare.png")
    assert bare.returncode == 0
    assert (cv2.imread(str(tmp_path / "bare.png")) != pictures[0]).any()


def test_planes_come_from_files_and_masks_and_go() -> None:
    frame = Frame(scene(20, 30), mask=(hinted(20, 30) == 0).astype(np.uint8) * 255)
    assert np.array_equal(plane(frame).planes["hint"], hinted(20, 30))
    assert np.array_equal(plane(frame, as_="edges").planes["edges"], frame.mask)
    assert np.array_equal(plane(frame, invert=True).planes["hint"], frame.mask)
    from_ = Frame(np.repeat(hinted(20, 30, 77)[..., None], 3, axis=2))
    marked = plane(frame, from_=from_)
    assert np.array_equal(marked.planes["hint"], hinted(20, 30, 77))
    assert plane(marked, drop=True).planes == {}
    assert plane(frame, drop=True).planes == {}
    assert (plane(Frame(frame.pixels)).planes["hint"] == 255).all()
    done = Engine([call("plane", as_="my-map")]).run(frame)
    assert set(done.planes) == {"my-map"} and done.digest == frame.digest


def test_planes_that_cannot_be_made_are_refused() -> None:
    frame = Frame(scene(20, 30))
    with pytest.raises(DataError, match="30×21"):
        plane(frame, from_=Frame(scene(21, 30)))
    with pytest.raises(DataError, match="30×21"):
        upscale(frame, BOLD, hint=Frame(scene(21, 30)))
    for name in ("mask", "a b", "Hint", "", "../x", "1a", "x" * 33):
        with pytest.raises(UsageError):
            call("plane", as_=name)
