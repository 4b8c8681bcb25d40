"""From options to a batch: what all commands that handle pictures do before the loop."""

from __future__ import annotations

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
    given = given_params(stage, options)
    inputs = list(options["inputs"])
    if stage.name == "compare" and "reference" not in given and len(inputs) == 2:
        return _compare_pairs(stage, options, given, inputs)
    call = Call(stage, stage.check(given), stage.name)
    return run_calls([call], expand(inputs, options["files0_from"]), options)


def run_calls(
    calls: Sequence[Call], sources: Sequence[Source], options: Mapping[str, Any], folder: Path = Path()
) -> int:
    """Run checked calls on sources as the shared options say, and return the exit code."""
    sink = sinks.plan(options["output"], sources, json=options["json"])
    return _batch(calls, sources, sink, options, folder).run()


def limits(options: Mapping[str, Any]) -> codec.Limits:
    """Return the input limits: the defaults, or what --max-pixels and --max-chunk-bytes say."""
    found = codec.Limits()
    if options["max_pixels"] is not None:
        found = replace(found, pixels=options["max_pixels"])
    if options["max_chunk_bytes"] is not None:
        found = replace(found, chunk_bytes=options["max_chunk_bytes"], sidecar_bytes=options["max_chunk_bytes"])
    return found


def _batch(
    calls: Sequence[Call], sources: Sequence[Source], sink: sinks.Sink, options: Mapping[str, Any], folder: Path
) -> Batch:
    return Batch(
        calls,
        sources,
        sink,
        limits(options),
        folder=folder,
        keep_going=options["keep_going"],
        strict=options["strict"],
        quiet=options["quiet"],
        deliver_verdicts=not isinstance(sink, sinks.Stream | sinks.File | sinks.Folder),
    )


def _compare_pairs(stage: Stage, options: Mapping[str, Any], given: dict[str, Any], inputs: Sequence[str]) -> int:
    """Compare PICTURE with REFERENCE, or two folders name by name; -o takes the difference picture."""
    sources = _pairs(*inputs)
    output = options["output"]
    sink: sinks.Sink
    if output is not None:
        given["difference"] = True
        sink = sinks.Difference(sinks.plan(output, sources, json=options["json"]))
    else:
        sink = sinks.Lines() if options["json"] else sinks.Report(metrics_only=True)
    call = Call(stage, stage.check({**given, "reference": "-"}), stage.name)
    batch = _batch([call], sources, sink, options, Path())
    batch.measure = isinstance(sink, sinks.Lines)
    return batch.run()


def _pairs(one: str, other: str) -> list[Source]:
    first, second = Path(one), Path(other)
    if first.is_dir() != second.is_dir():
        raise UsageError("one is a folder and the other is not", "compare two files, or two folders")
    if not first.is_dir():
        if other == "-":
            raise UsageError("the reference cannot come from standard input", "imgedit compare - REFERENCE")
        return [Source(None if one == "-" else first, {"reference": other})]
    references = {path.stem: path for path in pictures(second)}
    sources = []
    for path in pictures(first):
        partner = references.pop(path.stem, None)
        if partner is None:
            raise FileError(f"{str(second)!r} has no picture called {path.stem!r}", f"it would be compared with {path}")
        sources.append(Source(path, {"reference": str(partner)}))
    if references:
        lone = next(iter(references.values()))
        raise FileError(f"{str(first)!r} has no picture called {lone.stem!r}", f"it would be compared with {lone}")
    return sources
