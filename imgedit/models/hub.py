"""The Hub's own cache on disk, read without a package and without the network.

``models--OWNER--NAME/blobs`` holds files under their digest, ``snapshots/COMMIT`` names that point to them,
``refs/BRANCH`` the commit that a branch was at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imgedit.errors import UsageError, nearest
from imgedit.models import catalogue, settings

_ID = re.compile(r"(?P<id>[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*)(?:@(?P<revision>\w[\w./-]*))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
MAIN = "main"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One revision of a model in the cache: *folder* holds its files; *commit* is what the revision resolved to."""

    id: str
    commit: str
    folder: Path


def parse(name: str, tasks: tuple[str, ...] = ()) -> tuple[str, str]:
    """Return id and revision (``main`` where none is given) of ``owner/name[@revision]``.

    Raises UsageError with the nearest known id, or with an example, for one of *tasks*; without any, of all.
    """
    match = _ID.fullmatch(name)
    if match is None or ".." in name or "--" in name:
        raise UsageError(f"{name!r:.200} is neither a file, a folder nor a Hub id", _instead(name, tasks))
    return match["id"], match["revision"] or catalogue.revision(match["id"]) or MAIN


def _instead(name: str, tasks: tuple[str, ...]) -> str:
    fitting = [entry.id for entry in catalogue.entries() if entry.task in tasks or not tasks]
    close = nearest(name, fitting)
    return close if close.startswith("did") else f"give one such as {fitting[0]}; imgedit models list shows more"


def taken(name: str) -> str:
    """Return what to add where a Hub id is not had: it may have been meant as a folder. Empty for known ids."""
    if catalogue.find(name.partition("@")[0]):
        return ""
    return "; there is no folder or file of this name here, so it was taken as a Hub id"


def looks_like_id(name: str) -> bool:
    """Return whether *name* can be a Hub id: ``owner/name``, with or without ``@revision``."""
    return _ID.fullmatch(name) is not None and not name.endswith((".safetensors", ".ckpt", ".pt", ".pth", ".bin"))


def repository(id_: str) -> Path:
    """Return the folder of a model in the cache; it need not exist."""
    return settings.cache_dir() / f"models--{id_.replace('/', '--')}"


def snapshot(id_: str, revision: str) -> Snapshot | None:
    """Return what is in the cache of a revision (a branch, tag, commit, or the first digits of one), or None."""
    root = repository(id_)
    commit = revision
    reference = root / "refs" / revision
    if reference.is_file():
        commit = reference.read_text(encoding="ascii", errors="replace").strip()
    elif re.fullmatch(r"[0-9a-f]{7,39}", revision):
        commit = next((c for c in _names(root / "snapshots") if c.startswith(revision)), revision)
    folder = root / "snapshots" / commit
    return Snapshot(id_, commit, folder) if _COMMIT.fullmatch(commit) and folder.is_dir() else None


def cached() -> Iterator[Snapshot]:
    """Yield every snapshot of every model in the cache, sorted by id."""
    for name in _names(settings.cache_dir()):
        kind, _, rest = name.partition("--")
        if kind != "models" or not rest:
            continue
        for commit in _names(settings.cache_dir() / name / "snapshots"):
            if _COMMIT.fullmatch(commit):
                yield Snapshot(rest.replace("--", "/", 1), commit, settings.cache_dir() / name / "snapshots" / commit)


def files(folder: Path) -> list[Path]:
    """Return the files in a folder and below, sorted; links that point nowhere too."""
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def size(folder: Path) -> int:
    """Return the bytes of all files in a folder and below, each counted once."""
    found = {path.resolve() for path in files(folder)}
    return sum(path.stat().st_size for path in found if path.is_file())


def expected(path: Path) -> str | None:
    """Return the digest that a file in the cache must have, by which its blob is named; None for any other file.

    64 digits are the sha256 of a large file, 40 what git calls a small one. Only the first link counts: the blob may
    in turn be a link into a store that several models share, where names mean something else.
    """
    if not path.is_symlink():
        return None
    name = path.readlink().name
    return name if _DIGEST.fullmatch(name) and path.readlink().parent.name == "blobs" else None


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
