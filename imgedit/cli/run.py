"""``imgedit run``: the steps of a pipeline file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from imgedit.cli.command import inputs, model_options, shared_options

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from imgedit.pipeline import Pipeline


def _run(pipeline: str, dry_run: bool, **options: Any) -> int:
    """Run the steps of a pipeline file.

    PIPELINE is a YAML file, or the name of one that ships with imgedit. Its steps are the commands with their
    options; the pixels are those of the same commands chained by pipes, without a process for each.
    """
    import logging

    from imgedit import pipeline as pipelines
    from imgedit.cli import sinks, talk
    from imgedit.cli.sources import expand
    from imgedit.cli.start import configure, run_calls

    talk.listen(quiet=options["quiet"], verbose=options["verbose"])
    configure(options)
    found = pipelines.find(pipeline)
    for setting in options["set"]:
        found = found.override(setting)
    for name in found.unused:
        logging.getLogger("imgedit").warning(f"{pipeline}: no step of it uses resources: {name}")
    asked = bool(options["inputs"]) or options["files0_from"] is not None
    sources = []
    if asked or not dry_run:
        sources = expand(options["inputs"], options["files0_from"], keep_going=options["keep_going"])
    if dry_run:
        found.check_backends()
        _check_models(found)
        if options["output"] not in (None, "-"):
            sinks.plan(options["output"], sources, json=options["json"])
        click.echo(found.to_yaml() + "".join(f"# {talk.printable(source.name)}\n" for source in sources), nl=False)
        return 0
    if options["keep"] is None and found.keep is not None:
        options["keep"] = str(found.folder / found.keep)
    return run_calls(found.calls, sources, options, found.folder, knows_input=True)


def _check_models(found: Pipeline) -> None:
    """Refuse a plan with a model that is not here, or is for something else; one that would be fetched is only said."""
    import logging

    from imgedit import models, references
    from imgedit.errors import Unavailable
    from imgedit.models import hub, settings

    for call in found.calls:
        for param in call.stage.params.values():
            name = call.params[param.name]
            if param.kind != "model" or not name:
                continue
            place = references.placed(param, name, found.folder)
            try:
                models.locate(place, fetch=settings.offline())  # which refuses it in its own words
            except Unavailable:
                if settings.offline() or not hub.looks_like_id(place):
                    raise
                logging.getLogger("imgedit").warning(f"{call.id}: the model {name} is not here, and would be fetched")


class _Name(click.Path):
    """A pipeline file; completes the names of shipped ones too."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        names = [CompletionItem(name) for name in shipped() if name.startswith(incomplete)]
        return names + super().shell_complete(ctx, param, incomplete)


def shipped() -> list[str]:
    """Return the names of the pipelines that ship with imgedit."""
    folder = os.path.join(os.path.dirname(__file__), "..", "data", "pipelines")  # noqa: PTH118, PTH120
    return sorted(name[:-5] for name in os.listdir(folder) if name.endswith(".yaml"))  # noqa: PTH208


command = click.Command(
    "run",
    callback=_run,
    help=f"{_run.__doc__}\n\n    Shipped: {', '.join(shipped())}.",
    params=[
        click.Argument(["pipeline"], metavar="PIPELINE", type=_Name(readable=False)),
        inputs(),
        click.Option(["--set"], multiple=True, metavar="STEP.OPTION=X", help="Change an option of a step."),
        click.Option(
            ["--dry-run"], is_flag=True, help="Print the plan, all options that have a value, and do nothing."
        ),
        *model_options(),
        *shared_options(),
    ],
)
