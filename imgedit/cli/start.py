"""From options to a batch: what all commands that handle pictures do before the loop."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from imgedit import codec
from imgedit.cli import sinks, talk
from imgedit.cli.batch import Batch
from imgedit.cli.command import given_params
from imgedit.cli.sources import Source, expand, pictures
from imgedit.engine import Call
from imgedit.errors import FileError, UsageError
from imgedit.stage import Stage


def start(stage: Stage, options: Mapping[str, Any]) -> int:
    """Run one stage as a command and return the exit code."""
    talk.listen(quiet=options["quiet"], verbose=options["verbose"])
    configure(options)
    given = given_params(stage, options)
    inputs = list(options["inputs"])
    if stage.name == "compare" and "reference" not in given and len(inputs) == 2:
        return _compare_pairs(stage, options, given, inputs)
    call = Call(stage, stage.check(given), stage.name)
    return run_calls([call], expand(inputs, options["files0_from"], keep_going=options["keep_going"]), options)


def configure(options: Mapping[str, Any]) -> None:
    """Do what --offline and --cache-dir say, where a command has them."""
    if "offline" in options:
        from imgedit import models

        models.configure(offline=options["offline"], cache_dir=options["cache_dir"])


def run_calls(
    calls: Sequence[Call],
    sources: Sequence[Source],
    options: Mapping[str, Any],
    folder: Path = Path(),
    *,
    knows_input: bool = False,
) -> int:
    """Run checked calls on sources as the shared options say, and return the exit code."""
    job = batch(calls, sources, sinks.plan(options["output"], sources, json=options["json"]), options)
    job.folder = folder
    job.knows_input = knows_input
    return job.run()


def limits(options: Mapping[str, Any]) -> codec.Limits:
    """Return the input limits: the defaults, or what --max-pixels and --max-chunk-bytes say."""
    found = codec.Limits()
    if options["max_pixels"] is not None:
        found = replace(found, pixels=options["max_pixels"])
    if options["max_chunk_bytes"] is not None:
        found = replace(found, chunk_bytes=options["max_chunk_bytes"], sidecar_bytes=options["max_chunk_bytes"])
    return found


def batch(calls: Sequence[Call], sources: Sequence[Source], sink: sinks.Sink, options: Mapping[str, Any]) -> Batch:
    """Return the batch that the shared options ask for. Raises FileError where it has nowhere to print to."""
    if sys.stdout is None and not isinstance(sink, sinks.File | sinks.Folder):
        raise FileError("standard output is closed", "give -o FILE, or send standard output somewhere")
    return Batch(
        calls,
        sources,
        sink,
        limits(options),
        keep_going=options["keep_going"],
        strict=options.get("strict", False),
        quiet=options["quiet"],
        keep=sinks.keeper(options["keep"], sources) if options.get("keep") is not None else None,
        deliver_verdicts=not isinstance(sink, sinks.Stream | sinks.File | sinks.Folder),
    )


def _compare_pairs(stage: Stage, options: Mapping[str, Any], given: dict[str, Any], inputs: Sequence[str]) -> int:
    """Compare PICTURE with REFERENCE, or two folders name by name; -o takes the difference picture."""
    if options["files0_from"] is not None:
        raise UsageError("--files0-from and INPUT are both given", "give one of them")
    sources = _pairs(*inputs, keep_going=options["keep_going"])
    output = options["output"]
    sink: sinks.Sink = sinks.Lines() if options["json"] else sinks.Metrics(named=len(sources) > 1)
    job = batch([], sources, sink, options)
    job.measure = options["json"]
    if output is not None:
        given["difference"] = True
        images = sinks.plan(output, sources, json=False)
        if any(_same_place(output, path) for source in sources for path in (source.path, source.params["reference"])):
            raise UsageError("the difference picture would replace what is compared", "give another OUTPUT")
        if options["json"] and isinstance(images, sinks.Stream):
            raise UsageError("--json and the difference picture would both go to standard output", "give -o FILE")
        job.sink = sinks.Difference(images, None if isinstance(images, sinks.Stream) else sink)
    job.calls = [Call(stage, stage.check({**given, "reference": "-"}), stage.name)]
    return job.run()


def _pairs(one: str, other: str, *, keep_going: bool) -> list[Source]:
    first, second = Path(one), Path(other)
    for given in (first, second):
        if str(given) != "-" and not given.exists():
            raise FileError(f"{codec.show(given)} does not exist", "check the name: `ls` shows what is there")
    if first.is_dir() != second.is_dir():
        raise UsageError("one is a folder and the other is not", "compare two files, or two folders")
    if not first.is_dir():
        if other == "-":
            raise UsageError("the reference cannot come from standard input", "imgedit compare - REFERENCE")
        return [Source(None if one == "-" else first, {"reference": _path(second)})]
    lists = [_by_stem(folder) for folder in (first, second)]
    alone = sorted(lists[0].keys() ^ lists[1].keys())
    if alone and not keep_going:
        shown = ", ".join(map(repr, alone[:10])) + (" …" if len(alone) > 10 else "")
        raise FileError(f"{len(alone)} pictures are in one folder only: {shown}", "compare the others: --keep-going")
    sources = []
    for stem in sorted(lists[0].keys() | lists[1].keys()):
        path, reference = (found.get(stem) for found in lists)
        fault = None if path and reference else FileError(f"{stem!r} is in one folder only", "put it into both")
        sources.append(Source(path or reference, {"reference": _path(reference or second)}, fault))
    return sources


def _by_stem(folder: Path) -> dict[str, Path]:
    """Return name without ending → picture; a name that stands twice is a UsageError."""
    found: dict[str, Path] = {}
    for path in pictures(folder):
        if path.stem in found:
            raise UsageError(
                f"{codec.show(found[path.stem])!r} and {codec.show(path)!r} differ in their endings only",
                "rename one of them: pictures of two folders are paired by name",
            )
        found[path.stem] = path
    return found


def _same_place(output: str, path: Path | str | None) -> bool:
    """Tell whether the difference picture of *path* would be written over it."""
    if path is None or output == "-":
        return False
    target = Path(output) / f"{Path(path).stem}.png" if Path(output).is_dir() else Path(output)
    return target.exists() and Path(path).exists() and target.samefile(path)


def _path(path: Path) -> str:
    """Return a path that cannot be mistaken for the @name of a step."""
    return f"./{path}" if str(path).startswith("@") else str(path)
