"""``imgedit profile``: what an upscaler takes of time and memory."""

from __future__ import annotations

import json as jsonlib
from typing import Any

import click

from imgedit import registry
from imgedit.cli.command import number
from imgedit.errors import UsageError
from imgedit.stage import Opt

SIZES = (256, 512, 1024)
TILES = (64, 128, 256, 512)
_COLUMNS = {
    "rows": "size",
    "tile": "tile",
    "overlap": "overlap",
    "seconds": "seconds",
    "cpu_seconds": "cpu s",
    "megapixels_per_second": "Mpixel/s",
    "peak_gb": "peak GB",
    "taken_gb": "taken GB",
}


def _profile(
    backend: str,
    size: tuple[int, ...],
    tile: tuple[int, ...],
    scale: float,
    memory_target_gb: float | None,
    json: bool,
) -> int:
    """Measure the memory and speed of an upscaler over sizes of pictures and of tiles.

    BACKEND is what `upscale --backend` takes: lanczos, spandrel:FILE, … Each row is one run on a square picture:
    seconds, seconds of processor time, pixels made a second, the memory that the process held at most, and what of that
    came with the run. The first row of a size has the tile that is planned; backends without tiles have that row alone.
    """
    if not 1 < scale <= 8:
        raise UsageError(f"--scale must be above 1 and at most 8, not {scale:g}", "--scale 2")
    found = registry.backend("upscale", backend)
    rows = []
    wanted = (None, *sorted(set(tile or TILES)))
    for row in found.profile(sorted(set(size or SIZES)), wanted, scale, memory_target_gb):
        rows.append(row)
        if not json:
            if len(rows) == 1:
                click.echo("  ".join(name.rjust(8) for name in _COLUMNS.values()))
            click.echo("  ".join(_shown(row[key]).rjust(8) for key in _COLUMNS))
    if json:
        click.echo(jsonlib.dumps({"schema": 1, "backend": backend, "scale": scale, "rows": rows}))
    return 0


def _shown(value: Any) -> str:
    return "-" if value is None else f"{value:g}"


command = click.Command(
    "profile",
    callback=_profile,
    help=_profile.__doc__,
    params=[
        click.Argument(["backend"], metavar="BACKEND"),
        number("size", "int", Opt("Rows and columns; repeat.", min=8, max=20_000), multiple=True),
        number("tile", "int", Opt("Side of tiles; repeat.", min=16), multiple=True),
        number("scale", "float", Opt("Factor for rows and columns."), default=2.0),
        number("memory-target-gb", "float", Opt("As of `imgedit upscale`.", min=0.05)),
        click.Option(["--json"], is_flag=True, help="Print the rows as one JSON object."),
    ],
)
