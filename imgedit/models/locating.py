"""From what a user calls a model to its files on disk, checked as far as can be without reading weights."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imgedit.errors import DataError, Unavailable
from imgedit.models import catalogue, hub, kinds, settings, weights

log = logging.getLogger("imgedit")

#: components of a pipeline that guard or describe it and that no picture here goes through
NEVER = ("safety_checker", "feature_extractor", "image_encoder")
#: what the weights of a component are called, before their variant and ending
PLAIN = ("diffusion_pytorch_model", "model", "pytorch_model")
SAFE = ".safetensors"
#: what lists the shards of pickled weights is called
_INDICES = [f"{stem}.bin.index{variant}.json" for stem in PLAIN for variant in ("", ".fp16")]


@dataclass(frozen=True, slots=True)
class Located:
    """A model on this machine. *name*: as the user called it. *path*: a folder in diffusers' layout, or one file.

    *files*: component (``unet``, ``vae``, …; ``""`` for a single file) → its weights, safetensors only.
    *task*: what it is for. *revision*: the commit that a Hub id resolved to; None for other files.
    """

    name: str
    path: Path
    single: bool
    revision: str | None
    task: str
    files: Mapping[str, tuple[Path, ...]]

    def variant(self, component: str) -> str | None:
        """Return ``fp16`` where the weights of *component* are of this variant, None where they are the plain ones."""
        parts = self.files[component][0].name.split(".") if self.files.get(component) else []
        return "fp16" if "fp16" in parts[1:] else None

    @property
    def bytes(self) -> dict[str, int]:
        """Component → bytes of its weights on disk."""
        return {name: sum(path.stat().st_size for path in paths) for name, paths in self.files.items()}

    @property
    def digests(self) -> dict[str, str]:
        """File (relative to *path*) → sha256 of each file of weights; read once in a process.

        Raises DataError where the Hub's cache says that it must be another.
        """
        found = {}
        for path in (path for paths in self.files.values() for path in paths):
            name = path.name if self.single else path.relative_to(self.path).as_posix()
            found[name] = weights.digest(path)
            stated = hub.expected(path)
            if stated and len(stated) == len(found[name]) and stated != found[name]:
                raise DataError(f"{self.name}: {name} is damaged: its sha256 is not what it was", weights.AGAIN)
        return found

    @property
    def record(self) -> dict[str, str]:
        """What the step records: a name without folders that the user's disk has, the revision, the digests."""
        name = self.name if self.revision else Path(self.name).name
        found = {"id": name.partition("@")[0] if self.revision else name}
        if self.revision:
            found["revision"] = self.revision
        return found | {name: f"sha256:{value}" for name, value in self.digests.items()}


def locate(
    name: str, *, tasks: tuple[str, ...] = kinds.FOR_INPAINT, fetch: bool = True, meant: tuple[str, ...] = ()
) -> Located:
    """Return the model that a user calls *name*: a folder, a .safetensors file, or a Hub id ``owner/name[@revision]``.

    What exists as a file or folder is that. A Hub id that is complete in the cache is taken from there without the
    network; else it is pulled, unless offline, or *fetch* is False: where a file names it and nobody typed it. *tasks*:
    what it may be for; none of them: anything. *meant*: tasks that a hint may name, where they are others.

    Raises UsageError for what is no name of a model; Unavailable where it is not here and cannot be had; DataError
    where it is damaged, of another task, or has no safetensors; FileError where it cannot be read.
    """
    given = settings.expanded(name)
    if given.is_dir():
        return _checked(_folder(name, given, None), tasks)
    if given.exists():
        return _checked(_single(name, given), tasks)
    if not hub.looks_like_id(name) and ("/" in name or given.suffix):
        raise Unavailable(f"there is no model {name!r:.200} here", "check the name, or give a Hub id: owner/name")
    id_, revision = hub.parse(name, meant or tasks)
    found = hub.snapshot(id_, revision)
    if found is None or missing(found.folder):
        if settings.offline() or not fetch:
            state = "is not here" if found is None else f"is here in part: {missing(found.folder)[0]} is missing"
            raise Unavailable(
                f"the model {name!r} {state}, and "
                + ("the network may not be used" if fetch else "is not fetched because a file names it")
                + (hub.taken(name) if found is None else ""),
                f"once, with a network and without --offline or HF_HUB_OFFLINE: imgedit models pull {name}",
            )
        from imgedit.models.pulling import pull

        try:
            found = pull(id_, revision)
        except Unavailable as error:
            raise Unavailable(error.message + hub.taken(name), error.hint) from error
    return _checked(_folder(name, found.folder, found.commit), tasks)


def missing(folder: Path) -> list[str]:
    """Return the components that ``model_index.json`` names and that lack their configuration or weights.

    A folder of single files, without an index, lacks nothing where it holds safetensors.
    """
    if not (folder / "model_index.json").is_file():
        return [] if loose(folder) else ["a .safetensors file"]
    return [part for part in components(folder) if lacks(folder, part)]


def lacks(folder: Path, part: str) -> bool:
    """Return whether a component lacks its configuration or weights. Raises DataError as `chosen` does."""
    inside = [path for path in hub.files(folder / part) if path.exists()]
    return not inside or (_has_weights(part, inside) and not chosen(folder / part))


def loose(folder: Path) -> list[Path]:
    """Return the safetensors files that lie in the folder itself."""
    return [path for path in sorted(folder.glob(f"*{SAFE}")) if path.is_file()]


def components(folder: Path) -> list[str]:
    """Return the components of a model in diffusers' layout that are used, as ``model_index.json`` lists them."""
    listed = kinds.read_json(folder / "model_index.json").items()
    return [
        name
        for name, value in listed
        if isinstance(value, list) and len(value) == 2 and value[0] is not None and name not in NEVER
    ]


def _has_weights(part: str, inside: list[Path]) -> bool:
    """Return whether a component is one that has weights: schedulers and tokenizers have none."""
    return any(path.name == "config.json" for path in inside) and "tokenizer" not in part


def chosen(folder: Path) -> tuple[Path, ...]:
    """Return the weights in a component's folder that are to be loaded: whole precision, else half; shards in order.

    Raises DataError where there are only such as are read by unpickling.
    """
    here = _beside(folder)
    for variant in ("", ".fp16"):
        for stem in PLAIN:
            one, index = f"{stem}{variant}{SAFE}", f"{stem}{SAFE}.index{variant}.json"
            if one in here:
                return (here[one],)
            if index in here and (shards := _shards(here[index])):
                return shards
    pickles = [path for path in here.values() if path.name.endswith(weights.PICKLES)]
    # shards without an index are what a conversion left that was broken off
    if pickles and not any(SAFE in name and (".index" in name or "-of-" not in name) for name in here):
        whole = list(convertible(folder))
        raise _pickled(weights.shown((whole or pickles)[0]), folder.parent if whole else None)
    return ()


def convertible(folder: Path) -> dict[Path, Path]:
    """Return pickle → what its safetensors are to be called, of all weights in a component's folder.

    Where these are shards, all of them and then their index, a .json file. Raises DataError for a damaged index.
    """
    found = {}
    for file in (path for path in hub.files(folder) if path.parent == folder):
        stem, _, variant = file.stem.partition(".")
        if file.suffix.lower() in weights.PICKLES and stem in PLAIN and variant in ("", "fp16"):
            found[file] = file.with_name(_safe(file.stem) + SAFE)
        elif file.name in _INDICES and (shards := _shards(file)) and all(s.name.endswith(".bin") for s in shards):
            found |= {path: path.with_name(_safe(path.name.replace(".bin", SAFE))) for path in (*shards, file)}
    return found


def _safe(name: str) -> str:
    # transformers looks for its weights by another name than for its pickles
    return name.replace("pytorch_model", "model", 1) if name.startswith("pytorch_model") else name


def _beside(folder: Path) -> dict[str, Path]:
    """Return name → path of the files in *folder* itself; a link that points nowhere is none."""
    return {path.name: path for path in hub.files(folder) if path.parent == folder and path.exists()}


def _shards(index: Path) -> tuple[Path, ...]:
    """Return the files beside an *index* that it names, in order; none where one of them is not there."""
    here = _beside(index.parent)
    listed = kinds.read_json(index).get("weight_map")
    names = sorted(set(map(str, listed.values()))) if isinstance(listed, dict) else []
    return tuple(here[name] for name in names) if all(name in here for name in names) else ()


def _folder(name: str, folder: Path, revision: str | None) -> Located:
    alone = loose(folder)
    if not any((folder / config).is_file() for config in ("model_index.json", "config.json")) and len(alone) == 1:
        return _single(name, alone[0], revision)
    task = kinds.of_folder(folder)
    parts = components(folder) if (folder / "model_index.json").is_file() else []
    files = {part: found for part in parts if (found := chosen(folder / part))}
    lacking = missing(folder) if parts else []
    if lacking:
        raise DataError(f"{name}: {lacking[0]} has no configuration or no weights", weights.AGAIN)
    for path in (path for paths in files.values() for path in paths):
        weights.header(path)
    return Located(name, folder, False, revision, task, files)


def _single(name: str, file: Path, revision: str | None = None) -> Located:
    if file.suffix.lower() in weights.PICKLES:
        raise _pickled(file.name, file)
    task = kinds.of_file(weights.header(file))
    return Located(name, file, True, revision, task, {"": (file,)})


def _pickled(file: str, model: Path | None) -> DataError:
    """Return the error for a pickle; *model*: what can be converted, None where it is one of several shards."""
    convert = f"have its weights written as .safetensors: imgedit models convert {shlex.quote(str(model))}; or "
    return DataError(
        f"{file} is a pickle, which can run code when it is read",
        f"{convert if model else 'a model with .safetensors files is needed: '}see imgedit models list",
    )


def _checked(found: Located, tasks: tuple[str, ...]) -> Located:
    """Return *found* where it is for one of *tasks*; DataError that says what it is instead."""
    if found.task in tasks or not tasks:
        return found
    hints = {
        kinds.UPSCALE: f"it enlarges pictures: imgedit upscale --backend {_enlarger(found)}:{found.name}",
        kinds.FILL: f"it fills without a prompt: imgedit erase --backend spandrel:{found.name}",
    }
    what = f"is for {found.task}" if found.task in (*hints, kinds.INPAINT, kinds.TEXT) else f"is {found.task}"
    if found.task == "unknown":
        what = "is nothing that is known here"
    raise DataError(
        f"the model {found.name!r} {what}, not for {tasks[0]}",
        hints.get(found.task, f"give another one, such as {_example(tasks)}; imgedit models list shows more"),
    )


def _enlarger(found: Located) -> str:
    """Return the backend that enlarges by a model: one for diffusion, or one for networks that do it at once."""
    diffuses = not found.single or kinds.diffuses(weights.header(found.path))
    return "diffusion" if diffuses else "spandrel"


def _example(tasks: tuple[str, ...]) -> str:
    return next((entry.id for entry in catalogue.entries() if entry.task in tasks), catalogue.DEFAULT)
