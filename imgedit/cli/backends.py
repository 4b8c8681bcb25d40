"""``imgedit backends``: methods and models, here or missing."""

from __future__ import annotations

import json as jsonlib
from functools import cache
from typing import TYPE_CHECKING, Any

import click

from imgedit import registry
from imgedit.errors import ImgeditError

if TYPE_CHECKING:
    from imgedit.models.listing import Row


def _backends(json: bool) -> int:
    """List methods and models by kind: what is here, what is missing and what to type."""
    rows = []
    for kind in registry.backend_kinds():
        for name in registry.backend_names(kind):
            rows.append({"kind": kind, "name": name, **_state(kind, name)})
    if json:
        click.echo(jsonlib.dumps({"schema": 1, "backends": rows}))
        return 0
    widths = [max(len(row[key]) for row in rows) for key in ("kind", "name")]
    for row in rows:
        state = row["hint"] or "here"
        if row["missing"]:
            state = f"{'needs' if row['here'] else 'missing'} {', '.join(row['missing'])}: {state}"
        click.echo(f"{row['kind'].ljust(widths[0])}  {row['name'].ljust(widths[1])}  {state}  {row['summary']}")
    return 0


def _state(kind: str, name: str) -> dict[str, Any]:
    try:
        found = registry.listed_class(kind, name)
    except ImgeditError as error:  # a broken plugin must not hide the others
        return {"here": False, "summary": error.message, "missing": [], "hint": error.hint}
    lacking = registry.missing(found)
    if lacking:
        return {"here": False, "summary": found.summary, "missing": lacking, "hint": registry.install_hint(found)}
    hint = _model_hint(getattr(found, "uses", ""))
    # its code is here, which is enough where a model lies somewhere else
    return {"here": True, "summary": found.summary, "missing": ["a model"] if hint else [], "hint": hint}


def _model_hint(use: str) -> str:
    """Return what to type for a method that runs a model, named as *use* says; nothing where one is in the cache."""
    if not use:
        return ""
    rows = _models()
    known = [row for row in rows if row.use == use]
    tasks = {row.task for row in known}
    if any(row.state == "here" and row.task in tasks and row.use in (use, "") for row in rows):
        return ""
    return f"imgedit models pull {known[0].id}" if known else f"imgedit {use}"


@cache
def _models() -> list[Row]:
    from imgedit.models import listing

    return listing.rows()


command = click.Command(
    "backends",
    callback=_backends,
    help=_backends.__doc__,
    params=[click.Option(["--json"], is_flag=True, help="Print the list as one JSON object.")],
)
