"""A sidecar in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from imgedit.cli import talk
from imgedit.frame import Sidecar, Step

MOST_REGIONS = 20


def whole(sidecar: Sidecar, name: str) -> str:
    """Return what is known of the picture called *name*, a fact a line."""
    return "".join(f"{talk.printable(line)}\n" for line in _lines(sidecar, name))


def metrics(sidecar: Sidecar) -> str:
    """Return the metrics as a table: a metric a row, a region a column."""
    rows = {name: v if isinstance(v, Mapping) else {"whole": v} for name, v in sidecar.metrics.items()}
    if not rows:
        return ""
    regions = list(dict.fromkeys(region for values in rows.values() for region in values))
    width = max(len("metric"), *(len(name) for name in rows))
    lines = ["metric".ljust(width) + "".join(region.rjust(14) for region in regions)]
    for name, values in rows.items():
        lines.append(name.ljust(width) + "".join(_number(values.get(region)).rjust(14) for region in regions))
    return "".join(f"{talk.printable(line)}\n" for line in lines)


def _lines(sidecar: Sidecar, name: str) -> Iterator[str]:
    image = sidecar.image
    if image:
        source = f", from {image.source}" if image.source and image.source != name else ""
        bits = 16 if image.dtype == "uint16" else 8
        yield f"{name}: {image.columns}×{image.rows}, {bits} bit, read as {image.mode}{source}"
    if sidecar.mask:
        grid = f", on a grid of {sidecar.mask.grid}" if sidecar.mask.grid else ""
        yield f"  mask: {100 * sidecar.mask.coverage:.2f} % of the pixels{grid}"
    for region in sidecar.regions[:MOST_REGIONS]:
        xs, ys = zip(*region.polygon)
        box = f"{min(xs):.0f},{min(ys):.0f} {max(xs) - min(xs):.0f}×{max(ys) - min(ys):.0f}"
        score = "" if region.score is None else f", score {region.score:.2f}"
        text = f" {region.text!r}" if region.text else ""
        yield f"  {region.label}{text} at {box}{score}"
    if len(sidecar.regions) > MOST_REGIONS:
        yield f"  … and {len(sidecar.regions) - MOST_REGIONS} more regions"
    for finding in sidecar.findings:
        hint = f" ({finding.hint})" if finding.hint else ""
        yield f"  {finding.severity} {finding.code}: {finding.message}{hint}"
    for step in sidecar.steps:
        yield "  " + _step(step)
    yield from ("  " + line for line in metrics(sidecar).splitlines())


def _step(step: Step) -> str:
    backend = f" ({step.backend})" if step.backend else ""
    proof = ""
    if step.outside:
        proof = f", outside the mask {step.outside.get('outside_changed')} pixels changed"
    return f"{step.stage}{backend}: {step.seconds:.2f} s{proof}"


def _number(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, int | float) else str(value)
