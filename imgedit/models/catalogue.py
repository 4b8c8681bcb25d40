"""Models that are known by name: what for, how large, under which licence. Any other Hub id works as well."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FILE = Path(__file__).parents[1] / "data" / "models.json"
#: what `inpaint` uses where no model is named
DEFAULT = "stable-diffusion-v1-5/stable-diffusion-inpainting"


@dataclass(frozen=True, slots=True)
class Entry:
    """A known model. *task*: inpaint, text-to-image, upscale, fill.

    *native*: the side in pixels that it was trained at, or None where any will do.
    *download*: bytes of what a pull fetches, about, or None. *gated*: its page asks for consent before a download.
    *revision*: the branch, tag or commit to use where none is given, or None. *use*: how it is named in a command.
    """

    id: str
    task: str
    family: str
    licence: str
    native: int | None
    download: int | None
    gated: bool
    revision: str | None
    use: str


@cache
def entries() -> tuple[Entry, ...]:
    """Return all known models, as listed in ``data/models.json``."""
    return tuple(Entry(**entry) for entry in json.loads(_FILE.read_text(encoding="utf-8"))["models"])


def ids() -> list[str]:
    """Return the ids of all known models."""
    return [entry.id for entry in entries()]


def find(id_: str) -> Entry | None:
    """Return what is known of an id, or None."""
    return next((entry for entry in entries() if entry.id.lower() == id_.lower()), None)


def revision(id_: str) -> str | None:
    """Return the revision to use of a known id where none is given, or None."""
    entry = find(id_)
    return entry.revision if entry else None
