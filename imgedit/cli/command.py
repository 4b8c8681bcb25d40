"""A stage's signature as a shell command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from imgedit import registry
from imgedit.param import FILES, Kind, Opt
from imgedit.stage import Param, Stage

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_METAVARS = {
    "int": "N",
    "float": "X",
    "str": "TEXT",
    "rect": "X,Y,W,H",
    "polygon": "'X,Y X,Y X,Y'",
    "limits": "NAME=X",
    "picture": "FILE|@NAME",
    "tone": "FILE|@NAME",
    "file": "FILE",
    "model": "MODEL",
}


def for_stage(stage: Stage) -> click.Command:
    """Return the click command of *stage*: its parameters, and the options that all commands share."""
    head, _, body = stage.help.partition("\n")
    backends = registry.backend_names(stage.backend[0]) if stage.backend else []
    options: list[click.Parameter] = [
        option(param, backends if param.name == "backend" else ()) for param in stage.params.values()
    ]

    def callback(**given: Any) -> int:
        from imgedit.cli.start import start

        return start(stage, given)

    return click.Command(
        stage.name,
        callback=callback,
        params=[
            inputs(),
            *options,
            *explanation(stage),
            *(model_options() if _models(stage) else ()),
            *shared_options(),
        ],
        help=head + "\n\n" + (body.strip() + "\n\n" + _MORE.get(stage.name, "")).strip(),
        short_help=head,
    )


def _models(stage: Stage) -> bool:
    """Return whether a stage has a backend that runs models from files or the Hub."""
    return stage.backend is not None and stage.backend[0] in ("diffusion", "upscale")


def option(param: Param, words: Sequence[str] = ()) -> click.Option:
    """Return the click option of a parameter. It only collects text: ``Param.check`` is the judge.

    *words*: what it can be, for the help and for completion.
    """
    name = f"--{param.option}"
    text = f"{param.opt.help}{_defaults(param)}"
    if param.kind == "bool":
        switch = f"{name}/--no-{param.option}" if param.default else name
        return click.Option([switch, _dest(param)], is_flag=True, default=None, help=text)
    words = words or param.choices
    metavar = f"[{'|'.join(words)}]" if words else _METAVARS[param.kind]
    many = param.many or param.kind == "limits"
    return click.Option([name, _dest(param)], multiple=many, metavar=metavar, help=text, type=_Text(words, param.kind))


def _dest(param: Param) -> str:
    """Return the name under which click hands over a parameter, and that its environment variable ends in."""
    return param.option.replace("-", "_")


#: what only the shell has
_MORE = {
    "compare": "In a shell also: imgedit compare PICTURE REFERENCE, of two files or two folders (name by name), prints "
    "the metrics as a table, or with --json as JSON lines; there -o takes the difference picture.",
}


class _Text(click.ParamType):  # type: ignore[type-arg]
    """Any text; completes the words that it can be, or file names."""

    name = "text"

    def __init__(self, words: Sequence[str], kind: str) -> None:
        self.words = words
        self.kind = kind

    def split_envvar_value(self, rv: str) -> list[str]:
        return [rv] if self.kind == "polygon" else rv.split()

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        if self.kind in FILES:
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(word) for word in self.words if word.startswith(incomplete)]


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


class _Number(click.ParamType):  # type: ignore[type-arg]
    """A number that no stage takes, judged as those of stages are."""

    name = "number"

    def __init__(self, judge: Param) -> None:
        self.judge = judge

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self.judge.check(value)


def number(name: str, kind: Kind, opt: Opt, **more: Any) -> click.Option:
    """Return the option *name* of a number that no stage takes; *more*: as of click.Option."""
    judge = Param(name.replace("-", "_"), kind, None, opt)
    return click.Option([f"--{name}"], metavar=_METAVARS[kind], type=_Number(judge), help=opt.help, **more)


def inputs() -> click.Argument:
    """Return the argument INPUT of all commands with pictures."""
    return click.Argument(["inputs"], nargs=-1, metavar="[INPUT]...", type=click.Path(readable=False))


def explanation(stage: Stage) -> list[click.Parameter]:
    """Return the option that documents the codes of a stage's findings and does nothing else; none without codes."""
    explain = stage.explain
    if explain is None:
        return []

    def show(ctx: click.Context, _: click.Parameter, code: str | None) -> None:
        if code is not None and not ctx.resilient_parsing:
            click.echo(explain(code))
            ctx.exit()

    text = "Say what a finding of this code means and what to do, and stop; without CODE list all."
    return [
        click.Option(
            ["--explain"],
            metavar="[CODE]",
            is_flag=False,
            flag_value="",
            is_eager=True,
            expose_value=False,
            allow_from_autoenv=False,
            callback=show,
            help=text,
        )
    ]


def keep_going() -> click.Option:
    """Return the option of all commands that may meet several pictures."""
    return click.Option(["--keep-going"], is_flag=True, help="Go on after a picture that fails; exit 3 at the end.")


def model_options() -> list[click.Parameter]:
    """Return the options of all commands that use models from files."""
    return [
        click.Option(["--offline"], is_flag=True, help="Use no network: only models that are here."),
        click.Option(
            ["--cache-dir"],
            metavar="FOLDER",
            type=click.Path(readable=False),
            help="Where models from the Hub are kept, instead of the Hub's own cache.",
        ),
    ]


def shared_options(*, output: bool = True) -> list[click.Parameter]:
    """Return the options that every command with pictures has."""
    found = [
        click.Option(
            ["--files0-from"],
            metavar="FILE",
            type=click.Path(readable=False),
            help="Read the inputs from a NUL-delimited list; - is stdin.",
        ),
        click.Option(["--json"], is_flag=True, help="Write the sidecars as JSON lines instead of pictures."),
        number("max-pixels", "int", Opt("Refuse pictures with more pixels, before decoding them.", min=1)),
        number("max-chunk-bytes", "int", Opt("Refuse pictures with more metadata in one piece, in bytes.", min=1)),
        click.Option(["-q", "--quiet"], is_flag=True, help="Say nothing but errors."),
        click.Option(["-v", "--verbose"], is_flag=True, help="Say what is being done."),
    ]
    if output:
        found = [
            click.Option(
                ["-o", "--output"],
                metavar="OUTPUT",
                type=click.Path(readable=False),
                help="A PNG file, a folder, or - (the default).",
            ),
            click.Option(
                ["--keep"],
                metavar="FOLDER",
                type=click.Path(readable=False),
                help="Keep the result of every step too: FOLDER/NAME.01-STEP.png and on.",
            ),
            keep_going(),
            click.Option(["--strict"], is_flag=True, help="Latents that move more than a step declares fail (exit 1)."),
            *found,
        ]
    return list(found)


def given_params(stage: Stage, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was typed (or set by environment) for the stage's own parameters."""
    typed = {name: options[_dest(param)] for name, param in stage.params.items()}
    return {name: value for name, value in typed.items() if value not in (None, ())}
