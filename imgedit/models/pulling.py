"""Fetch a model from the Hub into its cache: what is needed and safe of it, with every failure said plainly."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from imgedit.errors import DataError, FileError, ImgeditError, Unavailable
from imgedit.models import hub, settings, weights

log = logging.getLogger("imgedit")

#: nothing that runs code when it is read: weights, configurations, vocabularies
ENDINGS = (".safetensors", ".json", ".txt")
#: names of weights that are loaded; others in the same folder are further variants
_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
HALF = ".fp16"
#: kept free beside a download, bytes
SPARE = 200_000_000
_NET = ("requests", "urllib3", "httpx", "httpx2", "httpcore", "httpcore2", "http.client", "ssl", "socket")


class Remote(NamedTuple):
    """A file on the Hub: its path in the model, its bytes, and its sha256 where it is a large one."""

    path: str
    size: int
    sha256: str | None


def pull(id_: str, revision: str = hub.MAIN, *, configs_only: bool = False) -> hub.Snapshot:
    """Return the model *id_* at *revision*, fetched into the Hub's cache; what is there already is not fetched again.

    Only safetensors, json and txt files are taken, in half precision where a part has it, and each large file is
    held against the digest that the Hub states. A connection that breaks is taken up again where it broke.
    *configs_only*: no weights, as a single file needs that brings its own.

    Raises Unavailable (offline, no network, not found, gated, huggingface_hub missing), DataError (no safetensors,
    or a file came damaged), FileError (disk full, cache not writable).
    """
    if settings.offline():
        raise Unavailable(
            f"{_named(id_, revision)} cannot be pulled: the network may not be used",
            f"without --offline or HF_HUB_OFFLINE: imgedit models pull {_named(id_, revision)}",
        )
    if find_spec("huggingface_hub") is None:
        raise Unavailable("huggingface_hub is not installed here", "pip install 'imgedit[models]'")
    try:
        return _pull(id_, revision, configs_only)
    except ImgeditError:
        raise
    except Exception as error:
        raise _said(error, id_, revision) from error


def _pull(id_: str, revision: str, configs_only: bool) -> hub.Snapshot:
    if sys.stderr is None or not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import HfApi, snapshot_download

    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)  # what goes wrong is said once, by us
    info = HfApi().model_info(id_, revision=revision, files_metadata=True)
    listed = [Remote(s.rfilename, s.size or 0, s.lfs.sha256 if s.lfs else None) for s in info.siblings or ()]
    wanted = [file for file in choose(listed) if not (configs_only and file.path.endswith(".safetensors"))]
    commit = str(info.sha)
    _room(id_, commit, wanted)
    folder = snapshot_download(
        id_, revision=revision, allow_patterns=[_literal(file.path) for file in wanted], cache_dir=settings.cache_dir()
    )
    done = hub.Snapshot(id_, Path(folder).name, Path(folder))
    for file in wanted:
        path = done.folder / file.path
        if file.sha256 and weights.digest(path) != file.sha256:
            path.resolve().unlink()
            raise DataError(f"{id_}: {file.path} came damaged", f"once more: imgedit models pull {id_}")
    return done


def choose(listed: Sequence[Remote]) -> list[Remote]:
    """Return the files of a model that are needed. Raises DataError where its weights are pickles only."""
    safe = [file for file in listed if file.path.endswith(ENDINGS)]
    index = any(file.path == "model_index.json" for file in safe)
    from imgedit.models.locating import NEVER

    found = []
    for folder in sorted({_folder(file.path) for file in listed}):
        here = [file for file in safe if _folder(file.path) == folder]
        plain = [file for file in here if not file.path.endswith(".safetensors")]
        tensors = [file for file in here if file.path.endswith(".safetensors")]
        if not index:
            found += here
        elif not folder:
            found += plain  # beside the parts lie all of them once more as one file
        elif folder.count("/") == 0 and folder not in NEVER:
            found += plain + _variant(tensors)
            pickles = [file for file in listed if _folder(file.path) == folder and file.path.endswith(weights.PICKLES)]
            if pickles and not tensors:
                raise _pickled(pickles[0])
    if not any(file.path.endswith(".safetensors") for file in found):
        raise _pickled(next((file for file in listed if file.path.endswith(weights.PICKLES)), None))
    return found


def _variant(tensors: Sequence[Remote]) -> list[Remote]:
    """Return the weights of one part in half precision where there are such, else the plain ones; all shards."""
    named = [(file, Path(file.path).name) for file in tensors]
    half = [file for file, name in named if HALF in name and name.startswith(_STEMS)]
    stems = tuple(f"{stem}{mark}" for stem in _STEMS for mark in (".safetensors", "-0"))
    return half or [file for file, name in named if name.startswith(stems)] or list(tensors)


def _pickled(file: Remote | None) -> DataError:
    what = f"only {file.path} and the like, pickles, which can run code when they are read" if file else "no weights"
    return DataError(f"it holds {what}", "choose a model with .safetensors files: imgedit models list shows some")


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _literal(path: str) -> str:
    """Return a pattern that matches *path* alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)


def _room(id_: str, commit: str, wanted: Sequence[Remote]) -> None:
    """Raise FileError where the disk has no room for what is to come; say how much that is."""
    here = hub.repository(id_)
    rest = [
        file
        for file in wanted
        if not (here / "blobs" / (file.sha256 or "-")).exists()
        and not (here / "snapshots" / commit / file.path).exists()
    ]
    size = sum(file.size for file in rest)
    folder = settings.cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise FileError(f"{folder}: {error.strerror}", "choose another folder: --cache-dir FOLDER") from None
    if size and size + SPARE > free:
        raise FileError(
            f"{id_} needs {gigabytes(size)} in {folder}, where {gigabytes(free)} are free",
            "choose another folder: --cache-dir FOLDER, or make room: imgedit models remove ID",
        )
    if size:
        log.warning("pulling %s, %s, into %s", id_, gigabytes(size), folder)


def gigabytes(size: int) -> str:
    """Return a number of bytes as people read it: ``2.1 GB``, ``350 MB``."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _named(id_: str, revision: str) -> str:
    return id_ if revision == hub.MAIN else f"{id_}@{revision}"


def _said(error: Exception, id_: str, revision: str) -> ImgeditError:
    """Return what went wrong in the user's words."""
    asked = _named(id_, revision)
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return Unavailable(
            f"{id_} is gated: its owner wants consent before a download",
            f"accept the terms at https://huggingface.co/{id_}, then: hf auth login",
        )
    if isinstance(error, RevisionNotFoundError):
        return Unavailable(f"{id_} has no revision {revision!r}", f"leave it out: imgedit models pull {id_}")
    if isinstance(error, RepositoryNotFoundError):
        return Unavailable(
            f"the Hub has no model {id_!r}, or it is private",
            "check the name: imgedit models list; for a private one: hf auth login",
        )
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return FileError(
                f"the disk is full: {settings.cache_dir()}",
                f"make room, or choose another folder: --cache-dir FOLDER; then once more: imgedit models pull {asked}",
            )
        if isinstance(cause, PermissionError):
            return FileError(f"{settings.cache_dir()} may not be written to", "choose another: --cache-dir FOLDER")
    for cause in _chain(error):
        if isinstance(cause, HfHubHTTPError) and cause.response is not None:
            return Unavailable(
                f"the Hub refused {asked} with status {cause.response.status_code}",
                f"try again later: imgedit models pull {asked}",
            )
    if isinstance(error, OSError) or any(type(cause).__module__.startswith(_NET) for cause in _chain(error)):
        return Unavailable(
            f"{asked} is not here, and the Hub cannot be reached",
            f"check the network, then: imgedit models pull {asked}; what is here already: imgedit models list",
        )
    return Unavailable(f"{asked} could not be pulled: {error!s:.200}", f"once more: imgedit models pull {asked}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
