"""``imgedit backends``: methods and models, here or missing."""

from __future__ import annotations

import json as jsonlib
from typing import Any

import click

from imgedit import registry
from imgedit.errors import ImgeditError


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
        state = "here" if row["here"] else f"missing {', '.join(row['missing'])}: {row['hint']}"
        click.echo(f"{row['kind'].ljust(widths[0])}  {row['name'].ljust(widths[1])}  {state}  {row['summary']}")
    return 0


def _state(kind: str, name: str) -> dict[str, Any]:
    try:
        found = registry.listed_class(kind, name)
    except ImgeditError as error:  # a broken plugin must not hide the others
        return {"here": False, "summary": error.message, "missing": [], "hint": error.hint}
    lacking = registry.missing(found)
    hint = registry.install_hint(found) if lacking else ""
    return {"here": not lacking, "summary": found.summary, "missing": lacking, "hint": hint}


command = click.Command(
    "backends",
    callback=_backends,
    help=_backends.__doc__,
    params=[click.Option(["--json"], is_flag=True, help="Print the list as one JSON object.")],
)
