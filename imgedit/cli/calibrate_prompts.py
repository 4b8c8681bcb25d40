"""``imgedit calibrate-prompts``: fit a map from one model's text encoders to another's."""

from __future__ import annotations

import dataclasses
import json as jsonlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgedit.cli.calibrate import check, running
from imgedit.cli.command import model_options
from imgedit.errors import DataError, UsageError

if TYPE_CHECKING:
    from imgedit.calibration import Report


def _calibrate_prompts(prompts: str, source: str, target: str, output: str, json: bool, **options: Any) -> int:
    """Fit a map from the text encoders of model A to those of model B, for `inpaint --consistency`.

    For prompts that were tuned on A and are to be given to B: B then gets what A understood. PROMPTS is a text file
    with a prompt on each line, some hundred of the kind that is to be translated, or - for standard input. Every fifth
    prompt is held out, and the report says how far off the map is on those, beside having none: 0 is exact, 1 is no
    better than the mean of all prompts. Where it does not help, the report says so.
    """
    import logging

    from imgedit import calibration, codec, registry
    from imgedit.cli import talk
    from imgedit.cli.start import configure
    from imgedit.jobs import Sampling

    talk.listen(quiet=options["quiet"], verbose=options["verbose"])
    configure(options)
    if output == "-":
        raise UsageError("the map does not go to standard output, where its report does", "give -o map.safetensors")
    check(output)
    lines = _lines(prompts)
    backend = registry.backend("diffusion", "diffusers")
    first, second = (Sampling(name, device=options["device"], dtype=options["dtype"]) for name in (source, target))
    found = calibration.translation(backend, first, second, lines)
    codec.write_whole(Path(output), found.to_bytes())
    report = found.report
    if json:
        said = {"schema": 1, **dataclasses.asdict(report), "helps": report.helps, "same": report.same}
        click.echo(jsonlib.dumps(said))
    else:
        click.echo(_table(report), nl=False)
    log = logging.getLogger("imgedit")
    if report.same:
        log.warning("the two models read these prompts alike: no map is needed")
    elif not report.helps:
        log.warning(
            "the map does not help: on prompts that it has not seen it is hardly better than none; these encoders may "
            "not be related, or more prompts are needed"
        )
    elif report.prompts < calibration.FEW_PROMPTS:
        log.warning(f"the map rests on {report.prompts} prompts; {calibration.FEW_PROMPTS} or more are better")
    return 0


def _lines(name: str) -> list[str]:
    """Return the lines of a text file, or of standard input for ``-``. Raises FileError, and DataError if no text."""
    from imgedit import codec

    if name == "-" and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError("no prompts are given, and standard input is a terminal", "give a file, a prompt on each line")
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except (OSError, ValueError) as error:
        raise codec.file_error(error, name, "read") from None
    try:
        return data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{codec.show(name)} is no UTF-8 text", "give a text file with a prompt on each line") from None


def _table(report: Report) -> str:
    rows = [
        ("prompts", f"{report.prompts}, of which {report.held_out} held out"),
        ("error with the map", f"{report.error:.4f}"),
        ("error of the mean", f"{1:.4f}"),
        ("error as they are", "–, the widths differ" if report.unmapped is None else f"{report.unmapped:.4f}"),
        ("RMS error", f"{report.noise:.3g}"),
        ("ridge penalty", f"{report.penalty:.0e} of the mean eigenvalue, chosen on the others"),
        ("verdict", _verdict(report)),
    ]
    return "".join(f"{name.ljust(20)}{value}\n" for name, value in rows)


def _verdict(report: Report) -> str:
    from imgedit.calibration import FEW_PROMPTS

    if report.same:
        return "no map is needed"
    if not report.helps:
        return "it does not help"
    few = report.prompts < FEW_PROMPTS
    return f"it helps on these, and {report.prompts} prompts are too few to say more" if few else "it helps"


command = click.Command(
    "calibrate-prompts",
    callback=_calibrate_prompts,
    help=_calibrate_prompts.__doc__,
    params=[
        click.Argument(["prompts"], metavar="PROMPTS", type=click.Path(readable=False)),
        click.Option(["--from", "source"], metavar="A", required=True, help="Model that the prompts were tuned on."),
        click.Option(["--to", "target"], metavar="B", required=True, help="Model that is to run them."),
        click.Option(
            ["-o", "--output"],
            metavar="OUTPUT",
            required=True,
            type=click.Path(readable=False),
            help="The map, a .safetensors file.",
        ),
        click.Option(["--json"], is_flag=True, help="Print the report as one JSON object."),
        *running(),
        *model_options(),
        click.Option(["-q", "--quiet"], is_flag=True, help="Say nothing but errors."),
        click.Option(["-v", "--verbose"], is_flag=True, help="Say what is being done."),
    ],
)
