"""A stage's signature as a shell command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from imgedit.stage import Param, Stage

_METAVARS = {
    "int": "N",
    "float": "X",
    "str": "TEXT",
    "rect": "X,Y,W,H",
    "polygon": "'X,Y X,Y X,Y'",
    "limits": "NAME=X",
    "picture": "FILE|@NAME",
    "tone": "FILE|@NAME",
}


def for_stage(stage: Stage) -> click.Command:
    """Return the click command of *stage*: its parameters, and the options that all commands share."""
    head, _, body = stage.help.partition("\n")
    options: list[click.Parameter] = [option(param) for param in stage.params.values()]

    def callback(**given: Any) -> int:
        from imgedit.cli.start import start

        return start(stage, given)

    return click.Command(
        stage.name,
        callback=callback,
        params=[click.Argument(["inputs"], nargs=-1, metavar="[INPUT]..."), *options, *shared_options()],
        help=head + "\n\n" + body.strip(),
        short_help=head,
    )


def option(param: Param) -> click.Option:
    """Return the click option of a parameter. It only collects text: ``Param.check`` is the judge."""
    name = f"--{param.option}"
    text = f"{param.opt.help}{_defaults(param)}"
    if param.kind == "bool":
        switch = f"{name}/--no-{param.option}" if param.default else name
        return click.Option([switch, param.name], is_flag=True, default=None, help=text)
    metavar = f"[{'|'.join(param.choices)}]" if param.choices else _METAVARS[param.kind]
    many = param.many or param.kind == "limits"
    return click.Option([name, param.name], multiple=many, metavar=metavar, help=text, type=click.STRING)


def _defaults(param: Param) -> str:
    facts = []
    if param.many or param.kind == "limits":
        facts.append("may be repeated")
    if param.range:
        facts.append(param.range)
    if param.default not in (None, (), "") and param.kind not in ("bool", "limits"):
        value = ",".join(map(str, param.default)) if param.many else param.default
        facts.append(f"default: {value}")
    return f"  [{'; '.join(facts)}]" if facts else ""


def shared_options(*, output: bool = True) -> list[click.Parameter]:
    """Return the options that every command with pictures has."""
    found = [
        click.Option(["--files0-from"], metavar="FILE", help="Read the inputs from a NUL-delimited list; - is stdin."),
        click.Option(["--json"], is_flag=True, help="Write the sidecars as JSON lines instead of pictures."),
        click.Option(
            ["--max-pixels"],
            metavar="N",
            type=click.IntRange(1),
            help="Refuse pictures with more pixels, before decoding them.",
        ),
        click.Option(
            ["--max-chunk-bytes"],
            metavar="N",
            type=click.IntRange(1),
            help="Refuse pictures with more metadata in one piece, in bytes.",
        ),
        click.Option(["-q", "--quiet"], is_flag=True, help="Say nothing but errors."),
        click.Option(["-v", "--verbose"], is_flag=True, help="Say what is being done."),
    ]
    if output:
        found = [
            click.Option(["-o", "--output"], metavar="OUTPUT", help="A PNG file, a folder, or - (the default)."),
            click.Option(["--keep-going"], is_flag=True, help="Go on after a picture that fails; exit 3 at the end."),
            click.Option(["--strict"], is_flag=True, help="Latents that move more than a step declares fail (exit 1)."),
            *found,
        ]
    return list(found)


def given_params(stage: Stage, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was typed (or set by environment) for the stage's own parameters."""
    return {name: options[name] for name in stage.params if options.get(name) not in (None, ())}
