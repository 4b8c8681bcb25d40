"""Preflight: each code is raised by a case made for it, and stays silent on a good one."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sample import TUNING, jpeg, photos, stamp

from imgedit import registry
from imgedit.errors import GateFailed
from imgedit.frame import Finding, Frame
from imgedit.ops import preflight as checks
from imgedit.stages.preflight import preflight

Array = NDArray[Any]


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


def grown(truth: Array, reach: int) -> Array:
    padded = np.pad(truth > 0, reach)
    size = 2 * reach + 1
    rows, columns = truth.shape
    shifts = (padded[i : i + rows, j : j + columns] for i in range(size) for j in range(size))
    return np.logical_or.reduce(list(shifts)).astype(np.uint8) * 255


def codes(pixels: Array, mask: Array) -> set[str]:
    return {record.code for record in checks.check(pixels, mask)}


def specks() -> Array:
    mask = rect(100, 100, 20, 60)
    mask[250, 50] = mask[30, 350] = 255
    return mask


def edges() -> Array:
    pixels = ground()
    pixels[:, 190:] //= 4
    pixels[150:] //= 2
    return pixels


def blurred() -> Array:
    pixels = ground().astype(np.float64)
    y, x = np.mgrid[0:300, 0:400]
    pixels[:] = (128 + 100 * np.sin(x / 6) * np.sin(y / 6))[..., None]
    return pixels.astype(np.uint8)


def tight() -> tuple[Array, Array]:
    stamped, truth = stamp(np.full((300, 400, 3), 60, np.uint8), "2019-07-14", kind="caption", seed=0, size=40)
    return stamped, (truth > 220).astype(np.uint8) * 255


MADE = {
    "IE101": (ground(), empty()),
    "IE102": (ground(), rect(0, 0, 300, 400)),
    "IE103": (ground(), 255 - rect(100, 100, 20, 60)),
    "IE104": (ground(), rect(20, 0, 270, 400)),
    "IE105": (ground(), rect(50, 50, 200, 250)),
    "IE106": (ground(), specks()),
    "IE107": (ground(), rect(100, 100, 3, 60)),
    "IE108": (ground(), rect(0, 100, 20, 60)),
    "IE109": (ground(), rect(0, 0, 250, 250)),
    "IE110": (blurred(), rect(100, 100, 20, 60)),
    "IE111": (jpeg(ground(), 10), rect(100, 100, 20, 60)),
    "IE112": (edges(), rect(120, 160, 60, 60)),
    "IE113": tight(),
    "IE114": (ground(), rect(100, 100, 20, 60, 128)),
}


def test_every_code_has_a_case() -> None:
    assert set(MADE) == set(checks.CODES)


@pytest.mark.parametrize("code", sorted(checks.CODES))
def test_a_made_case_is_caught(code: str) -> None:
    pixels, mask = MADE[code]
    found = {record.code: record for record in checks.check(pixels, mask)}
    assert code in found
    severity, message, hint = checks.CODES[code]
    record = found[code]
    assert record.severity == severity and record.hint == hint
    assert "{" not in record.message and record.message.startswith(message.split("{")[0])
    # the same in 16 bit
    assert {r.code for r in checks.check(pixels.astype(np.uint16) * 257, mask)} == set(found)


def test_a_good_case_is_silent() -> None:
    assert codes(ground(), rect(100, 100, 20, 60)) == set()


def test_where_is_the_box_of_the_hole() -> None:
    (record,) = checks.check(ground(), rect(100, 120, 20, 60, 128))
    assert record.where == (120, 100, 60, 20)


@pytest.mark.parametrize("code", sorted(checks.CODES))
def test_hints_can_be_typed(code: str) -> None:
    severity, message, hint = checks.CODES[code]
    assert severity in checks.SEVERITIES and message and hint
    for command, options in re.findall(r"imgedit ([a-z-]+)((?: --[a-z-]+(?: [a-z0-9]+)?)*)", hint):
        words = options.split()
        given = {w: v for w, v in zip(words, [*words[1:], "true"]) if w.startswith("--")}
        registry.stage(command).check({w: "true" if v.startswith("--") else v for w, v in given.items()})


def test_few_warnings_on_real_photos_with_masks_of_text() -> None:
    pictures = photos(TUNING)
    # the moon's file shows blocks, and preflight rightly says so
    total = warned = 0
    for name, pixels in pictures.items():
        for kind in ("date", "caption", "small"):
            stamped, truth = stamp(pixels, kind=kind, seed=1)
            found = checks.check(stamped, grown(truth, 2))
            total += 1
            warned += name != "moon" and any(r.severity != "info" for r in found)
    assert total >= 24 and warned <= 0.1 * total


def test_tight_masks_are_mostly_caught_and_good_ones_are_not() -> None:
    caught = missed = false = 0
    for name, pixels in photos(TUNING[:8]).items():
        for seed in (1, 2):
            stamped, truth = stamp(pixels, kind="caption", seed=seed)
            hit = "IE113" in codes(stamped, (truth > 200).astype(np.uint8) * 255)
            caught, missed = caught + hit, missed + (not hit)
            false += "IE113" in codes(stamped, grown(truth, 1))
        assert name
    assert caught >= 0.5 * (caught + missed) and false <= 1


def test_one_by_one_and_lines() -> None:
    for shape in ((1, 1), (1, 300), (300, 1), (2, 2), (3, 5)):
        pixels = np.full((*shape, 3), 100, np.uint8)
        for value in (0, 255):
            mask = np.zeros(shape, np.uint8)
            mask[0, 0] = value
            assert isinstance(checks.check(pixels, mask), list)


# --- the stage -------------------------------------------------------------------------------------------


def test_the_stage_replaces_its_own_findings_and_keeps_others() -> None:
    other, old = Finding("XX001", "info", "from elsewhere"), Finding("IE104", "error", "of an earlier mask")
    frame = Frame(ground(), mask=rect(0, 100, 20, 60)).with_sidecar(findings=(other, old))
    found = preflight(frame).sidecar.findings
    assert [f.code for f in found] == ["XX001", "IE108"]


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
