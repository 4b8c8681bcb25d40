"""``imgedit backends``: methods and models, here or missing."""

from __future__ import annotations

import json as jsonlib

import click

from imgedit import registry


def _backends(json: bool) -> int:
    """List methods and models by kind: what is here, what is missing and what to type."""
    rows = []
    for kind in registry.backend_kinds():
        for name in registry.backend_names(kind):
            found = registry.backend_class(kind, name)
            lacking = registry.missing(found)
            rows.append(
                {
                    "kind": kind,
                    "name": name,
                    "here": not lacking,
                    "summary": found.summary,
                    "missing": lacking,
                    "hint": registry.install_hint(found) if lacking else "",
                }
            )
    if json:
        click.echo(jsonlib.dumps({"schema": 1, "backends": rows}))
        return 0
    width = max(len(f"{row['kind']}:{row['name']}") for row in rows)
    for row in rows:
        state = "here" if row["here"] else f"missing {', '.join(row['missing'])}: {row['hint']}"
        click.echo(f"{row['kind']}:{row['name']}".ljust(width) + f"  {state}  {row['summary']}")
    return 0


command = click.Command(
    "backends",
    callback=_backends,
    help=_backends.__doc__,
    params=[click.Option(["--json"], is_flag=True, help="Print the list as one JSON object.")],
)
