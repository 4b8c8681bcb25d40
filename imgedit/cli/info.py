"""``imgedit info``: what is known of pictures."""

from __future__ import annotations

from typing import Any

import click

from imgedit.cli.command import inputs, keep_going, shared_options


def _info(**options: Any) -> int:
    """Say what is known of pictures: size, mask, regions, findings, metrics, and each step with its proof."""
    from imgedit.cli import sinks, talk
    from imgedit.cli.sources import expand
    from imgedit.cli.start import batch

    talk.listen(quiet=options["quiet"], verbose=options["verbose"])
    sources = expand(options["inputs"], options["files0_from"], keep_going=options["keep_going"])
    job = batch([], sources, sinks.Lines() if options["json"] else sinks.Report(), options)
    job.measure = False
    return job.run()


command = click.Command(
    "info",
    callback=_info,
    help=_info.__doc__,
    params=[inputs(), keep_going(), *shared_options(output=False)],
)
