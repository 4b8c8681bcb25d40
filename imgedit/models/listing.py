"""What `imgedit models list` shows: known models, and those in the cache, with what is here of each."""

from __future__ import annotations

from typing import NamedTuple

from imgedit.errors import ImgeditError
from imgedit.models import catalogue, hub
from imgedit.models.locating import locate, missing


class Row(NamedTuple):
    """A model. *state*: ``here``, ``in part: … is missing`` or ``not here``; *revisions*: the commits that are here.

    *bytes*: on this disk; *download*: about, what a pull fetches, or None. *native*: side in pixels, or None.
    """

    id: str
    task: str
    family: str
    licence: str
    native: int | None
    download: int | None
    gated: bool
    use: str
    state: str
    bytes: int
    revisions: tuple[str, ...]


def rows() -> list[Row]:
    """Return all known models, then the others in the cache that hold safetensors; the network is not used."""
    here: dict[str, list[hub.Snapshot]] = {}
    for snapshot in hub.cached():
        here.setdefault(snapshot.id, []).append(snapshot)
    found = []
    for entry in catalogue.entries():
        snapshots = here.pop(entry.id, [])
        found.append(
            Row(
                entry.id,
                entry.task,
                entry.family,
                entry.licence,
                entry.native,
                entry.download,
                entry.gated,
                entry.use,
                *_state(entry.id, snapshots),
            )
        )
    for id_, snapshots in here.items():
        if any(hub.files(snapshot.folder) for snapshot in snapshots):
            found.append(Row(id_, _task(snapshots), "", "", None, None, False, "", *_state(id_, snapshots)))
    return found


def _state(id_: str, snapshots: list[hub.Snapshot]) -> tuple[str, int, tuple[str, ...]]:
    if not snapshots:
        return "not here", 0, ()
    lacking: list[str] = []
    for snapshot in snapshots:
        try:
            lacking += missing(snapshot.folder)
        except ImgeditError as error:
            lacking.append(error.message)
    state = f"in part: {lacking[0]} is missing" if lacking else "here"
    return state, hub.size(hub.repository(id_)), tuple(snapshot.commit for snapshot in snapshots)


def _task(snapshots: list[hub.Snapshot]) -> str:
    try:
        return locate(str(snapshots[-1].folder), tasks=()).task
    except ImgeditError:
        return "unknown"
