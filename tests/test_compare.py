"""The compare stage: what it keeps and writes, its limits, and what it refuses."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from skimage import data

from imgedit.errors import DataError, GateFailed, ImgeditError, Unavailable, UsageError
from imgedit.frame import Frame, Sidecar
from imgedit.ops.metrics import METRICS
from imgedit.stages.compare import compare

STAGE = compare.stage  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def reference() -> Frame:
    return Frame(np.ascontiguousarray(data.stereo_motorcycle()[0][:240, :320]))


@pytest.fixture(scope="module")
def edited(reference: Frame) -> Frame:
    """Return the reference with noise inside a mask, and nothing else changed."""
    mask = np.zeros((reference.rows, reference.columns), np.uint8)
    mask[80:140, 100:200] = 255
    noise = np.random.default_rng(0).normal(0, 15, reference.pixels.shape)
    noised = np.clip(reference.pixels + noise, 0, 255).astype(np.uint8)
    return Frame(np.where(mask[..., None] > 0, noised, reference.pixels), mask=mask)


def error_of(kind: type[ImgeditError], frame: Frame, **options: Any) -> ImgeditError:
    with pytest.raises(kind) as caught:
        compare(frame, **options)
    assert caught.value.hint
    return caught.value


# --- what it keeps and writes -------------------------------------------------------------------------------


def test_nothing_but_the_metrics_changes(edited: Frame, reference: Frame) -> None:
    found = compare(edited, reference=reference, metric=("all",))
    assert found.pixels is edited.pixels and found.mask is edited.mask and found.planes == edited.planes
    assert set(found.sidecar.metrics) == set(METRICS)
    assert found.notes == {"size": (320, 240), "left_out": ()}
    assert Sidecar.from_json(found.sidecar.to_json()).metrics == found.sidecar.metrics


def test_the_default_is_quick_and_names_come_in_both_spellings(edited: Frame, reference: Frame) -> None:
    assert list(compare(edited, reference=reference).sidecar.metrics) == ["rmse", "psnr", "max", "changed", "de2000"]
    asked = compare(edited, reference=reference, metric=("MS-SSIM", "gradient_ratio", "quick")).sidecar.metrics
    assert {"ms_ssim", "gradient_ratio", "rmse"} <= set(asked)


def test_regions_come_with_a_mask(edited: Frame, reference: Frame) -> None:
    found = compare(edited, reference=reference).sidecar.metrics
    assert set(found["rmse"]) == {"whole", "inside", "ring", "outside"}
    assert found["rmse"]["outside"] == 0 < found["rmse"]["whole"] < found["rmse"]["inside"]
    assert set(compare(edited.replace(mask=None), reference=reference).sidecar.metrics["rmse"]) == {"whole"}


def test_difference_only_when_asked(edited: Frame, reference: Frame) -> None:
    assert "difference" not in compare(edited, reference=reference).planes
    plane = compare(edited, reference=reference, difference=True).planes["difference"]
    assert plane.shape == (240, 320)
    np.testing.assert_array_equal(plane > 0, (edited.pixels != reference.pixels).any(axis=2))


def test_ring_reaches_as_far_as_asked(edited: Frame, reference: Frame) -> None:
    brighter = edited.replace(pixels=np.where(edited.mask[..., None] > 0, 255, reference.pixels).astype(np.uint8))
    shares = [
        compare(brighter, reference=reference, ring=ring).sidecar.metrics["changed"]["ring"] for ring in (1, 4, 16)
    ]
    assert shares == pytest.approx([0.5, 0.5, 0.5], abs=0.1)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_another_size_with_scale_gives_a_difference_of_the_frame_s_size(reference: Frame, depth: Any) -> None:
    pixels = reference.pixels.astype(depth) * (257 if depth == np.uint16 else 1)
    large = Frame(cv2.resize(pixels, (640, 480), interpolation=cv2.INTER_CUBIC))
    small = Frame(pixels)
    for one, other in ((large, small), (small, large)):
        for scale in ("down", "up"):
            found = compare(one, reference=other, scale=scale, difference=True, min_={"psnr": 30})
            assert found.planes["difference"].shape == (one.rows, one.columns)
            assert found.notes["size"] == ((320, 240) if scale == "down" else (640, 480))


def test_regions_come_from_a_mask_that_is_given(edited: Frame, reference: Frame) -> None:
    assert edited.mask is not None
    given = Frame(np.repeat(edited.mask[..., None], 3, axis=2))
    bare = edited.replace(mask=None)
    own, found = (compare(f, reference=reference, **o) for f, o in ((edited, {}), (bare, {"mask": given})))
    assert own.sidecar.metrics == found.sidecar.metrics and found.mask is None
    assert compare(edited, reference=reference, mask=Frame(255 - given.pixels)).sidecar.metrics["rmse"]["inside"] == 0
    error_of(DataError, bare, reference=reference, mask=Frame(given.pixels[1:]))


def test_a_seam_fails_the_gate(reference: Frame, edited: Frame) -> None:
    assert edited.mask is not None
    dark = np.where(edited.mask[..., None] > 0, reference.pixels // 2, reference.pixels)
    error = error_of(GateFailed, edited.replace(pixels=dark), reference=reference, max_={"seam": 0.05})
    assert "seam ring" in error.message
    compare(reference.replace(mask=edited.mask), reference=reference, max_={"seam": 0.05})


# --- limits ---------------------------------------------------------------------------------------------------


def test_equal_pictures_pass_every_limit(reference: Frame) -> None:
    least = {"psnr": 40, "ssim": 1, "ms-ssim": 1, "gradient-ratio": 1}
    most = dict.fromkeys(
        ("rmse", "max", "changed", "alpha-max", "de2000", "gmsd", "gradient-distance", "blockiness"), 0
    )
    found = compare(reference, reference=reference, max_=most, min_=least)
    assert found.sidecar.metrics["psnr"]["whole"] == 200


def test_a_limit_is_reached_and_not_passed(edited: Frame, reference: Frame) -> None:
    value = compare(edited, reference=reference).sidecar.metrics["rmse"]["whole"]
    compare(edited, reference=reference, max_={"rmse": value}, min_={"rmse": value})
    error_of(GateFailed, edited, reference=reference, max_={"rmse": value * 0.999})
    error_of(GateFailed, edited, reference=reference, min_={"rmse": value * 1.001})


def test_a_failed_gate_lists_every_failure_and_carries_the_frame(edited: Frame, reference: Frame) -> None:
    with pytest.raises(GateFailed) as caught:
        compare(
            edited,
            reference=reference,
            metric=("psnr",),
            max_={"rmse": 0.001, "rmse@outside": 0, "halo": 1, "de2000@inside": 0.5},
            min_={"ssim@inside": 0.99, "psnr": 10},
            difference=True,
        )
    message = caught.value.message
    assert "rmse whole 0.0" in message and "> 0.001" in message
    assert "de2000 inside" in message and "ssim inside" in message and "< 0.99" in message
    assert "outside" not in message and "halo" not in message and "psnr" not in message
    frame = caught.value.frame
    assert frame is not None and "difference" in frame.planes
    assert set(frame.sidecar.metrics) == {"rmse", "psnr", "de2000", "ssim", "halo"}
    assert frame.notes["size"] == (320, 240)


def test_a_limit_on_a_region(edited: Frame, reference: Frame) -> None:
    compare(edited, reference=reference, max_={"rmse@outside": 0, "changed@outside": 0, "max @ OUTSIDE": 0})
    assert "rmse inside" in error_of(GateFailed, edited, reference=reference, max_={"rmse@inside": 0}).message


# --- what it refuses --------------------------------------------------------------------------------------------


def test_without_a_reference(reference: Frame) -> None:
    assert "--reference" in error_of(UsageError, reference, reference=None).hint


@pytest.mark.parametrize("options", [{"metric": ("ssin",)}, {"max_": {"ssin": 1}}, {"min_": {"ssin@inside": 1}}])
def test_an_unknown_metric(reference: Frame, options: dict[str, Any]) -> None:
    assert "'ssim'" in error_of(UsageError, reference, reference=reference, **options).hint


@pytest.mark.parametrize("gate", ["rmse@insde", "ms-ssim@inside", "rmse@"])
def test_a_region_that_is_none(reference: Frame, gate: str) -> None:
    if gate == "rmse@":
        compare(reference, reference=reference, max_={gate: 0})
    else:
        error_of(UsageError, reference, reference=reference, max_={gate: 0})


@pytest.mark.parametrize("name", ["fid", "lpips", "LPIPS"])
def test_reserved_metrics_are_not_available(reference: Frame, name: str) -> None:
    assert error_of(Unavailable, reference, reference=reference, metric=(name,)).exit_code == 69
    error_of(Unavailable, reference, reference=reference, max_={name: 0.1})


def test_different_sizes_are_refused(reference: Frame) -> None:
    one = Frame(np.zeros((1, 1, 3), np.uint8))
    other = Frame(np.zeros((106, 106, 3), np.uint8))
    assert "--scale" in error_of(DataError, one, reference=other).hint
    assert error_of(DataError, other, reference=reference, scale="down").exit_code == 65


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (5, 5)])
def test_small_pictures(size: tuple[int, int]) -> None:
    frame = Frame(np.full((*size, 3), 7, np.uint8))
    found = compare(frame, reference=frame, metric=("all",))
    assert "ssim" not in found.sidecar.metrics and "ssim" in found.notes["left_out"]
    assert {"rmse", "psnr", "de2000"} <= set(found.sidecar.metrics)
    # asked for by name there is no silent pass
    for options in (
        {"metric": ("ssim",)},
        {"min_": {"ssim": 0.5}},
        {"max_": {"halo": 1}},
        {"max_": {"rmse@inside": 1}},
    ):
        assert "needs" in error_of(DataError, frame, reference=frame, **options).message


def test_a_gate_on_an_empty_region_is_no_pass(reference: Frame) -> None:
    for value, region in ((0, "inside"), (255, "outside"), (0, "ring")):
        mask = np.full((reference.rows, reference.columns), value, np.uint8)
        error_of(DataError, reference.replace(mask=mask), reference=reference, max_={f"rmse@{region}": 1})


def test_pictures_that_differ_in_alpha_do_not_pass(reference: Frame) -> None:
    alpha = np.full((reference.rows, reference.columns), 255, np.uint8)
    compare(reference.replace(alpha=alpha), reference=reference, max_={"rmse": 0, "changed": 0})
    alpha = alpha.copy()
    alpha[5, 5] = 254
    for name in ("rmse", "max", "changed", "alpha-max"):
        error_of(GateFailed, reference.replace(alpha=alpha), reference=reference, max_={name: 0})


# --- the schema ---------------------------------------------------------------------------------------------------


def test_options_from_the_shell_and_from_yaml() -> None:
    shell = STAGE.check({"max": ["rmse=0.02", "rmse@outside=0"], "min": "psnr=40", "metric": "rmse,psnr"})
    plain = STAGE.check({"max": {"rmse": 0.02, "rmse@outside": 0}, "min": {"psnr": 40}, "metric": ["rmse", "psnr"]})
    assert shell == plain
    assert shell["max_"] == {"rmse": 0.02, "rmse@outside": 0} and shell["metric"] == ("rmse", "psnr")


def test_help_names_every_metric() -> None:
    text = STAGE.params["metric"].opt.help.replace("-", "_")
    assert all(name in text for name in METRICS)
