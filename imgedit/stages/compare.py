"""Measure how far a picture is from a reference, and hold it to limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from imgedit.errors import DataError, GateFailed, UsageError
from imgedit.frame import Finding, Frame
from imgedit.stage import Limits, Opt, stage

if TYPE_CHECKING:
    from imgedit.frame import Plane

PROFILES = "other-profile"


@stage(keeps=["pixels", "size", "alpha"])
def compare(
    frame: Frame,
    *,
    reference: Annotated[Frame | None, Opt("Picture to compare with: a file, or @name in a pipeline.")] = None,
    metric: Annotated[
        tuple[str, ...],
        Opt(
            "What to measure: rmse, psnr, max, changed, de2000 (these are quick), alpha-max, de2000-max, de2000-p95, "
            "ssim, ms-ssim, gmsd, gradient-ratio, gradient-distance, blockiness, halo, halo-signed, seam, seam-signed, "
            "or all."
        ),
    ] = ("quick",),
    max_: Annotated[
        Limits | None, Opt("Fail where a metric is above: rmse=0.02, or rmse@outside=0 for a region.")
    ] = None,
    min_: Annotated[
        Limits | None, Opt("Fail where a metric is below: psnr=40, or ssim@ring=0.95 for a region.")
    ] = None,
    scale: Annotated[
        Literal["down", "up"] | None,
        Opt("For pictures of different sizes: reduce the larger (area average) or enlarge the smaller (cubic)."),
    ] = None,
    mask: Annotated[Frame | None, Opt("Picture of the same size to take the regions from, white is inside.")] = None,
    ring: Annotated[int, Opt("Reach of region ring on each side of the mask's edge, pixels.", min=1, max=64)] = 4,
    difference: Annotated[
        bool, Opt("Add plane difference: 0 where equal, else 255 times the root of the largest difference.")
    ] = False,
) -> Frame:
    """Measure the picture against a reference and hold it to limits; nothing of the picture changes.

    The metrics go into the sidecar, by metric and region: whole and, where there is a mask (the picture's, or --mask),
    inside (above 0), outside (0) and ring (close to the edge of the mask, both sides). Limits that fail end with exit
    code 1 and a list. A halo is a step at the mask's edge that the reference lacks, a seam one that stands out from the
    picture itself, so that it needs no reference of what the inside should be.
    Equal pictures have a PSNR of 200 dB. Alpha counts as a fourth channel in rmse, psnr, max and changed; the other
    metrics look at the picture over black and over white, and the worse counts. A metric that a picture is too small
    for is left out of quick and all, and is an error where it was asked for by name.
    """
    from imgedit.ops import metrics, pixelwise
    from imgedit.ops.pairs import fitted, pair

    if reference is None:
        raise UsageError(
            "there is nothing to compare with", "give --reference FILE, or in a pipeline reference: '@input'"
        )
    held = metrics.limits(max_ or {}, min_ or {})
    wanted, required = metrics.names(metric, held)
    both = pair(
        frame.pixels,
        reference.pixels,
        alpha=frame.alpha,
        reference_alpha=reference.alpha,
        mask=frame.mask if mask is None else _mask_of(mask, frame),
        ring=ring,
        scale=scale,
    )
    measured = metrics.measure(both, wanted)
    rows, columns = both.picture.shape[:2]
    notes = {
        "size": (columns, rows),
        "left_out": tuple(name for name in wanted if name not in measured and name not in required),
    }
    findings = tuple(finding for finding in frame.sidecar.findings if finding.code != PROFILES)
    if frame.icc != reference.icc:
        message = "the two pictures have different colour profiles: equal numbers are not equal colours"
        findings += (Finding(PROFILES, "warning", message, "convert one to the profile of the other"),)
    result = frame.with_sidecar(metrics=measured, findings=findings).replace(notes=notes)
    if difference:
        plane = fitted(pixelwise.difference(both.picture, both.reference, both.alphas), (frame.rows, frame.columns))
        result = result.replace(planes={**frame.planes, "difference": plane})
    for name in required:
        metrics.require(measured, name)
    values = [(limit, metrics.require(measured, limit.metric, limit.region)) for limit in held]
    failures = [failure for limit, value in values if (failure := limit.failure(value))]
    if failures:
        hint = (
            "see where: imgedit compare PICTURE REFERENCE -o difference.png; or move the limit if the change is meant"
        )
        raise GateFailed("not within the limits: " + "; ".join(failures), hint, frame=result)
    return result


def _mask_of(picture: Frame, frame: Frame) -> Plane:
    """Return a picture read as a mask. Raises DataError where it is of another size than *frame*."""
    from imgedit.ops import masks

    if (picture.rows, picture.columns) != (frame.rows, frame.columns):
        raise DataError(
            f"the mask is {picture.columns}×{picture.rows}, the picture {frame.columns}×{frame.rows}",
            "give a mask that was made for this very picture",
        )
    return masks.threshold(masks.of_picture(picture.pixels, picture.alpha), 128)
