"""Write the reference part of README.md from the signatures; with --check, fail where it is stale."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from imgedit import registry
from imgedit.cli import cli
from imgedit.cli.command import shared_options

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- reference: written by scripts/readme.py -->\n", "<!-- end of reference -->\n"


def reference() -> str:
    """Return the reference: every command with its options, as Markdown."""
    parts = []
    context = click.Context(cli)
    shared = {name for option in shared_options() for name in option.opts}
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        help_text = command.help or ""
        parts.append(f"### `imgedit {name}`\n\n{_flow(help_text)}\n")
        rows = [
            (", ".join([*option.opts, *option.secondary_opts]), option)
            for option in command.params
            if isinstance(option, click.Option) and not (name in STAGES and set(option.opts) & shared)
        ]
        if rows:
            parts.append("| option | |\n| --- | --- |\n" + "".join(_row(names, option) for names, option in rows))
        if isinstance(command, click.Group):
            parts += [_within(name, inner) for inner in command.commands.values()]
    return "\n".join(parts)


def _within(name: str, command: click.Command) -> str:
    """Return the reference of a command within the command *name*."""
    arguments = "".join(f" {one.metavar}" for one in command.params if isinstance(one, click.Argument))
    rows = [(", ".join(one.opts), one) for one in command.params if isinstance(one, click.Option)]
    table = "| option | |\n| --- | --- |\n" + "".join(_row(names, option) for names, option in rows)
    return f"#### `imgedit {name} {command.name}{arguments}`\n\n{_flow(command.help or '')}\n\n{table}"


STAGES = set(registry.stage_names())


def _flow(text: str) -> str:
    paragraphs = [" ".join(part.split()) for part in text.strip().split("\n\n")]
    return "\n\n".join(paragraphs)


def _row(names: str, option: click.Option) -> str:
    metavar = f" {option.metavar}" if option.metavar and not option.is_flag else ""
    return f"| `{names}{metavar}`".replace("|", "\\|").replace("\\|", "|", 1) + f" | {_cell(option.help or '')} |\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> int:
    text = README.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, "README.md has lost its markers"
    new = before + BEGIN + "\n" + reference() + "\n" + END + after
    if "--check" in sys.argv[1:]:
        if new != text:
            print("README.md is stale: run `make readme`", file=sys.stderr)
            return 1
        return 0
    README.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
