"""``imgedit completion``: completion scripts for shells."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


def _completion(shell: str) -> int:
    """Print the completion script for a shell, to be read at its start: eval "$(imgedit completion bash)"."""
    from imgedit.cli import cli

    found = get_completion_class(shell)
    if found is None:  # the choice below allows only known ones
        raise click.UsageError(f"no completion for {shell}")
    click.echo(found(cli, {}, "imgedit", "_IMGEDIT_COMPLETE").source())
    return 0


command = click.Command(
    "completion",
    callback=_completion,
    help=_completion.__doc__,
    params=[click.Argument(["shell"], type=click.Choice(["bash", "zsh", "fish"]))],
)
