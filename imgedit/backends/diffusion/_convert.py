"""Weights out of pickles, into safetensors files beside them: what else a pickle holds is refused, and never run."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from imgedit.backends import networks
from imgedit.errors import DataError, FileError, UsageError
from imgedit.models import kinds, locating, weights


def convert(path: Path) -> list[Path]:
    """Return the safetensors files that stand beside the pickles in *path*, a file or the folder of a model.

    Of a folder, what a model is loaded from, shards with their index; what is there as safetensors already stays as it
    is. Each file is written whole or not at all. Raises UsageError where there is nothing to convert, DataError for a
    pickle that is damaged, holds more than weights, or none, FileError where one cannot be read or written.
    """
    wanted = _of_folder(path) if path.is_dir() else {path: path.with_suffix(locating.SAFE)}
    if not path.is_dir() and path.suffix.lower() not in weights.PICKLES:
        raise UsageError(
            f"{path.name} is not called like a pickle: {', '.join(weights.PICKLES)}", "give a file or folder that is"
        )
    if not wanted:
        raise UsageError(f"{path.name} holds nothing to convert", f"see what is there: imgedit models verify {path}")
    for pickled, safe in wanted.items():
        if safe.exists():
            continue
        if safe.suffix == ".json":
            _write_index(pickled, safe)
        else:
            _write(_tensors(pickled), safe)
    return list(wanted.values())


def _of_folder(folder: Path) -> dict[Path, Path]:
    """Return what can be converted of the parts that a pipeline is loaded from."""
    parts = sorted(part for part in folder.iterdir() if part.is_dir() and part.name not in locating.NEVER)
    return {pickled: safe for part in parts for pickled, safe in locating.convertible(part).items()}


def _write_index(index: Path, path: Path) -> None:
    """Write to *path* the *index* of shards, with their names as safetensors."""
    shards = {pickled.name: safe.name for pickled, safe in locating.convertible(index.parent).items()}
    listed = kinds.read_json(index)
    named = {name: shards[str(shard)] for name, shard in listed["weight_map"].items()}
    _whole(path, lambda file: file.write_text(json.dumps({**listed, "weight_map": named}, indent=2)))


def _tensors(file: Path) -> dict[str, Any]:
    import torch

    try:
        with file.open("rb"):  # says why in words where it cannot be read
            pass
    except OSError as error:
        raise FileError(f"{weights.shown(file)}: {error.strerror}", "check the rights of the file") from None
    state = networks.state(file, weights.shown(file))
    # files of a training hold the weights beside its own state
    inner = state.get("state_dict", state)
    named = inner.items() if isinstance(inner, Mapping) else ()
    tensors = {str(name): value for name, value in named if isinstance(value, torch.Tensor)}
    if not tensors:
        raise DataError(f"{weights.shown(file)} holds no weights by name", "imgedit models list shows models")
    # a safetensors file has no two names for one memory
    return {name: value.detach().clone().contiguous() for name, value in tensors.items()}


def _write(tensors: Mapping[str, Any], path: Path) -> None:
    from safetensors.torch import save_file

    try:
        _whole(path, lambda file: save_file(dict(tensors), file, metadata={"format": "pt"}))
    except ValueError as error:  # what such a file cannot hold: sparse tensors
        raise DataError(
            f"{path.name} cannot hold these weights: {error!s:.160}", "imgedit models list shows models"
        ) from None


def _whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have *path* written whole or not at all."""
    from safetensors import SafetensorError

    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".converting-") as folder:
            made = Path(folder) / path.name
            write(made)
            with made.open("rb") as file:
                os.fsync(file.fileno())
            made.replace(path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"{path}: {reason}", "make room, and check the rights of the folder") from None
