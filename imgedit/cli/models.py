"""``imgedit models``: what is known, what is here, fetch, check and remove."""

from __future__ import annotations

import json as jsonlib
import sys
from typing import Any

import click

from imgedit.cli.command import model_options
from imgedit.errors import EXIT_GATE, UsageError


def _configure(options: dict[str, Any]) -> None:
    from imgedit.cli import talk
    from imgedit.models import configure

    talk.listen(quiet=options.pop("quiet", False), verbose=False)
    configure(offline=options.pop("offline"), cache_dir=options.pop("cache_dir"))


def _list(json: bool, **options: Any) -> int:
    """List known models and those in the cache: what for, how large, under which licence, and what is here."""
    given = options["cache_dir"]
    _configure(options)
    from imgedit.errors import FileError
    from imgedit.models import settings
    from imgedit.models.listing import rows
    from imgedit.models.pulling import gigabytes

    if given is not None and not settings.cache_dir().is_dir():
        raise FileError(f"there is no folder {str(given)!r}", "check --cache-dir; imgedit models pull makes it")
    found = rows()
    if json:
        listed = [row._asdict() for row in found]
        click.echo(jsonlib.dumps({"schema": 1, "cache": str(settings.cache_dir()), "models": listed}))
        return 0
    table = []
    for row in found:
        size = gigabytes(row.bytes) if row.bytes else f"({gigabytes(row.download)})" if row.download else ""
        state = row.state + (", gated" if row.gated and row.state == "not here" else "")
        table.append((row.id, row.task, row.family, size, state, row.licence))
    widths = [max(len(line[column]) for line in table) for column in range(5)]
    for line in table:
        click.echo("  ".join([*(text.ljust(width) for text, width in zip(line, widths)), line[5]]).rstrip())
    return 0


def _pull(model: str, revision: str | None, **options: Any) -> int:
    """Fetch a model from the Hub into its cache and print its folder.

    MODEL is a Hub id: owner/name, or owner/name@revision. Only safetensors, json and txt files are taken; each is
    held against its digest. What was fetched before is not fetched again.
    """
    _configure(options)
    from imgedit.models import hub, settings
    from imgedit.models.pulling import pull

    path = settings.expanded(model)
    if path.exists():
        what = "folder" if path.is_dir() else "file"
        raise UsageError(f"{model!r} is a {what} that is here already", f"check it: imgedit models verify {model}")
    id_, asked = hub.parse(model)
    if revision is not None and "@" in model:
        raise UsageError(f"{model!r} names a revision, and --revision another", "give one of them")
    click.echo(pull(id_, revision or asked).folder)
    return 0


def _path(model: str, **options: Any) -> int:
    """Print the folder or file of a model that is here; nothing is fetched."""
    _configure(options)
    from imgedit.models.checking import folder_of

    click.echo(folder_of(model).absolute())
    return 0


def _verify(models: tuple[str, ...], json: bool, **options: Any) -> int:
    """Check the files of models, all in the cache where none is named; exit 1 where one is off.

    What came from the Hub is held against the digest it came with; other safetensors files against their headers.
    A model that is named must also have all its parts, as .safetensors files.
    """
    _configure(options)
    from imgedit.models import hub
    from imgedit.models.checking import verify

    names = models or tuple(f"{found.id}@{found.commit}" for found in hub.cached())
    checked = [(name, file) for name in names for file in verify(name, whole=bool(models))]
    if json:
        listed = [{"model": name, **file._asdict()} for name, file in checked]
        click.echo(jsonlib.dumps({"schema": 1, "files": listed}))
    for name, file in () if json else checked:
        click.echo(f"{name}  {file.file}  {file.fault or (f'good ({file.held})' if file.held else 'read')}")
    return EXIT_GATE if any(file.fault for _, file in checked) else 0


def _remove(model: str, yes: bool, **options: Any) -> int:
    """Delete a model from the Hub's cache: all its revisions, or the one that owner/name@revision names.

    Folders of your own are never touched.
    """
    _configure(options)
    from imgedit.models.checking import removable, remove
    from imgedit.models.pulling import gigabytes

    found = removable(model)
    if not yes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise UsageError(f"{found.name} would be deleted, {gigabytes(found.bytes)}", "say so: --yes")
        click.confirm(f"delete {found.name}, {gigabytes(found.bytes)}, from {found.folder}?", abort=True, err=True)
    click.echo(f"{found.name}: {gigabytes(remove(model))} given back", err=True)
    return 0


def _convert(model: str, **options: Any) -> int:
    """Write the weights of a model that come as pickles as .safetensors files beside them, and print their names.

    MODEL is a file (.ckpt, .bin, .pt, .pth, .pkl) or a folder in diffusers' layout, of which shards come with their
    index. Pickles can run code when they are read: nothing but weights is read here, and a file that holds more is
    refused. `inpaint` runs from .safetensors alone.
    """
    _configure(options)
    from imgedit import registry
    from imgedit.models.checking import folder_of

    for path in registry.backend("diffusion", "diffusers").convert(folder_of(model)):
        click.echo(path)
    return 0


_JSON = click.Option(["--json"], is_flag=True, help="Print one JSON object.")
_MODEL = click.Argument(["model"], metavar="MODEL")
_REVISION = click.Option(["--revision"], metavar="REVISION", help="A branch, tag or commit; recorded as the commit.")
_YES = click.Option(["--yes"], is_flag=True, help="Do not ask.")

command = click.Group(
    "models",
    help="""Fetch, list, check, convert and remove models.

    A model is a Hub id (owner/name, or owner/name@revision), a folder in diffusers' layout, or a .safetensors file.
    Downloads lie in the Hub's own cache: --cache-dir, or HF_HUB_CACHE, or HF_HOME.""",
    commands=[
        click.Command("list", callback=_list, help=_list.__doc__, params=[_JSON, *model_options()]),
        click.Command("pull", callback=_pull, help=_pull.__doc__, params=[_MODEL, _REVISION, *model_options()]),
        click.Command("path", callback=_path, help=_path.__doc__, params=[_MODEL, *model_options()]),
        click.Command(
            "verify",
            callback=_verify,
            help=_verify.__doc__,
            params=[click.Argument(["models"], nargs=-1, metavar="[MODEL]..."), _JSON, *model_options()],
        ),
        click.Command("convert", callback=_convert, help=_convert.__doc__, params=[_MODEL, *model_options()]),
        click.Command("remove", callback=_remove, help=_remove.__doc__, params=[_MODEL, _YES, *model_options()]),
    ],
)
