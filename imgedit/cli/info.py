"""``imgedit info``: what is known of pictures."""

from __future__ import annotations

import sys
from typing import Any

import click

from imgedit.cli.command import inputs, shared_options


def _info(**options: Any) -> int:
    """Say what is known of pictures: size, mask, regions, findings, metrics, and each step with its proof."""
    from imgedit.cli import report, talk
    from imgedit.cli.sources import expand
    from imgedit.cli.start import limits

    talk.listen(quiet=options["quiet"], verbose=options["verbose"])
    for source in expand(options["inputs"], options["files0_from"]):
        for frame in source.frames(limits(options)):
            sidecar = frame.sidecar
            sys.stdout.write(sidecar.to_json() + "\n" if options["json"] else report.whole(sidecar, source.name))
            sys.stdout.flush()
    return 0


command = click.Command(
    "info",
    callback=_info,
    help=_info.__doc__,
    params=[inputs(), *shared_options(output=False)],
)
