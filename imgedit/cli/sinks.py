"""Where frames go: standard output as a stream, a file, a folder, JSON lines, or a report for people."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from imgedit import codec
from imgedit.cli import report
from imgedit.cli.sources import Source
from imgedit.engine import described
from imgedit.errors import FileError, UsageError
from imgedit.frame import Frame, ImageInfo, Sidecar


class Sink(Protocol):
    """Takes each frame as soon as it is done."""

    def put(self, frame: Frame, source: Source) -> None: ...


class Stream:
    """Frames back to back on standard output."""

    def put(self, frame: Frame, source: Source) -> None:
        codec.write_stream(sys.stdout.buffer, frame)
        sys.stdout.buffer.flush()


class Lines:
    """Sidecars as JSON lines on standard output."""

    def put(self, frame: Frame, source: Source) -> None:
        sys.stdout.write(frame.sidecar.to_json() + "\n")
        sys.stdout.flush()


class Report:
    """What was found and done, in words, on standard output."""

    def __init__(self, *, metrics_only: bool = False) -> None:
        self.metrics_only = metrics_only

    def put(self, frame: Frame, source: Source) -> None:
        text = report.metrics(frame.sidecar) if self.metrics_only else report.whole(frame.sidecar, source.name)
        sys.stdout.write(text)
        sys.stdout.flush()


class File:
    """One file with its side files; a second frame is refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.taken = False

    def put(self, frame: Frame, source: Source) -> None:
        if self.taken:
            raise UsageError(f"a second picture would overwrite {str(self.path)!r}", "give a folder: -o FOLDER/")
        self.taken = True
        codec.write_file(frame, self.path)


class Folder:
    """One file for each frame: named after its source, or numbered where they come through a pipe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def put(self, frame: Frame, source: Source) -> None:
        self.count += 1
        # never a name out of a sidecar: metadata is no path to write to
        name = f"{self.count:06}.png" if source.path is None else source.path.stem + ".png"
        codec.write_file(frame, self.folder / name)


class Difference:
    """The difference picture of a comparison, as a file or on standard output."""

    def __init__(self, inner: Sink) -> None:
        self.inner = inner
        self.report = Report(metrics_only=True)

    def put(self, frame: Frame, source: Source) -> None:
        grey = frame.planes["difference"][:, :, None].repeat(3, axis=2)
        name = source.path.name if source.path else None
        image = ImageInfo("", frame.rows, frame.columns, "uint8", "L", name)
        self.inner.put(described(Frame(grey, sidecar=Sidecar(image=image))), source)
        if not isinstance(self.inner, Stream):
            self.report.put(frame, source)


def plan(output: str | None, sources: Sequence[Source], *, json: bool) -> Sink:
    """Return the sink for -o *output*. Raises UsageError or FileError before any work is done."""
    if output is None or output == "-":
        if json:
            return Lines()
        if sys.stdout.isatty():
            if output == "-":
                raise UsageError("pictures do not go to a terminal", "give -o FILE, or pipe on: … | imgedit …")
            return Report()
        return Stream()
    if json:
        raise UsageError("--json writes to standard output", "leave out -o, or --json (files have their JSON anyway)")
    path = Path(output)
    if path.is_dir() or output.endswith("/") or (len(sources) > 1 and path.suffix.lower() != ".png"):
        _check_folder(path, sources)
        return Folder(path)
    if len(sources) > 1:
        raise UsageError(f"{len(sources)} pictures do not go into one file {output!r}", "give a folder: -o FOLDER/")
    if path.suffix.lower() != ".png":
        raise UsageError(f"pictures go out as PNG, not as {path.suffix or 'a name without .png'}", _png(path))
    codec.check_writable(path)
    return File(path)


def _png(path: Path) -> str:
    return f"-o {path.with_suffix('.png')}" if path.name else "-o out.png"


def _check_folder(folder: Path, sources: Sequence[Source]) -> None:
    if not folder.is_dir():
        raise FileError(f"there is no folder {str(folder)!r}", f"mkdir -p {folder}")
    taken: dict[str, Path] = {}
    for source in sources:
        if source.path is None:
            continue
        name = source.path.stem + ".png"
        if name in taken:
            raise UsageError(
                f"{str(taken[name])!r} and {str(source.path)!r} would both be written to {str(folder / name)!r}",
                "rename one of them, or do them one after the other into two folders",
            )
        taken[name] = source.path
        codec.check_writable(folder / name)
