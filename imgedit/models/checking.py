"""Are the files of a model what they were when they came? And: take a model out of the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from imgedit.errors import FileError, ImgeditError, Unavailable
from imgedit.models import hub, settings, weights
from imgedit.models.locating import SAFE, components, lacks, loose


class Checked(NamedTuple):
    """One file of a model: what it is called in it, its sha256 (empty where it cannot be read), and what is off.

    *held*: against what it was checked: ``hub`` (the digest it came with) or ``header`` (its own, safetensors).
    """

    file: str
    sha256: str
    held: str
    fault: str


def folder_of(name: str) -> Path:
    """Return the folder or file of a model that is here, complete or not, without the network.

    Raises UsageError for what is no name of a model, Unavailable where it is not here.
    """
    given = settings.expanded(name)
    if given.exists():
        return given
    id_, revision = hub.parse(name)
    found = hub.snapshot(id_, revision)
    if found is None:
        raise Unavailable(
            f"the model {name!r} is not here{hub.taken(name)}",
            f"check the name, or fetch it: imgedit models pull {name}",
        )
    return found.folder


def verify(name: str, *, whole: bool = True) -> Iterator[Checked]:
    """Yield each file of a model, checked: by the digest it came with, or where there is none by its header.

    *whole*: what a model must have and this one lacks is yielded too, with what is off. Other programs keep parts of
    models in the same cache, and this one keeps configurations there alone: those are good as they are.
    """
    path = folder_of(name)
    if path.is_file():
        found = _checked(path, path.name)
        yield found if found.held or found.fault else found._replace(fault=_unsafe(path.name))
        return
    off = set()
    for file in hub.files(path):
        found = _checked(file, file.relative_to(path).as_posix())
        off |= {found.file.partition("/")[0]} if found.fault else set()
        yield found
    for found in _lacking(path) if whole else ():
        if found.file not in off:
            yield found


def _unsafe(name: str) -> str:
    pickled = name.lower().endswith(weights.PICKLES)
    return "a pickle: nothing says what must be in it" if pickled else "no safetensors file"


def _lacking(folder: Path) -> Iterator[Checked]:
    """Yield what a folder must have to be a model, and has not, or only as what is never read."""
    if not (folder / "model_index.json").is_file():
        if loose(folder):
            return
        names = [path.relative_to(folder).as_posix() for path in hub.files(folder)]
        pickles = [name for name in names if name.lower().endswith(weights.PICKLES)]
        for name in pickles:
            yield Checked(name, "", "", _unsafe(name))
        if not pickles:
            yield Checked("model_index.json", "", "", "missing, and no .safetensors file is here: this is no model")
        return
    try:
        parts = components(folder)
    except ImgeditError as error:
        yield Checked("model_index.json", "", "", error.message)
        return
    for part in parts:
        try:
            if lacks(folder, part):
                yield Checked(part, "", "", "its .safetensors weights, or all of it, are missing")
        except ImgeditError as error:
            yield Checked(part, "", "", error.message)


def _checked(path: Path, name: str) -> Checked:
    stated = hub.expected(path)
    held = "hub" if stated else "header" if path.suffix == SAFE else ""
    if not path.exists():
        return Checked(name, "", held, "missing")
    try:
        digest = weights.digest(path)
        if path.suffix == SAFE:
            weights.header(path)
    except ImgeditError as error:
        return Checked(name, "", held, error.message)
    if stated is None:
        return Checked(name, digest, held, "")
    real = digest if len(stated) == len(digest) else _git(path)
    return Checked(name, digest, held, "" if real == stated else "damaged: its digest is not the one it came with")


def _git(path: Path) -> str:
    """Return what git calls the contents of a file."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class Removable(NamedTuple):
    """What of the cache `remove` takes away: a revision, by its *commit*, or all of a model where that is None."""

    id: str
    commit: str | None
    folder: Path
    bytes: int

    @property
    def name(self) -> str:
        return f"{self.id}@{self.commit}" if self.commit else self.id


def removable(name: str) -> Removable:
    """Return what `remove` takes away for ``owner/name``, all revisions, or ``owner/name@revision``, that one.

    Raises UsageError for what is no id, Unavailable where it is not in the cache.
    """
    id_, revision = hub.parse(name)
    folder = hub.repository(id_)
    if not folder.is_dir():
        raise Unavailable(f"the model {id_!r} is not in the cache", "what is there: imgedit models list")
    if "@" not in name:
        return Removable(id_, None, folder, hub.size(folder))
    found = hub.snapshot(id_, revision)
    here = [snapshot.commit for snapshot in hub.cached() if snapshot.id == id_]
    if found is None:
        hint = f"here: {', '.join(here)}" if here else f"all of it: imgedit models remove {id_}"
        raise Unavailable(f"the model {id_!r} has no revision {revision!r} in the cache", hint)
    if here == [found.commit]:  # nothing would be left of it
        return Removable(id_, found.commit, folder, hub.size(folder))
    alone = {path.resolve() for path in _alone(folder, found.commit)}
    return Removable(id_, found.commit, found.folder, sum(path.stat().st_size for path in alone if path.is_file()))


def remove(name: str) -> int:
    """Delete a model, or one revision of it, from the Hub's cache and return the bytes that this gave back.

    Only what lies in the cache under this id: nothing else, whatever *name* says. Raises what `removable` does, and
    FileError where it cannot be deleted.
    """
    found = removable(name)
    folder = hub.repository(found.id)
    try:
        if any(path.is_symlink() for path in (folder / "blobs").glob("*")):
            _shared(found)  # its bytes lie in a store that other models use too
        elif found.folder != folder:
            _revision(folder, found)
        if found.folder == folder:
            if folder.exists():
                shutil.rmtree(folder)
            shutil.rmtree(settings.cache_dir() / ".locks" / folder.name, ignore_errors=True)
    except OSError as error:
        raise FileError(f"{error.filename or folder}: {error.strerror}", "check the rights of the folder") from None
    return found.bytes


def _alone(folder: Path, commit: str) -> set[Path]:
    """Return the files, blobs or such as are no links, that this revision has and no other one."""
    held: dict[bool, set[Path]] = {True: set(), False: set()}
    for snapshot in (folder / "snapshots").iterdir():
        for path in hub.files(snapshot):
            blob = path.parent / path.readlink() if path.is_symlink() else path
            held[snapshot.name == commit].add(Path(os.path.normpath(blob)))
    return {path for path in held[True] - held[False] if path.is_relative_to(os.path.normpath(folder))}


def _revision(folder: Path, found: Removable) -> None:
    alone = _alone(folder, found.commit or "")
    for reference in hub.files(folder / "refs"):  # first, so that nothing points to what is gone
        if reference.read_text(encoding="ascii", errors="replace").strip() == found.commit:
            reference.unlink()
    shutil.rmtree(found.folder)
    for blob in alone:
        blob.unlink(missing_ok=True)


def _shared(removed: Removable) -> None:
    from dataclasses import replace

    from huggingface_hub import scan_cache_dir

    found = scan_cache_dir(settings.cache_dir())
    whole = removed.folder == hub.repository(removed.id)
    for repository in found.repos:
        if repository.repo_id == removed.id and repository.repo_type == "model":
            # only this one: a mirror of it has commits of the same name
            alone = replace(found, repos=frozenset({repository}))
            commits = [revision.commit_hash for revision in repository.revisions]
            alone.delete_revisions(*(commit for commit in commits if whole or commit == removed.commit)).execute()
