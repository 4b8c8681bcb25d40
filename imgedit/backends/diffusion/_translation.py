"""Prompts read by one model's text encoders for another model: the file that `imgedit calibrate-prompts` writes.

For prompts that were tuned on a model A and are now given to a model B. The prompts are embedded by A's encoders, which
are known by their digests and looked for by the name that the file says, and the map takes the result into B's space: B
gets what A understood. The pooled embedding that XL models take besides is still B's own: it is of another layer, and
no map of token embeddings gives it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from imgedit import models
from imgedit.backends.diffusion._profile import TextEncoder
from imgedit.errors import DataError, FileError, ImgeditError, Unavailable
from imgedit.models import hub
from imgedit.ops.translate import Map, Report
from imgedit.strict_json import build, no_constant, plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgedit.jobs import Sampling

SCHEMA = "imgedit-map/1"
_KEY = "imgedit"
HINT = "make one: imgedit calibrate-prompts --from A --to B PROMPTS.txt -o map.safetensors"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two models: its Hub id or the name of its folder or file, its revision, its text encoders in order."""

    model: str
    encoders: tuple[TextEncoder, ...]
    revision: str | None = None

    @classmethod
    def of(cls, facts: Mapping[str, Any], model: str) -> Side:
        """Return the side of a model with these *facts*, called *model*; what folders lead to it is not kept."""
        # not resolve(): that would follow links
        name = model if facts["revision"] else Path(os.path.abspath(model)).name  # noqa: PTH100
        return cls(name, tuple(TextEncoder(**each) for each in facts["encoders"]), facts["revision"])

    @property
    def width(self) -> int:
        """Numbers for each token, of all encoders together."""
        return sum(encoder.width for encoder in self.encoders)

    def refuse_others(self, facts: Mapping[str, Any], what: str) -> None:
        """Raise DataError where the model with *facts* has other text encoders."""
        now = Side.of(facts, facts["model"])
        if now.encoders != self.encoders:
            raise DataError(
                f"the map is made {what} the text encoders of {self.model!r:.80} ({_shown(self)}), and those of "
                f"{now.model!r:.80} are others ({_shown(now)})",
                HINT,
            )


@dataclass(frozen=True, slots=True, eq=False)
class Translation:
    """A map with the models that it leads from and to, and how well it does."""

    map: Map
    source: Side
    target: Side
    report: Report

    def apply(self, embeddings: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Return the embeddings for each encoder of the target from those of each encoder of the source.

        All (prompts, tokens, width). Raises DataError for other shapes.
        """
        joined = self.map.apply(np.concatenate(embeddings, axis=2))
        ends = np.cumsum([encoder.width for encoder in self.target.encoders])
        return np.split(joined, ends[:-1], axis=2)

    def to_bytes(self) -> bytes:
        """Return the translation as a safetensors file."""
        from safetensors.numpy import save

        tensors = {name: np.ascontiguousarray(value) for name, value in self.map._asdict().items()}
        about = {"schema": SCHEMA, "source": plain(self.source), "target": plain(self.target)}
        # one key: safetensors writes several in an order of chance
        return save(tensors, {_KEY: json.dumps({**about, "report": plain(self.report)}, ensure_ascii=False)})


def read(path: str | Path) -> Translation:
    """Return the translation in the file *path*. Raises FileError, or DataError for what is not exactly one."""
    from safetensors import SafetensorError, safe_open

    try:
        with Path(path).open("rb"):  # says why in words where it cannot be read
            pass
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY, "{}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except SafetensorError as error:
        raise DataError(f"{str(path)!r} is damaged, or no safetensors file: {error}", HINT) from None
    except (OSError, ValueError) as error:
        raise FileError(
            f"the map {str(path)!r} could not be read: {getattr(error, 'strerror', None) or error}", HINT
        ) from None
    try:
        return _built(tensors, json.loads(text, parse_constant=no_constant))
    except (KeyError, TypeError, ValueError, RecursionError, DataError) as error:
        raise DataError(f"{str(path)!r} is no map of prompts: {error}", HINT) from None


def _built(tensors: Mapping[str, NDArray[Any]], about: Any) -> Translation:
    if not isinstance(about, dict) or about.get("schema") != SCHEMA:
        raise ValueError(f"its schema is not {SCHEMA!r}")
    first, second = (cast(Side, build(Side, about[name], name)) for name in ("source", "target"))
    report = cast(Report, build(Report, about["report"], "report"))
    tokens = {encoder.tokens for side in (first, second) for encoder in side.encoders}
    if len(tokens) != 1:
        raise ValueError("its encoders differ in the number of tokens")
    source, target, count = first.width, second.width, tokens.pop()
    wanted = {"weights": (source, target), "source_mean": (count, source), "target_mean": (count, target)}
    for name, shape in wanted.items():
        if tensors[name].shape != shape or tensors[name].dtype != np.float32:
            raise ValueError(f"{name} is {tensors[name].dtype} {tensors[name].shape}, not float32 {shape}")
        if not np.isfinite(tensors[name]).all():
            raise ValueError(f"{name} holds what is no number")
    return Translation(Map(*(tensors[name] for name in wanted)), first, second, report)


def embed(backend: Any, sampling: Sampling, prompts: Sequence[str]) -> list[NDArray[np.float32]]:
    """Return *prompts* embedded for each text encoder of the sampling's model by way of its consistency file.

    *backend*: what has ``facts`` and ``embed``. Raises DataError where the map leads to other encoders than those of
    this model, or the model that it leads from has others by now; Unavailable where that is not here: a folder or file
    is looked for beside the map, beside this model, and here, and nothing is fetched because a map names it; else what
    is raised where it cannot be loaded.
    """
    assert sampling.consistency is not None
    translation = read(sampling.consistency)
    translation.target.refuse_others(backend.facts(sampling), "for")
    found = _placed(translation.source.model, (Path(sampling.consistency).parent, Path(sampling.model).parent, Path()))
    source = dataclasses.replace(sampling, model=found, consistency=None)
    try:
        if hub.looks_like_id(source.model):  # a map may come from anyone, and name any model
            models.locate(source.model, tasks=(), fetch=False)
        facts = backend.facts(source)
    except ImgeditError as error:
        if not hub.looks_like_id(found) and not Path(found).exists():
            raise Unavailable(
                f"the map needs the model that it leads from, {found!r:.80}, which is not here",
                f"put {found:.80} beside the map, or a link to it",
            ) from error
        raise type(error)(f"the map needs the model that it leads from: {error.message}", error.hint) from error
    translation.source.refuse_others(facts, "from")
    return translation.apply(backend.embed(source, prompts))


def _placed(name: str, folders: Sequence[Path]) -> str:
    """Return where the model lies that a map calls *name*: an id as it is. No folder that a map names is looked in."""
    if hub.looks_like_id(name):
        return name
    name = Path(name).name
    if name in ("", ".."):
        return name
    return next((str(folder / name) for folder in folders if (folder / name).exists()), name)


def _shown(side: Side) -> str:
    return ", ".join(f"{e.digest.removeprefix('sha256:'):.12}, {e.tokens} × {e.width}" for e in side.encoders)
