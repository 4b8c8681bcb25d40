"""The recorded steps of a picture, done again on what it was made from, and held against what was recorded."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imgedit import codec, registry
from imgedit.engine import Call, Engine
from imgedit.errors import DataError, FileError, ImgeditError, Unavailable
from imgedit.frame import Frame, Sidecar, Step
from imgedit.param import FILES, Param
from imgedit.promises import outside_difference
from imgedit.references import file_digest

#: a step of another program
EXTERNAL = "external"
#: decibels: results of another machine, or of other versions, are the same from here on
TOLERANCE = 40.0
_GIVE = "give it, or its folder: --from FILE"
#: where a step's notes say what it ran on
_MACHINE = ("device", "dtype")
_BAND = 256


@dataclass(slots=True)
class Places:
    """Where pictures and files are looked for, by digest, and models, by name: *files*, then what lies in *folders*."""

    files: Sequence[Path]
    folders: Sequence[Path]
    limits: codec.Limits
    _found: dict[tuple[str, str], Path | None] = field(default_factory=dict)
    _used: set[Path] = field(default_factory=set)

    def pictures(self, digests: Collection[str], name: str = "") -> Iterator[tuple[Path, Frame]]:
        """Yield the pictures with one of these digests; one called *name* is looked at first."""
        for path in self._all(name):
            given = path in self.files
            if not given and codec.stated_digest(path) not in (None, *digests):
                continue
            try:
                frame = codec.read_file(path, self.limits)
            except ImgeditError as error:
                if given and (isinstance(error, FileError) or path.suffix.lower() in codec.PICTURES):
                    raise
                continue  # what lies beside may be anything, and what is given weights or a profile
            if frame.digest in digests:
                self._used.add(path)
                yield path, frame

    def find(self, kind: str, digest: str, name: str) -> Path | None:
        """Return the first file with these bytes, or of other kinds the first picture with this digest."""
        key = (kind, digest)
        if key not in self._found:
            if kind == "file":
                found = (path for path in self._all(name, every=True) if self._digest(path) == digest)
            else:
                found = (path for path, _ in self.pictures((digest,), name))
            self._found[key] = next(found, None)
        path = self._found[key]
        if path is not None:
            self._used.add(path)
        return path

    def model(self, name: str) -> Path | None:
        """Return the file or folder called *name* that holds a model: one that is given, or one in the folders."""
        for path in (*self.files, *self.folders, *(folder / name for folder in self.folders)):
            if name.strip(".") and path.absolute().name == name and path.exists():
                self._used.add(path)
                return path.absolute()
        return None

    def _digest(self, path: Path) -> str | None:
        """Return the digest of a file; what lies beside and cannot be read has none."""
        try:
            return file_digest(path)
        except FileError:
            if path in self.files:
                raise
            return None

    def refuse_unused(self) -> None:
        """Raise DataError for one of the files that is not what any step began with or was given."""
        for path in self.files:
            if path not in self._used:
                raise DataError(
                    f"{codec.show(path)} is not what any of the recorded steps began with or was given",
                    "give the very file: a copy that was saved anew has other pixels",
                )

    def _all(self, name: str, *, every: bool = False) -> list[Path]:
        found = list(self.files)
        for folder in self.folders:
            try:
                files = sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
            except OSError as error:
                raise codec.file_error(error, folder, "read") from None
            found += [path for path in files if every or path.suffix.lower() in codec.PICTURES]
        return sorted(dict.fromkeys(found), key=lambda path: path not in self.files and path.name != name)


@dataclass(slots=True)
class Outcome:
    """What came of doing the steps again.

    *frame*: the result; *first*: the number of the first recorded step that was done, from 1; *differs*: that of the
    first one with another result, None where there is none; *machine*: versions and devices that are not as they were
    when they were recorded; *models*: stages whose model is another one; *why*: why earlier steps were not done, and
    *hint*: what to type for what they lack.
    """

    frame: Frame
    first: int
    differs: int | None
    machine: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    why: str = ""
    hint: str = ""


def replay(steps: Sequence[Step], places: Places, name: str = "") -> Outcome:
    """Do *steps* again on what they began with, found in *places* by its digest, and hold each result against them.

    *name*: what that was called, for people: such a file is looked at first, as folders may hold thousands.
    The first picture's digest is what the first step says, or nothing is done. Where a step cannot be done again, an
    edit by another program or one with a file or a model that is not at hand, the steps after it are, from its kept
    result. Raises DataError that says what is missing, Unavailable where that is a model, a package or a device.
    """
    last, why, lacks = _undoable(steps, places)
    while True:
        if last + 1 == len(steps):
            hint = "replay a picture from before it" if steps[last].stage == EXTERNAL else _GIVE
            raise _refused(DataError(f"the last step cannot be done again: {why}", hint), lacks)
        try:
            begin, frame = _beginning(steps, places, last, why, name)
        except DataError as error:
            raise _refused(error, lacks) from None
        done: list[Step] = []
        try:
            outcome = _from(steps, places, begin, frame, done)
        except Unavailable as error:  # only a step that is begun says so: what is a model's name, its backend knows
            last, lacks = min(begin + len(done), len(steps) - 1), error
            why = f"step {last + 1} ({steps[last].stage}): {error.message}"
            continue
        outcome.why, outcome.hint = why, lacks.hint if lacks else ""
        return outcome


def _refused(error: DataError, lacks: Unavailable | None) -> ImgeditError:
    """Return *error*, or where something is not available here that, with what would help against it first."""
    if lacks is None:
        return error
    return Unavailable(error.message, "; or ".join(dict.fromkeys((lacks.hint, error.hint))))


def _from(steps: Sequence[Step], places: Places, begin: int, frame: Frame, done: list[Step]) -> Outcome:
    """Do the steps from number *begin* on, with *frame*; each one that is done goes to *done*."""
    calls = [call for number, call in _calls(steps, places) if number >= begin]
    places.refuse_unused()
    differs: list[int] = []

    def check(given: Frame) -> None:
        for step in given.sidecar.steps[begin + len(done) :]:
            number = begin + len(done)
            done.append(step)
            if number >= len(steps) or not _same(steps[number], step):
                differs.append(number + 1)

    start = frame.with_sidecar(steps=tuple(steps[:begin]))
    result = Engine(calls, places.limits, knows_input=True, after=check).run(start)
    pairs = list(zip(steps[begin:], done))
    models = [was.stage for was, now in pairs if was.model != now.model]
    return Outcome(result, begin + 1, differs[0] if differs else None, _machine(pairs), models)


def _undoable(steps: Sequence[Step], places: Places) -> tuple[int, str, Unavailable | None]:
    """Return the number of the last step that cannot be done again, -1 for none, why, and what of a model it lacks."""
    last, why, lacks = -1, "", None
    for number, step in enumerate(steps):
        try:
            _params(step, places)
        except (DataError, Unavailable) as error:
            last, why = number, f"step {number + 1} ({step.stage}): {error.message}"
            lacks = error if isinstance(error, Unavailable) else None
    return last, why, lacks


def _same(recorded: Step, done: Step) -> bool:
    return recorded.result == done.result and (recorded.mask is None or recorded.mask == done.mask)


def _beginning(steps: Sequence[Step], places: Places, last: int, why: str, name: str) -> tuple[int, Frame]:
    """Return the number of the first step that can be done, after *last*, and the frame that it begins with."""
    best: tuple[int, Frame] | None = None
    for path, frame in places.pictures({steps[0].source, *(step.result for step in steps[:-1])}, name):
        own = frame.sidecar.steps
        begin = len(own) if own == tuple(steps[: len(own)]) else None
        if begin == 0 and frame.digest != steps[0].source:
            # the result of another program, without any history
            begin = last + 1 if last >= 0 and steps[last].stage == EXTERNAL else None
            begin = begin if frame.digest == steps[last].result else None
        bare = begin is None and path in places.files and frame.digest == steps[0].source
        if bare:  # with another history: its pixels are what counts
            begin = 0
        if begin is None or not last < begin < len(steps) or (best is not None and best[0] <= begin):
            continue
        best = begin, frame.replace(sidecar=Sidecar(image=frame.sidecar.image)) if bare else frame
        if begin == last + 1:
            break
    if best is not None:
        return best
    if last >= 0:
        raise DataError(
            f"{why}; and its result is not at hand",
            "give the folder where the results of all steps were kept: --keep FOLDER, or the picture by --from",
        )
    raise DataError(
        f"the picture that the first step began with, {steps[0].source[:19]}…, is not at hand",
        "give it: --from ORIGINAL, a file or the folder that it is in",
    )


def _calls(steps: Sequence[Step], places: Places) -> list[tuple[int, Call]]:
    """Return (number of its first step, call) of all that can be done again; rounds of a loop are one call."""
    found = []
    for number, step in enumerate(steps):
        if number and step.stage == steps[number - 1].stage and _round(step) == _round(steps[number - 1]) + 1 > 1:
            continue
        if step.stage == EXTERNAL:
            continue
        try:
            params = _params(step, places)
        except (DataError, Unavailable):  # lies before what is done
            continue
        stage = registry.stage(step.stage)
        found.append((number, Call(stage, stage.check(params), step.id or step.stage)))
    return found


def _round(step: Step) -> int:
    number = step.notes.get("round", 0)
    return number if isinstance(number, int) else 0


def _params(step: Step, places: Places) -> dict[str, Any]:
    """Return the options of a recorded step with its files found in *places*.

    Raises DataError for a picture or a file that is not at hand, Unavailable for a model that is not.
    """
    if step.stage == EXTERNAL:
        raise DataError("an edit by another program", "start from its result: --from FILE")
    stage = registry.stage(step.stage)
    return {option: _value(stage.param(option), value, places) for option, value in step.params.items()}


def _value(param: Param, value: Any, places: Places) -> Any:
    """Return a recorded value as an option takes it. A record is data from anywhere: no path in it is followed."""
    if param.name == "backend" and isinstance(value, str):
        name, colon, file = value.partition(":")
        return f"{name}:{_model(param, file, places)}" if colon else value
    if param.kind == "model" and isinstance(value, str):
        return _model(param, value, places)
    if not param.names_file(value) and not (param.kind in FILES and isinstance(value, Mapping)):
        return value
    record = value if isinstance(value, Mapping) else {"file": value}
    digest, name = str(record.get("digest", "")), str(record.get("file", ""))
    path = places.find(param.kind, digest, name)
    if path is None:
        what = name or (f"a picture {digest[:19]}…" if digest else "a tone that was given by a program")
        raise DataError(_absent(param, what), _GIVE)
    return str(path.absolute())


def _model(param: Param, name: str, places: Places) -> str:
    """Return where a recorded model lies; an id, ``owner/name[@revision]``, as it is."""
    found = places.model(Path(name).name)
    if found is None and (name.partition("@")[0].count("/") != 1 or name.startswith(("/", ".", "~"))):
        raise Unavailable(_absent(param, name), _GIVE)
    return str(found or name)


def _absent(param: Param, what: str) -> str:
    return f"--{param.option} {what} is not at hand"


def _machine(pairs: Sequence[tuple[Step, Step]]) -> list[str]:
    """Return what of versions and devices is not as it was in (recorded, done) steps."""
    found = []
    for was, now in pairs:
        for name in sorted(was.versions.keys() & now.versions.keys()):
            found.append((name, was.versions[name], now.versions[name]))
        for name in _MACHINE:
            found.append((f"{name} of {was.stage}", _noted(was, name), _noted(now, name)))
    return list(dict.fromkeys(f"{name} {was} → {now}" for name, was, now in found if was != now))


def _noted(step: Step, name: str) -> Any:
    listed = step.notes.get("listed")
    first = listed[0] if isinstance(listed, tuple) and listed else None
    return first.get(name) if isinstance(first, Mapping) else None


def difference(one: Frame, other: Frame) -> dict[str, Any]:
    """Return how two frames of one size differ: how many ``pixels``, by how much at ``most``, ``psnr`` in dB.

    *psnr*: over the mask of *other* where there is one, else over all, of full scale; None where nothing differs.
    """
    changed, most = outside_difference(one.replace(mask=None), other.replace(mask=None))
    total, count = 0, 0
    for top in range(0, one.rows, _BAND):
        band = slice(top, top + _BAND)
        inside = np.ones(one.pixels[band].shape[:2], bool) if other.mask is None else other.mask[band] > 0
        gap = one.pixels[band][inside].astype(np.int64) - other.pixels[band][inside]
        total, count = total + int((gap * gap).sum()), count + gap.size
    psnr = 10 * math.log10(one.full_scale**2 * count / total) if total else None
    return {"pixels": changed, "most": most, "psnr": psnr and round(psnr, 2)}
