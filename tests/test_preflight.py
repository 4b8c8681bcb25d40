"""Preflight: each code is raised by a case made for it, and stays silent on a good one."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from corpus import grown
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from sample import TUNING, jpeg, photos, stamp

from imgedit import registry
from imgedit.engine import Engine, call
from imgedit.errors import DataError, GateFailed
from imgedit.frame import Finding, Frame, Region, Step
from imgedit.ops import preflight as checks
from imgedit.ops.preflight import geometry, surroundings
from imgedit.stages.preflight import preflight

Array = NDArray[Any]
ROOT = Path(__file__).parents[1]


def ground(rows: int = 300, columns: int = 400) -> Array:
    """Return a sharp picture without blocks: noise over a slow wave."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:rows, 0:columns]
    wave = 120 + 40 * np.sin(x / 60) * np.cos(y / 50)
    return np.clip(wave[..., None] + rng.normal(0, 6, (rows, columns, 3)), 0, 255).astype(np.uint8)


def empty(rows: int = 300, columns: int = 400) -> Array:
    return np.zeros((rows, columns), np.uint8)


def rect(top: int, left: int, height: int, width: int, value: int = 255) -> Array:
    mask = empty()
    mask[top : top + height, left : left + width] = value
    return mask


def codes(pixels: Array, mask: Array) -> set[str]:
    return {record.code for record in checks.check(pixels, mask)}


def specks() -> Array:
    mask = rect(100, 100, 20, 60)
    mask[250, 50] = mask[30, 350] = 255
    return mask


def edges() -> Array:
    pixels = ground()
    pixels[:, 190:] //= 4
    return pixels


def blurred() -> Array:
    pixels = ground().astype(np.float64)
    y, x = np.mgrid[0:300, 0:400]
    pixels[:] = (128 + 100 * np.sin(x / 6) * np.sin(y / 6))[..., None]
    return pixels.astype(np.uint8)


def noisy() -> Array:
    noise = np.random.default_rng(2).normal(0, 20, (300, 400, 3))
    return np.clip(ground() + noise, 0, 255).astype(np.uint8)


def clipped() -> Array:
    pixels = ground()
    pixels[:, 120:] = 255
    return pixels


def text(reach: int, **options: Any) -> tuple[Array, Array]:
    """Return a picture with a date, and the mask of its strokes grown by *reach*."""
    stamped, truth = stamp(ground(), "2019-07-14", kind="caption", seed=0, size=40, **options)
    return stamped, grown(truth > 220 if reach == 0 else truth > 8, reach)


def left() -> tuple[Array, Array]:
    pixels, mask = text(2)
    mask[:, 200:] = 0
    return pixels, mask


def shifted() -> tuple[Array, Array]:
    pixels, mask = text(2)
    return pixels, np.roll(mask, (-6, 5), (0, 1))


def two() -> tuple[Array, Array]:
    pixels = ground()
    pixels[110:130, 50:100] = pixels[110:130, 300:350] = (250, 40, 40)
    return pixels, rect(105, 45, 30, 310)


def jagged() -> Array:
    y, x = np.mgrid[0:60, 0:80]
    disc = (np.hypot(y - 30, x - 40) < 18).astype(np.uint8) * 255
    return disc.repeat(5, axis=0).repeat(5, axis=1)


def strip() -> tuple[Array, Array]:
    return ground(50), rect(1, 130, 48, 120)[:50]


def tall() -> Array:
    return rect(50, 50, 200, 250)


MADE = {
    "IE101": (ground(), empty()),
    "IE102": (ground(), rect(0, 0, 300, 400)),
    "IE103": (ground(), 255 - rect(100, 100, 20, 60)),
    "IE104": (ground(), rect(20, 0, 270, 400)),
    "IE105": (ground(), tall()),
    "IE106": (ground(), specks()),
    "IE107": (ground(), rect(100, 100, 3, 60)),
    "IE108": (ground(), rect(0, 100, 20, 60)),
    "IE109": strip(),
    "IE110": (blurred(), rect(100, 100, 20, 60)),
    "IE111": (jpeg(ground(), 10), rect(100, 100, 20, 60)),
    "IE112": (edges(), rect(120, 160, 60, 60)),
    "IE113": text(0),
    "IE114": (ground(), rect(100, 100, 20, 60, 128)),
    "IE115": (ground(), rect(100, 100, 1, 60)),
    "IE116": (ground(), jagged()),
    "IE117": two(),
    "IE118": shifted(),
    "IE119": (ground(), np.zeros((150, 200), np.uint8)),
    "IE120": (clipped(), rect(100, 100, 20, 60)),
    "IE121": (noisy(), rect(100, 100, 20, 60)),
    "IE122": left(),
}


def test_every_code_has_a_case() -> None:
    assert set(MADE) == set(checks.CODES)


@pytest.mark.parametrize("code", sorted(checks.CODES))
def test_a_made_case_is_caught(code: str) -> None:
    pixels, mask = MADE[code]
    found = {record.code: record for record in checks.check(pixels, mask)}
    assert code in found
    known = checks.CODES[code]
    record = found[code]
    assert record.severity == known.severity and record.hint == known.hint
    assert "{" not in record.message and record.message.startswith(known.message.split("{")[0])
    # the same in 16 bit
    assert {r.code for r in checks.check(pixels.astype(np.uint16) * 257, mask)} == set(found)


@pytest.mark.parametrize("mask", [rect(100, 100, 20, 60), rect(240, 300, 40, 80)])
def test_a_good_case_is_silent(mask: Array) -> None:
    assert codes(ground(), mask) == set()


def test_good_text_is_silent() -> None:
    for reach in (1, 2, 3):
        assert codes(*text(reach)) <= {"IE107"}


def test_a_mask_in_latent_cells_is_not_jagged() -> None:
    cells = (np.random.default_rng(0).random((300 // 6, 400 // 4)) < 0.02).astype(np.uint8) * 255
    mask = cells.repeat(6, axis=0).repeat(4, axis=1)
    assert "IE116" not in {record.code for record in checks.check(ground(), mask, grid=4)}


def test_where_is_the_box_of_the_hole() -> None:
    (record,) = checks.check(ground(), rect(100, 120, 20, 60, 128))
    assert record.where == (120, 100, 60, 20)


def test_misalignment_says_where_to() -> None:
    (record,) = [r for r in checks.check(*shifted()) if r.code == "IE118"]
    # the mask was moved up by 6 and right by 5 pixels
    assert re.search(r"better ([678]) px down", record.message)


@pytest.mark.parametrize("code", sorted(checks.CODES))
def test_hints_can_be_typed(code: str) -> None:
    known = checks.CODES[code]
    assert known.severity in checks.SEVERITIES and known.message and known.hint and known.why and known.title
    for command, options in re.findall(r"imgedit ([a-z-]+)((?: --[a-z-]+(?: [a-z0-9]+)?)*)", known.hint):
        words = options.split()
        given = {w: v for w, v in zip(words, [*words[1:], "true"]) if w.startswith("--")}
        registry.stage(command).check({w: "true" if v.startswith("--") else v for w, v in given.items()})


def test_one_by_one_and_lines() -> None:
    for shape in ((1, 1), (1, 300), (300, 1), (2, 2), (3, 5), (17, 33), (40, 40)):
        pixels = np.full((*shape, 3), 100, np.uint8)
        for value in (0, 128, 255):
            for place in ((0, 0), (shape[0] // 2, shape[1] // 2), (slice(None, None, 2), slice(None, None, 3))):
                mask = np.zeros(shape, np.uint8)
                mask[place] = value
                assert isinstance(checks.check(pixels, mask), list)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 1 << 30), st.floats(0.001, 0.999))
def test_any_mask_on_any_picture_is_judged(rows: int, columns: int, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (rows, columns, 3), np.uint8)
    records = checks.check(pixels, ((rng.random((rows, columns)) < share) * 255).astype(np.uint8))
    assert [r.code for r in records] == sorted({r.code for r in records})
    for record in records:
        x, y, width, height = record.where or (0, 0, 1, 1)
        assert 0 <= x < x + width <= columns and 0 <= y < y + height <= rows


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 1 << 30))
def test_groups_cover_every_masked_pixel(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = ((rng.random((rows, columns)) < 0.01) * 255).astype(np.uint8)
    rest = mask.copy()
    for group in geometry.groups(mask):
        assert rest[group.box.slices].any() or mask[group.box.slices].any()
        rest[group.box.slices] = 0
    assert not rest.any()


def test_the_moon_is_blocky_and_other_photos_are_not() -> None:
    """The moon's file shows the 8×8 grid of an old compression, on the grid of its own corner."""
    found = {}
    for name, pixels in photos(TUNING).items():
        luma = np.asarray(pixels[..., 1], np.float32)
        found[name] = surroundings.grid_strength(luma, np.ones(luma.shape, bool))
    assert found.pop("moon") > 2 and max(found.values()) < surroundings.BLOCKY


def test_time_follows_the_holes_and_not_the_picture() -> None:
    """12 megapixels with a large hole and 300 specks; far above what is promised, as machines differ."""
    rng = np.random.default_rng(0)
    pixels = np.tile(ground(), (10, 10, 1))
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[200:2000, 300:1800] = 255
    for y, x in rng.integers(0, 2990, (300, 2)):
        mask[y : y + 2, x : x + 2] = 255
    times = []
    for _ in range(3):
        start = time.process_time()
        assert "IE106" in codes(pixels, mask)
        times.append(time.process_time() - start)
    assert min(times) < 0.15


# --- the stage -------------------------------------------------------------------------------------------


def test_the_stage_replaces_its_own_findings_and_keeps_others() -> None:
    other, old = Finding("XX001", "info", "from elsewhere"), Finding("IE104", "error", "of an earlier mask")
    frame = Frame(ground(), mask=rect(0, 100, 20, 60)).with_sidecar(findings=(other, old))
    found = preflight(frame).sidecar.findings
    assert [f.code for f in found] == ["XX001", "IE108"]


@pytest.mark.parametrize(
    ("name", "code", "options"),
    [
        ("coins", "IE118", {"kind": "low-contrast", "seed": 6}),
        ("camera", "IE112", {"kind": "caption", "seed": 6, "size": 72, "text": "2019-07-14"}),
    ],
)
def test_strokes_that_were_found_in_these_pixels_cannot_lie_beside_them_or_be_narrower(
    name: str, code: str, options: dict[str, Any]
) -> None:
    pixels, drawn = stamp(photos([name])[name], **options)
    x, y, width, height = cv2.boundingRect((drawn > 25).astype(np.uint8))
    corners = ((x - 3, y - 3), (x + width + 3, y - 3), (x + width + 3, y + height + 3), (x - 3, y + height + 3))
    given = Frame(pixels).with_sidecar(regions=(Region(corners),))

    def warned(frame: Frame) -> set[str]:
        return {finding.code for finding in frame.sidecar.findings if finding.severity != "info"}

    calls = [call("mask"), call("preflight", fail_on="never")]
    assert code not in warned(Engine(calls).run(given))
    # of the same mask from somewhere else both may be so
    handed = Frame(pixels, mask=Engine(calls).run(given).mask)
    assert code in warned(Engine(calls[1:]).run(handed))


@pytest.mark.parametrize("wider", [{"dilate": 30}, {"grid": 64}, {"close": 40}, {"label": "logo"}])
def test_strokes_that_were_made_wider_may_be_crossed(wider: dict[str, Any]) -> None:
    options: dict[str, Any] = {"kind": "caption", "seed": 6, "size": 72, "text": "2019-07-14"}
    pixels, drawn = stamp(photos(["astronaut"])["astronaut"], **options)
    x, y, width, height = cv2.boundingRect((drawn > 25).astype(np.uint8))
    corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
    label = wider.pop("label", "text")
    given = Frame(pixels).with_sidecar(regions=(Region(corners, label),))
    calls = [call("mask", **wider), call("preflight", fail_on="never")]
    made = Engine(calls).run(given)
    handed = Engine(calls[1:]).run(Frame(pixels, mask=made.mask))

    def warned(frame: Frame) -> set[str]:
        return {f.code for f in frame.sidecar.findings if f.severity != "info" and f.code in ("IE112", "IE118")}

    assert warned(handed) and warned(made) == warned(handed)


@pytest.mark.parametrize("shape", [(200, 1200), (600, 10000), (301, 4000)])
@pytest.mark.parametrize("rows", [1, 5, 11])
@pytest.mark.parametrize("turned", [False, True])
def test_thin_holes_at_the_edge_of_long_pictures_are_seen(shape: tuple[int, int], rows: int, turned: bool) -> None:
    from imgedit.ops.holes import Hole
    from imgedit.ops.preflight.view import overview

    mask = np.zeros(shape, np.uint8)
    mask[-rows:] = 255
    mask = np.ascontiguousarray(mask.T) if turned else mask
    pixels = np.random.default_rng(0).integers(0, 256, (*mask.shape, 3), np.uint8)
    assert "IE108" in {record.code for record in checks.check(pixels, mask)}
    x, y, width, height = cv2.boundingRect(mask)
    seen = overview(pixels, mask, Hole(y, x, y + height, x + width))
    assert seen.inside.any() or rows < seen.scale


def test_the_stage_fails_at_or_above_the_severity() -> None:
    too_much = Frame(ground(), mask=rect(20, 0, 270, 400))
    with pytest.raises(GateFailed) as verdict:
        preflight(too_much)
    assert "IE104" in verdict.value.message and verdict.value.hint
    assert verdict.value.frame is not None and verdict.value.frame.sidecar.findings
    assert preflight(too_much, fail_on="never").pixels is too_much.pixels
    warned = Frame(ground(), mask=rect(50, 50, 200, 250))
    preflight(warned)
    with pytest.raises(GateFailed):
        preflight(warned, fail_on="warning")


def test_an_empty_mask_is_no_error() -> None:
    found = preflight(Frame(ground(), mask=empty())).sidecar.findings
    assert [(f.code, f.severity) for f in found] == [("IE101", "warning")]
    assert found[0].message == "the mask is empty, and nothing will change"


@pytest.mark.parametrize(
    ("match", "found", "source", "says"),
    [
        ("@date", 0, "regions", "no text matched '@date'"),
        (None, 0, "regions", "no text was found"),
        ("@date", 2, "regions", None),
        ("@date", 0, "given", None),
    ],
)
def test_an_empty_mask_of_a_search_says_what_was_not_found(
    match: str | None, found: int, source: str, says: str | None
) -> None:
    steps = (
        Step("detect-text", {"match": match}, "", "", notes={"found": found}),
        Step("mask", {}, "", "", notes={"source": source}),
        Step("upscale", {}, "", ""),
    )
    for count in (2, 3):  # a mask that went through something else since may be another one
        looked = preflight(Frame(ground(), mask=empty()).with_sidecar(steps=steps[:count]))
        message = looked.sidecar.findings[0].message
        assert message.endswith(f": {says}") if says and count == 2 else ":" not in message


# --- another size, and the documentation -----------------------------------------------------------------


def test_a_mask_of_another_size_is_refused_wherever_it_comes_from(run: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mask is 200×150.*picture 400×300"):
        Frame(ground(), mask=np.zeros((150, 200), np.uint8))
    Image.fromarray(ground()).save(tmp_path / "x.png")
    Image.fromarray(np.full((150, 200), 255, np.uint8)).save(tmp_path / "m.png")
    asked = run("mask", "--from", "m.png", "x.png", "-o", "y.png")
    (tmp_path / "m.png").rename(tmp_path / "x.mask.png")
    beside = run("preflight", "x.png", "--json")
    for result in (asked, beside):
        assert result.returncode == 65 and b"200\xc3\x97150" in result.stderr and b"400\xc3\x97300" in result.stderr


def explained(run: Callable[..., subprocess.CompletedProcess[bytes]], *arguments: str) -> tuple[int, str]:
    """Run --explain where neither numpy nor cv2 can be imported and there is no picture."""
    poison = ROOT / "tests" / "poison"
    result = run("preflight", *arguments, env={"PYTHONPATH": f"{poison}{os.pathsep}{ROOT}"})
    return result.returncode, (result.stdout + result.stderr).decode()


def test_codes_are_explained_without_a_picture(run: Callable[..., Any]) -> None:
    code, said = explained(run, "--explain", "ie113")
    known = checks.CODES["IE113"]
    assert code == 0 and all(part in said for part in ("IE113", known.title, known.severity, known.why, known.hint))


def test_all_codes_are_listed(run: Callable[..., Any]) -> None:
    code, said = explained(run, "--explain")
    assert code == 0 and [line[:5] for line in said.splitlines()] == sorted(checks.CODES)


def test_an_unknown_code_is_a_usage_error(run: Callable[..., Any]) -> None:
    code, said = explained(run, "--explain", "IE1113")
    assert code == 2 and "IE113" in said
